"""Every claim comes out as each of the three verdicts where the results say so."""

from dataclasses import replace

import numpy as np
import pytest

from sweeper.blog import claims, verdicts
from sweeper.blog.catalogue import CLAIMS
from sweeper.blog.evidence import Bootstrapped, Evidence, Missing, Observation, mean, read
from sweeper.blog.verdicts import INCONCLUSIVE, NOT_JUDGED, NOT_SUPPORTED, SUPPORTED
from sweeper.plan.compile import compile_plan
from sweeper.store import Store
from tests.sweeper.blog.synthetic import BASELINES, PHOTOGRAPHS, S0, evidence, scorecard

WIDE = 0.5  # sway of the prompts that no small effect stands out from


def last(subject):
    return 1200 if subject == "face" else 400


def many(subject):
    return (400, 800, 1200) if subject == "face" else (200, 400)


def only_last(subject):
    return (last(subject),)


def both(value):
    """Subject and prompt fidelity, and with them the score."""
    return {"s": value, "t": value}


GRIDS = {
    "learning_rate": {"subject": ("cat_toy", "face"), "lr": (1e-6, 2e-6, 5e-6), "steps": many},
    "prior_preservation": {"subject": ("cat_toy", "face"), "prior_preservation": (False, True), "steps": many},
    "inference_scheduler": {
        "subject": ("potato_head", "face"), "scheduler": ("pndm", "lms", "ddim"), "steps": only_last,
    },
    "inference_steps": {"subject": ("potato_head", "face"), "inference_steps": (25, 50, 100), "steps": only_last},
    "text_encoder": {"subject": ("cat_toy", "face"), "train_text_encoder": (False, True), "steps": many},
    "textual_inversion": {"subject": ("face",), "trainer": ("ti_dreambooth",), "steps": lambda _: (500,)},
    "ema": {"subject": ("cat_toy",), "trainer.ema_decay": (0.0, 0.9999), "steps": many},
    "rare_token": {"subject": ("cat_toy",), "subject.identifier": ("sks", "toby"), "steps": many},
}  # fmt: skip


def by_lr(lower, highest):
    return lambda p: both(highest if p["lr"] == 5e-6 else lower)


def by_advice(advised, others):
    return lambda p: both(advised if p["lr"] == 2e-6 and p["steps"] == last(p["subject"]) else others)


def by_step(first, later):
    return lambda p: both(first if p["steps"] == 400 or p["lr"] == 5e-6 else later)


def by_dose(t, copying):
    def levels(p):
        overfit = p["lr"] == 5e-6 and p["steps"] == last(p["subject"])
        return {"t": t, "copying": copying} if overfit else {"t": 0.9 if t < 0.4 else 0.5, "copying": 0.0}

    return levels


def by_little(little, much):
    return lambda p: {"s": little if p["lr"] == 1e-6 and p["steps"] == many(p["subject"])[0] else much}


def by_prior(t, drift, of_object):
    def levels(p):
        if p["kind"] == "object":
            return both(of_object[p["prior_preservation"]])
        return {"t": t[p["prior_preservation"]], "drift": drift[p["prior_preservation"]]}

    return levels


def by_scheduler(pndm, ddim, lms):
    return lambda p: {"noise": {"pndm": pndm, "ddim": ddim, "lms": lms}[p["scheduler"]]}


def by_inference_steps(*noise):
    return lambda p: {"noise": dict(zip((25, 50, 100), noise, strict=True))[p["inference_steps"]]}


def by_text_encoder(face, of_object):
    return lambda p: both((face if p["kind"] == "face" else of_object)[p["train_text_encoder"]])


def by_ema(without, with_):
    return lambda p: both(with_ if p["trainer.ema_decay"] else without)


def by_word(sks, toby):
    return lambda p: both(sks if p["subject.identifier"] == "sks" else toby)


def by_method(inverted, frozen, trained, copying):
    def levels(p):
        if p.get("trainer") == "ti_dreambooth":
            return {**both(inverted), "copying": copying}
        return both(trained if p["train_text_encoder"] else frozen)

    return levels


# claim -> levels that support it, levels that refute it, levels that leave it open once prompts sway
CASES = {
    1: (by_lr(0.7, 0.4), by_lr(0.4, 0.7), by_lr(0.55, 0.5)),
    2: (by_advice(0.8, 0.5), by_advice(0.3, 0.8), by_advice(0.55, 0.5)),
    3: (by_step(0.3, 0.8), by_step(0.8, 0.3), by_step(0.5, 0.55)),
    4: (by_dose(0.1, 0.8), by_dose(0.9, 0.0), by_dose(0.45, 0.05)),
    5: (by_little(0.1, 0.8), by_little(0.8, 0.8), by_little(0.45, 0.5)),
    6: (
        by_prior((0.4, 0.8), (0.7, 0.1), (0.5, 0.5)),
        by_prior((0.8, 0.4), (0.1, 0.7), (0.5, 0.5)),
        by_prior((0.5, 0.55), (0.15, 0.1), (0.5, 0.5)),
    ),
    7: (by_scheduler(1.0, 0.3, 1.6), by_scheduler(0.0, 0.0, 0.0), by_scheduler(0.1, 0.05, 0.15)),
    8: (by_inference_steps(1.0, 0.8, 0.2), by_inference_steps(0.2, 0.8, 1.0), by_inference_steps(0.8, 0.8, 0.75)),
    9: (
        by_text_encoder((0.4, 0.8), (0.5, 0.6)),
        by_text_encoder((0.8, 0.4), (0.5, 0.6)),
        by_text_encoder((0.5, 0.6), (0.5, 0.52)),
    ),
    10: (by_ema(0.5, 0.52), by_ema(0.4, 0.7), by_ema(0.5, 0.5)),
    11: (by_word(0.5, 0.48), by_word(0.7, 0.3), by_word(0.5, 0.48)),
    12: (by_method(0.6, 0.4, 0.8, 0.4), by_method(0.6, 0.8, 0.4, -0.4), by_method(0.53, 0.5, 0.56, 0.05)),
}  # fmt: skip


def found(claim, levels, sway=0.02, seeds=(0, 1, 2)):
    return claims.assess(claim.assess, *(evidence(levels, sway, seeds, **GRIDS[name]) for name in claim.experiments))


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: str(claim.number))
class TestEachClaim:
    def test_supported(self, claim):
        finding = found(claim, CASES[claim.number][0])
        assert {part.verdict for part in finding.parts} == {SUPPORTED}, finding.parts
        assert finding.verdict == SUPPORTED

    def test_not_supported(self, claim):
        assert found(claim, CASES[claim.number][1]).verdict == NOT_SUPPORTED

    def test_inconclusive(self, claim):
        finding = found(claim, CASES[claim.number][2], WIDE)
        assert finding.verdict == INCONCLUSIVE, finding.parts

    def test_not_judged_without_results(self, claim):
        finding = claims.assess(claim.assess, *(Evidence(()) for _ in claim.experiments))
        assert finding.verdict == NOT_JUDGED
        assert finding.missing

    def test_the_interval_holds_the_effect_and_conditions_are_shown(self, claim):
        finding = found(claim, CASES[claim.number][2], WIDE)
        assert all(part.low <= part.effect <= part.high for part in finding.parts)
        labels = [label for label, _ in finding.conditions]
        assert len(labels) == len(set(labels)) >= 2
        assert all(np.isfinite(c[m].value) for _, c in finding.conditions for m in claim.measures)


def test_twelve_claims_in_order():
    assert [claim.number for claim in CLAIMS] == list(range(1, 13))


def test_effects_are_the_differences_that_were_put_in():
    finding = found(CLAIMS[0], by_lr(0.7, 0.4))
    assert [part.effect for part in finding.parts] == pytest.approx([0.3, 0.3], abs=1e-6)


def test_several_training_seeds_enter_one_setting():
    runs = evidence(by_lr(0.7, 0.4), seeds=(0, 1, 2), **GRIDS["learning_rate"])
    condition = runs.at(subject="face", lr=2e-6, steps=1200)
    assert [cell.params["seed"] for cell in condition.observations] == [0, 1, 2]
    assert condition["score"].value == pytest.approx(0.7)


def test_the_same_prompts_are_resampled_everywhere():
    """What prompts do to two settings alike does not blur their difference."""
    draws = np.random.default_rng(0).normal(size=1000)
    low, high = (Bootstrapped(0.6, 0.6 + draws) - Bootstrapped(0.4, 0.4 + draws)).interval
    assert (low, high) == pytest.approx((0.2, 0.2))
    assert mean([Bootstrapped(1.0, draws), Bootstrapped(3.0, draws)]).value == 2.0


def test_two_settings_are_not_taken_for_one():
    runs = evidence(by_lr(0.7, 0.4), **GRIDS["learning_rate"])
    with pytest.raises(Missing, match="several settings"):
        runs.at(subject="face", steps=1200)


@pytest.mark.parametrize(
    ("part", "low", "high", "verdict"),
    [
        (verdicts.better, 0.051, 0.2, SUPPORTED),
        (verdicts.better, -0.05, 0.049, NOT_SUPPORTED),
        (verdicts.better, 0.049, 0.2, INCONCLUSIVE),
        (verdicts.better, -0.05, 0.051, INCONCLUSIVE),
        (verdicts.similar, -0.049, 0.049, SUPPORTED),
        (verdicts.similar, -0.051, 0.04, INCONCLUSIVE),
        (verdicts.similar, 0.049, 0.4, INCONCLUSIVE),
        (verdicts.similar, 0.051, 0.4, NOT_SUPPORTED),
        (verdicts.similar, -0.4, -0.051, NOT_SUPPORTED),
        (verdicts.no_worse, -0.049, 0.5, SUPPORTED),
        (verdicts.no_worse, -0.3, -0.051, NOT_SUPPORTED),
        (verdicts.no_worse, -0.3, -0.049, INCONCLUSIVE),
        (verdicts.no_worse, -0.051, 0.3, INCONCLUSIVE),
        (verdicts.above, 0.01, 0.5, SUPPORTED),
        (verdicts.above, -0.3, -0.01, NOT_SUPPORTED),
        (verdicts.above, -0.05, 0.05, INCONCLUSIVE),
    ],
)
def test_verdict_of_an_interval(part, low, high, verdict):
    draws = low + (high - low) * np.linspace(-1 / 38, 39 / 38, 10_001)  # their middle 95 % are from low to high
    assert part("", Bootstrapped((low + high) / 2, draws)).verdict == verdict


@pytest.mark.parametrize("effect", [0.03, 0.07])
@pytest.mark.parametrize("claimed", [verdicts.better, verdicts.no_worse, verdicts.similar, verdicts.above])
def test_more_prompts_never_turn_a_verdict_round(claimed, effect):
    """An effect of .03 was inconclusive, not supported and supported as the prompts grew more."""
    draws = [effect + width * np.linspace(-1, 1, 1001) for width in np.geomspace(0.5, 1e-3, 60)]
    verdict = [claimed("", Bootstrapped(effect, drawn)).verdict for drawn in draws]
    changes = [is_ for was, is_ in zip(verdict, verdict[1:], strict=False) if was != is_]
    assert verdict[0] == INCONCLUSIVE
    assert len(changes) == 1


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_few_training_seeds_suggest(seeds):
    yes, no = (found(CLAIMS[0], levels, seeds=range(seeds)) for levels in CASES[1][:2])
    few = ("suggests yes", "suggests no")
    assert (yes.verdict, no.verdict) == ((SUPPORTED, NOT_SUPPORTED) if seeds == 3 else few)
    assert yes.said(INCONCLUSIVE) == INCONCLUSIVE
    assert claims.assess(CLAIMS[0].assess, Evidence(())).verdict == NOT_JUDGED


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([SUPPORTED, SUPPORTED], SUPPORTED),
        ([SUPPORTED, INCONCLUSIVE], INCONCLUSIVE),
        ([SUPPORTED, INCONCLUSIVE, NOT_SUPPORTED], NOT_SUPPORTED),
    ],
)
def test_verdict_of_several_parts(parts, whole):
    assert verdicts.combined(parts) == whole


def test_no_verdict_where_fidelity_cannot_be_measured():
    """The photographs are no more alike than the untuned model's images are like them."""
    runs = evidence(by_ema(0.5, 0.5), **GRIDS["ema"])
    unlike = replace(BASELINES, photographs={**BASELINES.photographs, "dino": [S0] * PHOTOGRAPHS})
    blind = Evidence(tuple(Observation(seen.params, seen.card, unlike) for seen in runs.observations))
    finding = claims.assess(claims.ema_makes_no_difference, blind)
    assert finding.verdict == NOT_JUDGED
    assert "subject fidelity cannot be measured" in finding.missing


def test_a_missing_result_is_named():
    runs = evidence(by_lr(0.7, 0.4), **GRIDS["learning_rate"])
    partial = Evidence(
        tuple(cell for cell in runs.observations if (cell.params["lr"], cell.params["steps"]) != (5e-6, 1200))
    )
    finding = claims.assess(claims.lower_lr_is_better, partial)
    assert finding.verdict == NOT_JUDGED
    assert "subject=face lr=5e-6 steps=1200" in finding.missing


def test_the_weights_and_their_average_are_two_settings(make_cell, monkeypatch, tmp_path):
    """One training serves both, at the same step."""
    monkeypatch.setattr(Store, "scorecard", lambda *_: scorecard({}))
    monkeypatch.setattr(Store, "baseline_values", lambda *_: BASELINES)
    cells = [replace(make_cell(), use_ema=average, params=(("use_ema", average),)) for average in (True, False)]
    found = read(compile_plan(cells), Store(tmp_path)).observations
    assert [observation.params["use_ema"] for observation in found] == [True, False]
