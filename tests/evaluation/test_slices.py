"""More images of a checkpoint: sampled beside what is there, joined to one scorecard."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.evaluate import evaluate, prepare
from evaluation.files import has_samples, image_path
from evaluation.metrics import METRICS
from evaluation.sample import read_images
from evaluation.scorecard import Baselines, Scorecard
from evaluation.slices import join_baselines, join_scorecards, join_values
from evaluation.spec import EvalSpec
from evaluation.sweetspot import Candidate, find
from trainers.spec import canonical, signature

PER_IMAGE = [name for name in METRICS if name not in ("div", "validation_loss")]


@pytest.fixture(scope="module")
def sampled(components, subject, sampling, evaluation, tmp_path_factory):
    """(evaluation, folder, scorecard, baselines) of a first slice, a second one, and of all images at once."""
    root = tmp_path_factory.mktemp("slices")
    second = evaluation.next_slice(2, class_images=2)
    both = replace(evaluation, images_per_prompt=4, class_images=4)
    found = {}
    for name, spec in (("first", evaluation), ("second", second), ("both", both)):
        reference, baselines = prepare(components, subject, sampling, spec, root / name / "untuned", batch_size=2)
        card = evaluate(components, subject, sampling, spec, reference, root / name, batch_size=2)
        found[name] = spec, root / name, card, baselines
    return found


def test_a_slice_has_the_noise_that_follows(sampled):
    (_, first, *_), (_, second, *_), (_, both, *_) = sampled.values()
    pixels = read_images(both, 2, 4)
    assert (read_images(first, 2, 2) == pixels[:, :2]).all()
    assert (read_images(second, 2, 2) == pixels[:, 2:]).all()
    assert (read_images(second / "class", 1, 2) == read_images(both / "class", 1, 4)[:, 2:]).all()


def test_a_slice_does_not_touch_the_one_before(components, subject, sampling, evaluation, sampled, tmp_path):
    _, folder, *_ = sampled["first"]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert before
    spec, second, *_ = sampled["second"]
    assert second != folder
    assert spec.first_image == 2
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


def test_joined_slices_are_one_evaluation_image_for_image(sampled):
    joined = join_scorecards([(spec, card) for spec, _, card, _ in (sampled["second"], sampled["first"])])
    whole = sampled["both"][2]
    for name in PER_IMAGE:
        np.testing.assert_allclose(joined.values[name], whole.values[name], rtol=0, atol=1e-6)
        assert joined.metrics[name] == pytest.approx(whole.metrics[name], abs=1e-6)
        assert joined.images[name] == whole.images[name]
    assert joined.values["validation_loss"] == whole.values["validation_loss"]
    assert np.shape(joined.values["div"]) == (2, 4)
    assert joined.versions == whole.versions


def test_joined_baselines_are_those_of_one_evaluation(sampled):
    joined = join_baselines([(spec, baselines) for spec, _, _, baselines in (sampled["first"], sampled["second"])])
    whole = sampled["both"][3]
    for name in PER_IMAGE:
        np.testing.assert_allclose(joined.untuned[name], whole.untuned[name], rtol=0, atol=1e-6)
    assert joined.photographs == whole.photographs


def test_the_sweet_spot_is_found_of_joined_slices(sampled):
    parts = [sampled["first"], sampled["second"]]
    card = join_scorecards([(spec, card) for spec, _, card, _ in parts])
    base = join_baselines([(spec, baselines) for spec, _, _, baselines in parts])
    spot = find([Candidate("a", "curve", "training", 4, 1e-6)], [card], [base])
    assert spot.verdict in ("refused", "none", "single")


def test_other_prompts_are_joined_too():
    one = EvalSpec(("a {}", "b {}"), images_per_prompt=1, class_images=1)
    other = replace(one, prompts=("c {}",), first_prompt=2, class_images=0)
    values = [{"dino": [[0.1], [0.2]], "pres": [[0.5]]}, {"dino": [[0.3]], "pres": [[]]}]
    joined = join_values([(other, values[1]), (one, values[0])])
    assert joined == {"dino": [[0.1], [0.2], [0.3]], "pres": [[0.5]]}
    base = [Baselines(v, {"dino": [0.9], "clip_t": v["dino"]}, {}) for v in values]
    assert join_baselines([(other, base[1]), (one, base[0])]).photographs["clip_t"] == [[0.1], [0.2], [0.3]]


def test_slices_that_overlap_are_refused():
    spec = EvalSpec(("a {}",), images_per_prompt=2)
    values = {"dino": [[0.1, 0.2]]}
    with pytest.raises(ValueError, match="overlap: image 1"):
        join_values([(spec, values), (replace(spec, first_image=1), values)])


def test_where_no_slice_has_an_image_there_is_none():
    spec = EvalSpec(("a {}",), images_per_prompt=2)
    other = EvalSpec(("b {}",), images_per_prompt=1, first_prompt=1)
    later = replace(other, first_image=5)
    slices = [(other, {"dino": [[0.3]]}), (spec, {"dino": [[0.1, 0.2]]})]
    assert join_values(slices) == {"dino": [[0.1, 0.2], [0.3, None]]}
    assert join_values(slices[1:], [later]) == {"dino": [[0.1, 0.2, None], [None, None, None]]}


def test_the_photographs_are_counted_once_for_each_prompt():
    half = EvalSpec(("a {}",), images_per_prompt=1)
    both = EvalSpec(("a {}", "b {}"), images_per_prompt=1, first_image=1)
    base = [Baselines({}, {"clip_t": rows}, {}) for rows in ([[0.1, 0.2]], [[0.1, 0.2], [0.3, 0.4]])]
    joined = join_baselines([(half, base[0]), (both, base[1])])
    assert joined.photographs["clip_t"] == [[0.1, 0.2], [0.3, 0.4]]


def test_the_first_slice_keeps_its_name():
    spec = EvalSpec(("a {}",))
    assert not {"first_prompt", "first_image", "first_class_image"} & set(canonical(spec))
    assert canonical(spec.next_slice(2))["first_image"] == 2
    assert signature(spec.next_slice(2)) != signature(spec)


def test_an_evaluation_may_have_no_class_images(components, subject, sampling, evaluation, tmp_path):
    fresh = evaluation.next_slice(1)
    reference, baselines = prepare(components, subject, sampling, fresh, tmp_path / "untuned")
    card = evaluate(components, subject, sampling, fresh, reference, tmp_path)
    assert not (tmp_path / "class").exists()
    assert has_samples(tmp_path, fresh)
    assert image_path(tmp_path, 0, 0).exists()
    assert card.values["pres"] == [[]]
    assert card.metrics["pres"] is None
    assert Scorecard.read(tmp_path / "scores.json").stale() == ()
    assert find([Candidate("a", "curve", "training", 4, 1e-6)], [card], [baselines]).verdict in (
        "refused",
        "none",
        "single",
    )
