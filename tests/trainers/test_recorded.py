"""Losses of a short run of each trainer, recorded: a change of any of them is a change of what users get."""

import pytest

from trainers.loop import train
from trainers.spec import TRAINERS

RECORDED = {
    "dreambooth": [0.514612, 0.296657, 0.399211, 0.352249],
    "dreambooth_lora": [0.514612, 0.360634, 0.422549, 0.334655],
    "textual_inversion": [0.40373, 0.25016, 0.422634, 0.308078],
    "ti_dreambooth": [0.712067, 0.913673, 0.514584, 0.295421, 0.39373, 0.356297],
}


@pytest.mark.parametrize("name", RECORDED)
def test_recorded(name, make_spec, class_folder, tmp_path):
    assert set(RECORDED) == set(TRAINERS)
    prior = name != "textual_inversion"
    trainer = {"name": name, "inversion_steps": 2, "min_snr_gamma": 5.0, "random_flip": True}
    spec = make_spec("v_prediction", prior=prior, trainer=trainer, lr=1e-2)
    losses = []
    list(train(spec, [4], tmp_path, class_images=class_folder, progress=lambda step, loss: losses.append(loss)))
    assert losses == pytest.approx(RECORDED[name], rel=1e-3)
