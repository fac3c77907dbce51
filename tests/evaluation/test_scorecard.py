"""Scorecards and baselines as values and as JSON, and what an older store lacks."""

import json
from dataclasses import replace

import numpy as np
import pytest

from evaluation.evaluate import complete, evaluate, prepare
from evaluation.metrics import METRICS, Metric
from evaluation.scorecard import NOT_YET, WEIGHTS_GONE, Baselines, Scorecard
from evaluation.sweetspot import find
from tests.evaluation import synthetic
from trainers.files import read_json, write_json

ADDED = {"provenance", "versions", "missing"}  # to scores.json since revision 6044e38


def brightness(samples, reference):
    return samples.prompts.pixels.mean((-3, -2, -1))


def drawn_weights(samples, reference):
    if samples.losses is None:
        raise ValueError("no weights")
    return samples.losses + 1


BRIGHTNESS = Metric(brightness, "pixels", True, "brightness", "How bright the images are.", "grey levels of 255")
OF_WEIGHTS = Metric(drawn_weights, "unet", False, "loss and one", "The loss plus one.", "mean square")


@pytest.fixture
def store(components, subject, sampling, evaluation, tmp_path):
    """(reference, folder of a scored checkpoint, folder of its baselines), as revision 6044e38 left them."""
    reference, baselines = prepare(components, subject, sampling, evaluation, tmp_path / "untuned")
    evaluate(components, subject, sampling, evaluation, reference, tmp_path / "tuned")
    for folder in ("untuned", "tuned"):
        old = {k: v for k, v in read_json(tmp_path / folder / "scores.json").items() if k not in ADDED}
        write_json(tmp_path / folder / "scores.json", old)
    values = read_json(tmp_path / "untuned/values.json")
    write_json(tmp_path / "untuned/values.json", {k: values[k] for k in ("untuned", "photographs")})
    return reference, tmp_path / "tuned", tmp_path / "untuned"


@pytest.fixture
def no_sampling(store, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("nothing is to be sampled")

    monkeypatch.setattr("evaluation.sample.sample_batch", refuse)


def test_a_scorecard_of_6044e38_is_read_as_it_is(store):
    card = Scorecard.read(store[1] / "scores.json")
    assert set(card.values) == set(METRICS)
    assert card.versions == dict.fromkeys(METRICS, 1)
    assert (card.stale(), card.missing, card.provenance) == ((), {}, ())
    assert Baselines.read(store[2] / "values.json").stale() == ()


def test_the_json_keeps_every_key_that_6044e38_wrote(components, subject, sampling, evaluation, tmp_path):
    reference, _ = prepare(components, subject, sampling, evaluation, tmp_path / "untuned")
    evaluate(components, subject, sampling, evaluation, reference, tmp_path)
    content = read_json(tmp_path / "scores.json")
    assert set(content) == {"made_for", "metrics", "values", "backbones", "images", "seconds"} | ADDED
    assert set(content["provenance"][0]) == {"versions", "device", "commit"}
    assert content["provenance"][0]["versions"]["torch"]
    assert set(read_json(tmp_path / "untuned/values.json")) == {"untuned", "photographs", "versions", "provenance"}


def test_what_is_complete_is_not_written_again(components, subject, sampling, evaluation, store):
    reference, tuned, untuned = store
    before = [(folder / name).read_bytes() for folder, name in ((tuned, "scores.json"), (untuned, "values.json"))]
    evaluate(components, subject, sampling, evaluation, reference, tuned)
    prepare(components, subject, sampling, evaluation, untuned)
    assert [(tuned / "scores.json").read_bytes(), before[1]] == before


@pytest.mark.usefixtures("no_sampling")
def test_a_metric_that_was_added_is_measured_on_the_stored_samples(
    components, subject, sampling, evaluation, store, monkeypatch
):
    reference, tuned, untuned = store
    old, old_baselines = Scorecard.read(tuned / "scores.json"), Baselines.read(untuned / "values.json")
    monkeypatch.setitem(METRICS, "brightness", BRIGHTNESS)
    card = complete(components.model, None, subject, sampling, evaluation, reference, tuned)
    assert card == Scorecard.read(tuned / "scores.json")
    assert card.stale() == ()
    assert np.shape(card.values["brightness"]) == (2, 2)
    assert {name: card.values[name] for name in old.values} == old.values
    assert {name: card.metrics[name] for name in old.metrics} == old.metrics
    assert card.seconds["sample"] == old.seconds["sample"]
    _, baselines = prepare(components, subject, sampling, evaluation, untuned)
    assert baselines == Baselines.read(untuned / "values.json")
    assert np.shape(baselines.untuned["brightness"]) == (2, 2)
    assert {name: baselines.untuned[name] for name in old_baselines.untuned} == old_baselines.untuned
    assert baselines.photographs == old_baselines.photographs


@pytest.mark.usefixtures("no_sampling")
def test_a_metric_of_an_older_version_is_measured_again(components, subject, sampling, evaluation, store, monkeypatch):
    reference, tuned, _ = store
    newer = replace(METRICS["noise"], measure=lambda s, r: METRICS["dino"].measure(s, r) * 0 + 7.0, version=2)
    monkeypatch.setitem(METRICS, "noise", newer)
    card = complete(components.model, None, subject, sampling, evaluation, reference, tuned)
    assert card.values["noise"] == [[7.0, 7.0], [7.0, 7.0]]
    assert card.versions["noise"] == 2
    assert list(card.metrics) == list(METRICS)


@pytest.mark.usefixtures("no_sampling")
def test_a_metric_that_needs_weights_which_are_gone_says_so(
    components, subject, sampling, evaluation, store, monkeypatch
):
    reference, tuned, _ = store
    monkeypatch.setitem(METRICS, "brightness", BRIGHTNESS)
    monkeypatch.setitem(METRICS, "of_weights", OF_WEIGHTS)
    card = complete(components.model, None, subject, sampling, evaluation, reference, tuned)
    assert card.missing == Scorecard.read(tuned / "scores.json").missing == {"of_weights": WEIGHTS_GONE}
    assert "brightness" in card.values
    assert "of_weights" not in card.metrics
    again = complete(components.model, lambda: components, subject, sampling, evaluation, reference, tuned)
    assert again.missing == {}
    assert np.shape(again.values["of_weights"]) == np.shape(again.values["validation_loss"])


def test_where_samples_are_gone_nothing_is_lost(components, subject, sampling, evaluation, store, monkeypatch):
    reference, tuned, _ = store
    monkeypatch.setitem(METRICS, "noise", replace(METRICS["noise"], version=2))
    (tuned / "00-01.png").unlink()
    card = complete(components.model, None, subject, sampling, evaluation, reference, tuned)
    assert "noise" not in card.metrics  # of another version than the numbers that it would be compared with
    assert "images were deleted" in card.missing["noise"]
    assert "noise" in Scorecard.read(tuned / "scores.json").values


def test_a_scorecard_survives_json():
    card = Scorecard("a", {"dino": 0.5}, {"dino": [[0.5, None]]}, {"dino": "tiny"}, {"dino": 1}, {"dino": 1})
    assert Scorecard.from_json(json.loads(json.dumps(card.to_json()))) == card
    assert card.without({"dino": NOT_YET}).missing == {"dino": NOT_YET}
    assert card.without({"dino": NOT_YET}).values == {}


FEW_PROMPTS = "Where overfitting begins is not said: that takes 16 prompts, and these are 8."


def test_an_empty_scorecard_lacks_everything_and_breaks_nothing():
    card = Scorecard.from_json({})
    assert card.stale() == tuple(METRICS)
    candidates, cards, baselines = synthetic.sweep(synthetic.grid(), lambda *_: 0.8, lambda *_: 0.8)
    spot = find(candidates, [card, *cards[1:]], baselines)
    assert spot.found
    assert np.isnan(spot.score[0])
    assert find(candidates, [card] * len(cards), baselines).verdict == "refused"


@pytest.mark.parametrize("name", ["copying", "noise", "pres", "div"])
def test_a_veto_whose_scores_are_missing_is_skipped_and_said(name):
    candidates, cards, baselines = synthetic.sweep(synthetic.grid(), lambda *_: 0.8, lambda *_: 0.8)
    bad = {"copying": [[0.99, 0.99]] * 8, "noise": [[30.0, 30.0]] * 8, "pres": [[0.8] * 4], "div": [[0.01, 0.01]] * 8}
    for card in cards:
        card["values"][name] = bad[name]
    ruled_out = find(candidates, cards, baselines)
    assert any(ruled_out.vetoes) or name == "pres"
    assert ruled_out.notes == (FEW_PROMPTS,)
    for card in cards[:2]:
        del card["values"][name]
    spot = find(candidates, cards, baselines)
    assert spot.vetoes[0] == ()
    assert spot.notes == (
        f"The check for {METRICS[name].title} was skipped for 2 of 6 checkpoints: scores are missing.",
        FEW_PROMPTS,
    )


def test_a_veto_whose_baseline_is_missing_is_skipped():
    candidates, cards, baselines = synthetic.sweep(synthetic.grid(), lambda *_: 0.8, lambda *_: 0.8)
    for base in baselines[:1]:  # all candidates share it
        del base["photographs"]["copying"], base["untuned"]["pres"]
    spot = find(candidates, cards, baselines)
    assert spot.found
    assert spot.notes[-1] == FEW_PROMPTS
    assert [note.split(" was ")[0] for note in spot.notes[:-1]] == [
        "The check for copying",
        "The check for class drift",
    ]


def test_dataclasses_and_dictionaries_give_the_same_answer():
    candidates, cards, baselines = synthetic.sweep(
        synthetic.grid(), lambda step, _: step / 600, lambda step, _: 1 - step / 900
    )
    typed = [Scorecard.from_json(card) for card in cards]
    assert find(candidates, typed, [Baselines.from_json(baselines[0])] * len(cards)) == find(
        candidates, cards, baselines
    )
