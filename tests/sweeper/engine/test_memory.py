"""What cannot fit the device is refused before anything expensive, through the whole command."""

import pytest

from tests.sweeper.tiny_sweep import read, sweep


@pytest.mark.options
def test_refused_with_what_would_fit(models, tmp_path):
    size = 2**22
    code, output = sweep(*models, f"output_dir={tmp_path}", "name=large", f"batch_size={size}", "hydra/launcher=inline")
    assert code == 1
    cells = read(tmp_path / "large")["cells"]
    assert {cell["state"] for cell in cells} == {"FAIL"}
    for cell in cells:
        assert "this training needs" in cell["reason"]
        assert "it fits with gradient_checkpointing=true" in cell["reason"]
        assert f"batch_size=1 gradient_accumulation_steps={size}" in cell["reason"]
    assert not list((tmp_path / "store").rglob("*.safetensors"))
    assert "this training needs" in output
