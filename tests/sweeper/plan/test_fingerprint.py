"""What a model is, by the content of its folder."""

import pytest

from sweeper.plan.fingerprint import folder_hash


@pytest.fixture
def hashed(tmp_path):
    def of(**files):
        for name, content in files.items():
            (tmp_path / name.replace("_", ".")).write_bytes(content)
        folder_hash.cache_clear()
        return folder_hash(tmp_path)

    return of


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_other_weights_are_another_model(hashed, kind):
    """Some encoders that measure are there as pickled tensors alone."""
    first = hashed(config_json=b"{}", **{f"model_{kind}": b"1"})
    assert hashed(**{f"model_{kind}": b"2"}) != first
    assert hashed(**{f"model_{kind}": b"1"}) == first


def test_pickled_weights_that_are_not_loaded_count_for_nothing(hashed):
    first = hashed(config_json=b"{}", model_safetensors=b"1")
    assert hashed(model_bin=b"2") == first
