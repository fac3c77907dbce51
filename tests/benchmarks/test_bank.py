"""The bank of images: two tiny cells end to end, killed and resumed."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import bank
from benchmarks.bank import SAMPLING, Size, Sweep, make, read_arrays
from miniature.captions import PLACES

TINY = Size(lrs=(2e-6,), steps=(1, 2), images=2, prompts=2, sample=replace(SAMPLING, inference_steps=2))
SWEEP = Sweep("cat_toy", 1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return make(SWEEP, 2e-6, TINY, folder / "work", folder / "bank")


def test_a_killed_bank_goes_on_with_equal_results(whole, tmp_path, monkeypatch):
    measured, calls = bank.measured, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 3:  # the untuned model and the first cell are done, the second is sampled
            raise KeyboardInterrupt
        return measured(*arguments)

    monkeypatch.setattr(bank, "measured", killed)
    with pytest.raises(KeyboardInterrupt):
        make(SWEEP, 2e-6, TINY, tmp_path / "work", tmp_path / "bank")
    assert read_arrays(tmp_path / "bank" / whole.name)["steps"].tolist() == [1]
    again = make(SWEEP, 2e-6, TINY, tmp_path / "work", tmp_path / "bank")
    assert len(calls) == 5  # of the cells the second only
    assert again.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "work" / SWEEP.name / "2e-06").exists()


def test_a_cell_is_added_to_those_that_the_file_has(whole):
    known = {name: value for name, value in read_arrays(whole).items() if name in ("lr", "steps", "dino", "place")}
    values = {name: known[name][1] for name in ("dino", "place")}
    cells = bank.with_cell(known, 1e-6, 2, values)
    assert list(zip(cells["lr"].tolist(), cells["steps"].tolist(), strict=True)) == [(1e-6, 2), (2e-6, 1), (2e-6, 2)]
    np.testing.assert_array_equal(cells["dino"], known["dino"][[1, 0, 1]])
    assert bank.has_cell(cells, 1e-6, 2)
    assert not bank.has_cell(cells, 1e-6, 1)
    assert not bank.has_cell({}, 1e-6, 1)


def test_what_is_done_is_not_made_again(whole, monkeypatch):
    monkeypatch.setattr(bank.Yardstick, "of", lambda *arguments: pytest.fail("made again"))
    assert make(SWEEP, 2e-6, TINY, whole.parent, whole.parent) == whole


def test_a_cell_has_every_image_of_both_models(whole):
    arrays = read_arrays(whole)
    assert arrays["lr"].tolist() == [2e-6, 2e-6]
    assert arrays["steps"].tolist() == [1, 2]
    for name, shape in {
        "dino": (2, 2, 5), "held_out": (2, 2, 5), "clip": (2, 2, 5), "text": (2, 2, 2), "alike": (2, 2, 2),
        "noise": (2, 2), "subject": (2, 2), "place": (2, 2), "class_dino": (4, 5), "class_subject": (4,),
    }.items():  # fmt: skip
        assert arrays[f"untuned_{name}"].shape == shape
        assert arrays[name].shape == (2, *shape)
    np.testing.assert_allclose(np.diagonal(arrays["photographs_dino"]), 1, atol=1e-5)
    assert not np.array_equal(arrays["dino"][0], arrays["dino"][1])


def test_the_judge_is_asked_for_the_place_and_style_of_each_prompt():
    asked = [bank.asked_for(prompt) for prompt in Size().evaluation.prompts]
    assert [place for place, _ in asked] == ["beach", "jungle", "snow", "city", "night", "space", "beach", "jungle"]
    assert [style for _, style in asked] == ["photo"] * 6 + ["painting"] * 2
    assert {place for place, _ in asked} <= set(PLACES)


def test_sweeps_have_names_and_trainings_of_their_own(tmp_path):
    assert len({sweep.name for sweep in bank.SWEEPS}) == len(bank.SWEEPS)
    signatures = {sweep.training(2e-6, tmp_path, SAMPLING).signature for sweep in bank.SWEEPS}
    assert len(signatures) == len(bank.SWEEPS)
    assert Size().images * len(Size().evaluation.prompts) == 64
