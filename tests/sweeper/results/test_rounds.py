"""The rounds of adaptive evaluation over a store: decided once, the same whatever else is there and however often the
sweep was killed. Sampling is replaced by what a smooth sweep with noise would show."""

import shutil
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from evaluation.files import BASELINES, SCORES
from evaluation.metrics import METRICS
from evaluation.scheme import first_slice
from evaluation.scorecard import Baselines, Scorecard
from evaluation.spec import Adaptive, EvalSpec
from sweeper.plan.compile import compile_plan, cost
from sweeper.plan.grid import Grid
from sweeper.plan.types import Point
from sweeper.results import collect as collect_module
from sweeper.results import rounds as rounds_module
from sweeper.results.collect import collect
from sweeper.results.rounds import rounds_of
from sweeper.store import Store
from tests.trainers import tiny
from trainers.files import write_json

LRS = (1e-6, 4e-6)
STEPS = (100, 200, 400)
SCHEDULERS = ("ddim", "euler")
PROMPTS = tuple(f"{{}} at place {i}" for i in range(16))
FRESH = tuple(f"{{}} in dress {i}" for i in range(16))
QUICK = 20  # images of a checkpoint


@pytest.fixture(scope="module")
def plan(make_cell, tmp_path_factory):
    photographs = tmp_path_factory.mktemp("subject") / "photographs"
    tiny.make_images(photographs, 3)
    evaluation = first_slice(EvalSpec(PROMPTS, 1, 4, name="adaptive", adaptive=Adaptive(PROMPTS, FRESH, 1, 4)))
    cells = []
    for lr in LRS:
        for step in STEPS:
            for scheduler in SCHEDULERS:
                cell = make_cell(lr=lr, step=step, scheduler=scheduler)
                params = {"lr": lr, "steps": step, "scheduler": scheduler}
                train = replace(cell.train, subject=replace(cell.train.subject, images=str(photographs)))
                cells.append(replace(cell, train=train, evaluation=evaluation, params=tuple(params.items())))
    return compile_plan(cells)


def shown(spec, point, untuned=False):
    """dino and clip_t of a slice: the prompts and the images are as hard for everybody."""
    along = np.log2(spec.lr / 1e-6) + np.log2(point.step / 100)
    s, t = (0.0, 1.0) if untuned else (1 / (1 + np.exp(1.5 - along)), 1 / (1 + np.exp(along - 4)))
    evaluation = point.evaluation
    values = np.empty((2, len(evaluation.prompts), evaluation.images_per_prompt))
    for p, k in np.ndindex(values.shape[1:]):
        place = f"{evaluation.first_prompt + p}/{evaluation.first_image + k}"
        who = "untuned" if untuned else f"{spec.lr}{point.step}{point.sample.scheduler}"
        hard = np.random.default_rng(crc32(place.encode())).normal(0, 0.02, 2)
        own = np.random.default_rng(crc32((place + who).encode())).normal(0, 0.05, 2)
        values[:, p, k] = [0.2 + 0.6 * s, 0.1 + 0.2 * t] + hard * [1, 0.3] + own * [0.6, 0.2]
    return {"dino": values[0].tolist(), "clip_t": values[1].tolist()}


def sample(store, spec, point):
    """What a worker writes."""
    values = shown(spec, point)
    versions = {name: metric.version for name, metric in METRICS.items()}
    card = Scorecard("", {name: float(np.mean(v)) for name, v in values.items()}, values, {}, {}, versions)
    folder = store.evaluation(spec, point)
    folder.mkdir(parents=True, exist_ok=True)
    card.write(folder / SCORES)


def sample_baseline(store, spec, point):
    prompts = len(point.evaluation.prompts)
    photographs = {"dino": [0.8, 0.8, 0.8], "clip_t": [[0.1, 0.1, 0.1]] * prompts}
    versions = {name: metric.version for name, metric in METRICS.items()}
    folder = store.baselines(spec, point)
    folder.mkdir(parents=True, exist_ok=True)
    Baselines(shown(spec, point, untuned=True), photographs, versions).write(folder / BASELINES)


def train(store, plan):
    """The first slice of every cell."""
    for training in plan.trainings:
        for point in training.points:
            sample(store, training.spec, point)
            sample_baseline(store, training.spec, point)


class Killed(Exception):
    pass


def run(store, plan, folder, lives=10**6):
    """All rounds, one image job after the other; raises Killed after so many."""
    for rounds in rounds_of(plan, store, folder):
        while not rounds.ended:
            taken = rounds.decided[-1]
            for point in rounds.missing_baselines(taken):
                sample_baseline(store, plan.trainings[0].spec, point)
            for training, points in rounds.missing(taken).items():
                for point in points:
                    lives -= 1
                    if lives < 0:
                        raise Killed
                    sample(store, training.spec, point)
            rounds.decide()


def decisions(folder):
    return {path.name: path.read_bytes() for path in (folder / "rounds").glob("*.json")}


def collected(store, plan, folder):
    grid = Grid(tuple(plan.cells), {"lr": LRS, "steps": STEPS, "scheduler": SCHEDULERS})
    return collect(grid, plan, store, {}, name="sweep", folder=folder, command="", plan={})


@pytest.fixture(scope="module")
def finished_rounds(plan, tmp_path_factory):
    root = tmp_path_factory.mktemp("finished")
    train(Store(root / "store"), plan)
    run(Store(root / "store"), plan, root / "sweep")
    return root


@pytest.fixture
def played(finished_rounds, tmp_path):
    shutil.copytree(finished_rounds, tmp_path / "played")
    return Store(tmp_path / "played/store"), tmp_path / "played/sweep"


def test_in_all_no_more_images_than_uniform_evaluation(plan, played):
    store, folder = played
    (rounds,) = rounds_of(plan, store, folder)
    taken = rounds.decided[-1]
    images = sum(
        Point(place.point.step, place.point.sample, each).images
        for cell, place in enumerate(rounds.places)
        for each in rounds.asked(taken, cell)
    )
    for evaluation in rounds.layout(taken) + rounds.layout(taken, fresh=True):
        images += len(SCHEDULERS) * Point(0, rounds.places[0].point.sample, evaluation).images
    assert 0.75 < images / (QUICK * (len(plan.cells) + len(SCHEDULERS))) <= 1
    files = list(store.root.glob("trainings/*/evaluations/*/scores.json"))
    assert len(files) == sum(len(rounds.asked(taken, cell)) for cell in range(len(rounds.places)))


def test_the_plan_counts_all_rounds(plan, tmp_path):
    store = Store(tmp_path / "nothing")
    planned = cost([store.left(training) for training in plan.trainings], store)
    assert planned.images == QUICK * (len(plan.cells) + len(SCHEDULERS))


def test_the_answer_has_a_score_on_fresh_images(plan, played):
    spot = collected(*played[:1], plan, played[1]).sweet_spot
    mean, low, high = spot.fresh_score
    assert low < mean < high
    assert mean == pytest.approx(spot.score[spot.best], abs=0.2)


def test_a_reader_is_told_what_is_not_fresh_and_what_is_not_sampled(plan, played):
    store, folder = played
    assert not any("fresh" in note or "rounds" in note for note in collected(store, plan, folder).notes)
    own = [
        replace(cell, evaluation=replace(cell.evaluation, adaptive=Adaptive(PROMPTS, (), 1, 4))) for cell in plan.cells
    ]
    (folder / "rounds").mkdir(exist_ok=True)
    (rounds,) = rounds_of(compile_plan(own), store, folder)
    assert "Not all rounds" in " ".join(collected(store, compile_plan(own), folder).notes)
    write_json(rounds.path, {"rounds": [], "ended": True})
    assert rounds_module.ONLY_NOISE in collected(store, compile_plan(own), folder).notes


def test_an_onset_is_told_where_every_step_of_the_curve_was_shown_every_prompt(plan, played, monkeypatch):
    store, folder = played
    (rounds,) = rounds_of(plan, store, folder)
    ranked = rounds.decided[-1].ranked
    find = collect_module.find

    def with_onsets(*given):
        spot = find(*given)
        return replace(spot, onset=dict.fromkeys(spot.onset, 200))

    monkeypatch.setattr(collect_module, "find", with_onsets)
    told = [step for step in collected(store, plan, folder).sweet_spot.onset.values() if step]
    whole = {place.curve for place in rounds.places} - {
        place.curve for place, count in zip(rounds.places, ranked, strict=True) if count < rounds.scheme.whole
    }
    assert 0 < len(told) == len(whole) < len({place.curve for place in rounds.places})


def with_fresh(store, plan, folder, s, t):
    """All fresh images show the same, so and so far from the baselines."""
    (rounds,) = rounds_of(plan, store, folder)
    taken = rounds.decided[-1]
    for cell, place in enumerate(rounds.places):
        for evaluation in rounds.layout(taken, fresh=True)[: taken.fresh[cell]]:
            spec, point = place.training.spec, place.at(evaluation)
            untuned = Baselines.read(store.baselines(spec, point) / BASELINES).untuned
            dino = [[value + s * (0.8 - value) for value in row] for row in untuned["dino"]]
            clip_t = [[0.1 + t * (value - 0.1) for value in row] for row in untuned["clip_t"]]
            path = store.evaluation(spec, point) / SCORES
            write_json(path, {**Scorecard.read(path).to_json(), "values": {"dino": dino, "clip_t": clip_t}})


def test_fresh_images_choose_nothing(plan, played):
    """With any other fresh images the decisions and the answer are the same."""
    store, folder = played
    before = collected(store, plan, folder).sweet_spot
    with_fresh(store, plan, folder, 0.9, 0.9)
    after = collected(store, plan, folder).sweet_spot
    assert after.fresh_score[0] == pytest.approx(0.9, abs=0.01)
    assert replace(after, fresh_score=None) == replace(before, fresh_score=None)
    kept = decisions(folder)
    (rounds,) = rounds_of(plan, store, folder)
    rounds.path.unlink()
    run(store, plan, folder)
    assert decisions(folder) == kept


@pytest.mark.parametrize(("level", "found"), [(0.48, False), (0.52, True)])
def test_an_answer_that_fresh_images_show_to_be_weak_is_none(plan, played, level, found):
    store, folder = played
    with_fresh(store, plan, folder, level, level)
    results = collected(store, plan, folder)
    assert results.sweet_spot.found == found == (results.best is not None)
    assert (results.sweet_spot.verdict == "none") == (not found)


@pytest.mark.faults
@pytest.mark.parametrize("lives", [5, 17])
def test_killed_and_resumed_it_decides_the_same(plan, played, tmp_path, lives):
    store = Store(tmp_path / "other")
    folder = tmp_path / "killed"
    train(store, plan)
    while True:
        try:
            run(store, plan, folder, lives=lives)
            break
        except Killed:
            continue
    assert decisions(folder) == decisions(played[1])
    assert collected(store, plan, folder).sweet_spot == collected(played[0], plan, played[1]).sweet_spot


def test_what_another_sweep_has_sampled_is_used_and_decides_nothing(plan, played, tmp_path):
    """Every slice of every cell is there: the decisions are those of an empty store."""
    store, folder = played
    (rounds,) = rounds_of(plan, store, folder)
    for place in rounds.places:
        for evaluation in rounds.layout(rounds.decided[-1]):
            sample(store, place.training.spec, place.at(evaluation))
    kept = decisions(folder)
    again = tmp_path / "again"
    run(store, plan, again, lives=0)
    assert decisions(again) == kept


def test_a_decision_is_written_before_it_is_acted_on_and_once(plan, tmp_path, monkeypatch):
    store = Store(tmp_path / "store")
    train(store, plan)
    (rounds,) = rounds_of(plan, store, tmp_path / "sweep")
    rounds.decide()
    assert len(rounds.decided) == 2
    late = rounds_of(plan, store, tmp_path / "sweep")[0]
    before = rounds.decided
    monkeypatch.setattr(rounds_module.Rounds, "decided", property(lambda self, seen=[before[:1], before]: seen.pop(0)))
    monkeypatch.setattr(rounds_module, "next_round", lambda *_: pytest.fail("decided twice"))
    late.decide()


def test_a_cell_that_failed_takes_no_part_and_begins_the_rounds_anew_once_it_is_there(plan, tmp_path):
    store = Store(tmp_path / "store")
    train(store, plan)
    spec = plan.trainings[0].spec
    lost = plan.trainings[0].points[0]
    (store.evaluation(spec, lost) / SCORES).unlink()
    (some,) = rounds_of(plan, store, tmp_path / "sweep")
    assert len(some.places) == len(plan.cells) - 1
    sample(store, spec, lost)
    (every,) = rounds_of(plan, store, tmp_path / "sweep")
    assert every.path != some.path


def test_without_a_scale_nothing_is_spent(plan, tmp_path):
    store = Store(tmp_path / "store")
    train(store, plan)
    for path in Path(store.root).glob("baselines/*/values.json"):
        base = Baselines.read(path)
        base.photographs["dino"] = [0.2, 0.2, 0.2]
        base.write(path)
    run(store, plan, tmp_path / "sweep")
    (rounds,) = rounds_of(plan, store, tmp_path / "sweep")
    assert rounds.ended
    assert len(rounds.decided) == 1
