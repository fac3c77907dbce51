"""Losses of a short run of each trainer, recorded: a change of any of them is a change of what users get."""

import pytest

from trainers.loop import train

RECORDED = {}


@pytest.mark.parametrize("name", ["dreambooth", "dreambooth_lora", "textual_inversion", "ti_dreambooth"])
def test_recorded(name, make_spec, class_folder, tmp_path):
    prior = name != "textual_inversion"
    trainer = {"name": name, "inversion_steps": 2, "min_snr_gamma": 5.0, "random_flip": True}
    spec = make_spec("v_prediction", prior=prior, trainer=trainer, lr=1e-2)
    losses = []
    list(train(spec, [4], tmp_path, class_images=class_folder, progress=lambda step, loss: losses.append(loss)))
    print("REC", name, losses)
    assert losses == pytest.approx(RECORDED.get(name), rel=1e-3)
