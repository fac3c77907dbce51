"""Noise and bias told apart on banks whose noise and bias are known."""

import numpy as np
import pytest

from benchmarks import error_sources
from benchmarks.bank import write_arrays
from benchmarks.bank_cells import Cells, Drawn, draws, everything, read_bank, true_prompt, true_subject, truth
from benchmarks.bank_each_cell import gaps, noises
from benchmarks.bank_rules import RULES, allowed
from benchmarks.bank_scores import SCORES, apart, rising, today
from benchmarks.error_sources import choices, residuals
from benchmarks.tables import Mean
from evaluation.sweetspot import Candidate, find

P, K, N = 8, 8, 4
STEPS = np.array([25, 50, 100, 200, 400])
S, T = np.array([0.2, 0.4, 0.6, 0.8, 0.7]), np.array([1.0, 1.0, 1.0, 1.0, 0.875])
EARLY, LATE = np.array([0, 0, 0, 0.0, 0.0]), np.array([0, 0, 0, 0, 0.6])


def sweep(name="face-b1", noise=0.0, bias=EARLY, copying=EARLY, s=S, t=T):
    """Five checkpoints. `bias` is added to what s is measured of, `copying` is the share of the way to a copy."""
    rng, count = np.random.default_rng(len(name)), len(s)
    wave = rng.normal(size=(count, P, K))
    bias, copying, at = bias[:count], copying[:count], (slice(None), None, None)
    likeness = 0.1 + 0.6 * (s + bias)[at] + noise * wave
    text = np.full((count, P, K, P), 0.2)
    text[:, range(P), :, range(P)] = (0.3 + 0.4 * t[at] + noise * rng.normal(size=(count, P, K))).transpose(1, 0, 2)
    untuned = np.full((P, K, P), 0.2)
    untuned[range(P), :, range(P)] = 0.7
    alike = np.where(np.eye(K, dtype=bool), 1.0, 0.5)
    obeyed = np.arange(P * K).reshape(P, K) % 8 < 8 * t[at]
    arrays = {
        "lr": np.full(count, 2e-6), "steps": STEPS[:count],
        "dino": np.repeat(likeness[..., None], N, -1), "untuned_dino": np.full((P, K, N), 0.1),
        "held_out": np.repeat(likeness[..., None], N, -1) - 0.6 * bias[:, None, None, None],
        "untuned_held_out": np.full((P, K, N), 0.1), "photographs_seen_and_held_out": np.full((N, N), 0.7),
        "clip": np.broadcast_to((0.6 + 0.4 * copying)[:, None, None, None], (count, P, K, N)),
        "untuned_clip": np.full((P, K, N), 0.5), "text": text, "untuned_text": untuned,
        "alike": np.broadcast_to(alike, (count, P, K, K)), "untuned_alike": np.broadcast_to(alike, (P, K, K)),
        "noise": np.full((count, P, K), 2.0), "untuned_noise": np.full((P, K), 2.0),
        "subject": np.broadcast_to(0.4 + 0.6 * s[at], (count, P, K)), "untuned_subject": np.full((P, K), 0.4),
        "place": obeyed, "style": np.ones((count, P, K), bool),
        "class_dino": np.full((count, 4, N), 0.1), "untuned_class_dino": np.full((4, N), 0.1),
        "photographs_dino": np.where(np.eye(N, dtype=bool), 1, 0.7),
        "photographs_clip": np.where(np.eye(N, dtype=bool), 1, 0.6),
        "photographs_text": np.full((P, N), 0.3), "photographs_noise": np.full(N, 2.0),
    }  # fmt: skip
    return Cells(name, arrays)


def regret(cells, count, rule="argmax", repeats=5):
    rules = [rule] if rule in RULES else []
    return error_sources.average(choices(cells, count, repeats, rules)[rule], "regret")


def test_the_truth_is_the_judges():
    cells = sweep(bias=LATE, noise=0.2)
    np.testing.assert_allclose(true_subject(cells, everything(cells)), S)
    np.testing.assert_allclose(true_prompt(cells, everything(cells)), T)
    np.testing.assert_allclose(truth(cells, everything(cells)), 2 * S * T / (S + T))


def test_without_noise_and_bias_nothing_is_lost():
    assert all(regret(sweep(), count, rule) == 0 for count in (2, 64) for rule in RULES)


def test_a_sweep_may_be_taken_to_have_ended_earlier():
    cells = sweep(noise=0.1)
    early = cells.until(100)
    assert early["steps"].tolist() == [25, 50, 100]
    np.testing.assert_array_equal(truth(early, everything(early)), truth(cells, everything(cells))[:3])
    assert cells.until(400)["steps"].tolist() == STEPS.tolist()


def test_noise_goes_away_with_more_images():
    cells = sweep(noise=0.1)
    lost = [regret(cells, count, repeats=40) for count in (2, 16, 64)]
    assert lost[0] > 2 * lost[1]
    assert lost[2] == 0
    assert regret(cells, 2, error_sources.JUDGE) == 0  # he has no noise here


def test_bias_stays():
    cells, best = sweep(bias=LATE), truth(sweep(), everything(sweep()))
    lost = best.max() - best[4]
    assert [regret(cells, count) for count in (2, 16, 64)] == pytest.approx([lost] * 3)
    assert regret(cells, 16, error_sources.JUDGE) == 0


def test_bias_is_found_where_it_is():
    bank = [sweep(name, bias=LATE) for name in ("face-b1", "face-b4", "cat_toy-b1")]
    left = residuals(bank)[0]
    assert left["s"].argmax() == 4
    assert left["s"][4] > 0.05
    np.testing.assert_allclose(left["s held out"], 0, atol=1e-9)
    np.testing.assert_allclose(left["t"], 0, atol=1e-9)
    rows = [line for line in "".join(error_sources.by_group(bank, 3)).split("\n") if line.startswith("|")]
    lines = {row.split("|")[1].strip(): row for row in rows}
    assert float(lines["steps 400"].split("|")[-4].split("±")[0]) == pytest.approx(left["s"][4], abs=1e-3)
    assert "subject cat_toy" in lines


def lost_by(name, others, cells):
    true = truth(cells, everything(cells))
    return true.max() - true[SCORES[name](others)(cells, everything(cells)).argmax()]


def test_each_mend_mends_its_own_fault():
    flattered = [sweep(name, bias=LATE) for name in ("face-b1", "face-b4", "cat_toy-b1")]
    copied = [sweep(name, bias=LATE, copying=LATE) for name in ("face-b1", "face-b4", "cat_toy-b1")]
    for name in ("today", "photographs not nearest", "saturating", "less copying"):
        assert lost_by(name, flattered[1:], flattered[0]) > 0, name
    assert lost_by("photographs held out", flattered[1:], flattered[0]) == 0
    assert lost_by("less copying", copied[1:], copied[0]) == 0
    assert all(fit(copied[1:])(copied[0], everything(copied[0])).shape == (5,) for fit in SCORES.values())


def test_one_copied_photograph_does_not_count_where_the_nearest_is_left_out():
    cells = sweep()
    cells.arrays["dino"][4, ..., 0] = 1.0
    before, after = today(sweep()).s.mean((1, 2)), today(cells).s.mean((1, 2))
    assert after[4] > before[4]
    left_out = SCORES["photographs not nearest"]([])
    whole = everything(cells)
    np.testing.assert_allclose(left_out(cells, whole), left_out(sweep(), whole))


def test_rising_curve():
    curve = rising([np.array([1.0, 2.0]), np.array([3.0, 4.0])], [np.array([0.0, 2.0]), np.array([1.0, 3.0])])
    np.testing.assert_allclose(curve(np.array([0.0, 1.0, 2.5, 4.0, 9.0])), [0, 0, 1.5, 3, 3])


def test_draws_are_of_the_same_size_and_the_rest_is_the_rest():
    cells = sweep()
    for count in (2, 8, 16, 32):
        for drawn in draws(cells, count, 3):
            assert drawn.images.size == count
            rest = drawn.rest(K)
            pairs = {
                (p, k) for d in (drawn, rest) for p, row in zip(d.prompts, d.images, strict=True) for k in row.tolist()
            }
            assert len(pairs) == len(drawn.prompts) * K
    assert len(draws(cells, 64, 3)) == 1
    values = np.arange(P * K).reshape(P, K)
    assert Drawn(np.array([1, 3]), np.array([[0, 2], [1, 7]])).of(values).tolist() == [[8, 10], [25, 31]]


@pytest.mark.parametrize(("excess", "vetoed"), [(0.49, False), (0.51, True)])
def test_vetoes_are_the_sweet_spots(excess, vetoed):
    cells = sweep(copying=np.array([0, 0, 0, excess, 0]))
    assert allowed(cells, everything(cells), today(cells).score).tolist() == [True, True, True, not vetoed, True]


@pytest.mark.parametrize("seed", range(3))
def test_the_process_is_the_rule_of_the_sweet_spot(seed):
    rng = np.random.default_rng(seed)
    cells = sweep(noise=0.2, s=np.sort(rng.uniform(0.5, 0.8, 5)), copying=np.array([0, 0, 0, 0, 0.3]))
    a = cells.arrays

    def values(prefix):
        clip, text = a[f"{prefix}clip"], a[f"{prefix}text"]
        named = {"dino": a[f"{prefix}dino"].mean(-1), "clip_t": np.einsum("...pkp->...pk", text)}
        return named | {"copying": clip.max(-1), "noise": a[f"{prefix}noise"]}

    cards = [{"values": {name: value[i].tolist() for name, value in values("").items()}} for i in range(5)]
    photographs = {"dino": apart(a["photographs_dino"]).mean(1), "copying": apart(a["photographs_clip"]).max(1)}
    base = {
        "untuned": {name: value.tolist() for name, value in values("untuned_").items()},
        "photographs": {**photographs, "noise": a["photographs_noise"], "clip_t": a["photographs_text"]},
    }
    spot = find(
        [Candidate(str(i), "curve", "training", int(step), 2e-6) for i, step in enumerate(STEPS)], cards, [base] * 5
    )
    measures = today(cells).take(everything(cells))
    free = allowed(cells, everything(cells), measures.score)
    assert free.tolist() == [not vetoes for vetoes in spot.vetoes]
    np.testing.assert_allclose(measures.score, spot.score)
    assert RULES["process"](cells, measures, free) == spot.best


@pytest.mark.parametrize(("fall", "kind"), [(0.019, "stays"), (0.021, "falls")])
def test_falls_are_falls(fall, kind):
    text = error_sources.falls([sweep(s=np.array([0.5, 0.5 - fall]), t=np.ones(2), bias=np.array([0, 0.2]))])
    row = next(line for line in text.split("\n") if line.startswith(f"| {kind}"))
    assert row.split("|")[2].strip() == "1"
    assert row.split("|")[-2].strip() == "1.000"  # s rose


def test_intervals_are_over_sweeps():
    assert str(Mean.of([1.0, 2.0, 3.0])) == "2.000 ± 2.484"  # Student's 4.303 times 1 over the root of 3
    assert str(Mean.of([1.0, 2.0, np.nan])) == "1.500"


def test_command_prints_every_table(tmp_path, capsys):
    for name in ("face-b1", "face-b4", "cat_toy-b1"):
        write_arrays(tmp_path / f"{name}.npz", sweep(name, noise=0.1, bias=LATE).arrays)
    assert [cells.recipe for cells in read_bank(tmp_path)] == ["b1", "b1", "b4"]
    error_sources.main(["--bank", str(tmp_path), "--repeats", "1"])
    printed = capsys.readouterr().out
    for title in ("Every cell", "Mean regret", "Noise and bias", "Mended scores", "falls", "Which of the two"):
        assert title in printed
    assert "nan" not in printed.split("Truth of the chosen")[0]


def test_an_empty_bank_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        error_sources.main(["--bank", str(tmp_path)])
    assert "holds 0 sweeps" in capsys.readouterr().err


def test_the_noise_is_that_of_so_many_images():
    flat = np.full(5, 0.5)
    cells = sweep(noise=0.03, s=flat, t=flat)
    score = today(cells).take(everything(cells))
    own = (score.s + score.t).std((1, 2), ddof=1) / 2  # at s = t the score is their mean, up to second order
    expected = np.sqrt((own**2).mean() * 4 / 5)  # of five cells, each less the mean of all
    for count in (8, 32):
        assert np.sqrt((noises(cells, count, 400) ** 2).mean()) == pytest.approx(expected / np.sqrt(count), rel=0.1)


def test_gaps_are_the_bias_by_learning_rate():
    cells = sweep(bias=np.array([0, 0, 0, 0.1, 0.1]), noise=0.02)
    lr = np.array([1e-6, 1e-6, 1e-6, 5e-6, 5e-6])
    cells.arrays.update(lr=lr, steps=np.array([25, 50, 100, 100, 101]))
    rows = [line.split("|") for line in "".join(gaps([cells], 1)).split("\n") if line.startswith("| face")]
    assert [row[2].strip() for row in rows] == ["s", "s held out", "t"]
    assert [float(row[5].split("(")[0]) for row in rows] == pytest.approx([0.1, 0, 0], abs=0.02)
    assert 0 < float(rows[0][5].split("(")[1].split(")")[0]) < 0.02
