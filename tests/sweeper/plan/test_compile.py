import hashlib
import itertools
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.plan.compile import compile_plan, cost
from sweeper.plan.types import Remaining
from sweeper.store import Store
from trainers.files import MANIFEST, write_json
from trainers.spec import TrainerSpec, signature
from trainers.stages import inversion_stage


def test_the_grid_of_the_post_is_twelve_trainings(make_cell, tmp_path):
    axes = [(1e-6, 2e-6, 5e-6), (400, 800, 1200), (True, False), (True, False), ("pndm", "lms", "ddim")]
    cells = [
        make_cell(lr, step, prior, text, scheduler) for lr, step, prior, text, scheduler in itertools.product(*axes)
    ]
    plan, store = compile_plan(cells), Store(tmp_path)
    bill = cost([store.left(t) for t in plan.trainings], store)
    assert (bill.cells, bill.trainings) == (108, 12)
    assert (bill.training_steps, bill.training_steps_unshared) == (14_400, 86_400)
    # 108 cells and a baseline for each of 3 schedulers, 2 x 3 + 4 images each, and 10 class images made once
    assert bill.images == (108 + 3) * 10 + 10
    assert bill.done_images == bill.done_trainings == bill.done_training_steps == 0


CELLS = st.lists(
    st.fixed_dictionaries(
        {
            "lr": st.sampled_from([1e-6, 2e-6]),
            "step": st.sampled_from([100, 200, 300]),
            "prior": st.booleans(),
            "text_encoder": st.booleans(),
            "scheduler": st.sampled_from(["pndm", "ddim"]),
            "seed": st.sampled_from([0, 1]),
            "horizon": st.sampled_from([None, 200, 300]),
            "eval_every": st.sampled_from([0, 70, "halving"]),
        }
    ),
    max_size=30,
)


@given(settings=CELLS)
def test_every_cell_is_served_exactly_once(make_cell, settings):
    cells = [make_cell(**each) for each in settings]
    plan = compile_plan(cells)
    assert len(plan.cells) == len(set(plan.cells))
    assert set(plan.cells) == set(cells)
    for training in plan.trainings:
        for run in training.cells:
            served = [p for p in training.points if training.cell_at(p) == run]
            assert [(p.step, p.sample) for p in served] == [(run.step, run.sample)]


@given(settings=CELLS, order=st.randoms(use_true_random=False))
def test_order_does_not_matter(make_cell, settings, order):
    cells = [make_cell(**each) for each in settings]
    shuffled = list(cells)
    order.shuffle(shuffled)

    def content(plan):
        return {
            t.spec.signature: ({(p.step, p.signature) for p in t.points}, {(r, r.step) for r in t.cells})
            for t in plan.trainings
        }

    assert content(compile_plan(cells)) == content(compile_plan(shuffled))


@given(settings=CELLS)
def test_only_steps_and_sampling_are_merged(make_cell, settings):
    plan = compile_plan([make_cell(**each) for each in settings])
    shared = {(e["lr"], e["prior"], e["text_encoder"], e["seed"], e["horizon"]) for e in settings}
    assert len(plan.trainings) == len(shared)
    assert len({t.spec.signature for t in plan.trainings}) == len(shared)


def changed(spec):
    """(name, whether it is part of the identity, `spec` with another value there) of every field, parts included."""
    for each in fields(spec):
        value, counts = getattr(spec, each.name), each.metadata.get("identity", True)
        if is_dataclass(value):
            others = [(f"{each.name}.{name}", ours, part) for name, ours, part in changed(value)]
        elif isinstance(value, bool):
            others = [(each.name, counts, not value)]
        elif isinstance(value, (int, float)):
            others = [(each.name, counts, value + 1)]
        else:
            others = [(each.name, counts, "another")]
        for name, ours, other in others:
            yield name, ours, replace(spec, **{each.name: other})


def test_every_setting_makes_a_training_of_its_own_and_no_label_does(make_cell):
    spec = make_cell(prior=True).train
    seen = {spec.signature: "as it is"}
    for name, counts, other in changed(spec):
        assert (other.signature not in seen) == (other != spec) == counts, (name, seen.get(other.signature))
        seen[other.signature] = name
    assert len(seen) > 50


def test_every_way_of_sampling_and_judging_has_results_of_its_own(make_cell, tmp_path):
    cell, store = make_cell(), Store(tmp_path)
    (training,) = compile_plan([cell]).trainings
    (point,) = training.points
    others = [replace(point, step=401)]
    others += [replace(point, sample=sample) for _, _, sample in changed(cell.sample)]
    others += [replace(point, evaluation=judged) for _, counts, judged in changed(cell.evaluation) if counts]
    assert len({store.evaluation(cell.train, each) for each in (point, *others)}) == 1 + len(others)
    # the untuned model has no steps
    assert len({store.baselines(cell.train, each) for each in (point, *others)}) == len(others)


def test_names_of_results_are_as_recorded(make_cell):
    """A change here makes everyone's finished work unknown."""
    store = Store(Path("store"))
    cells = [make_cell(), make_cell(5e-6, 400, True, True, "ddim", 3, horizon=800)]
    names = []
    for training in compile_plan(cells).trainings:
        (point,), spec = training.points, training.spec
        places = [store.training(spec), store.evaluation(spec, point), store.baselines(spec, point)]
        places += [store.class_images(spec)] if spec.prior else []
        names.append([place.name for place in places])
    assert names == [
        ["1781a55c4572228f", "000400-318d0ba1763b9b36", "3186b7c35b200a41"],
        ["e5ac9116a2fa4133", "000400-95fbd6acb420037a", "f2a562d25f922603", "f8092b5dd6ac174f"],
    ]


def test_a_number_is_itself_however_it_is_written(make_cell):
    assert len(compile_plan([make_cell(lr=5e-06), make_cell(lr=0.000005)]).trainings) == 1


def test_checkpoints_on_the_way_are_evaluated_but_not_asked_for(make_cell):
    (training,) = compile_plan([make_cell(step=250, eval_every=100)]).trainings
    assert training.steps == (100, 200, 250)
    assert [training.cell_at(p) is not None for p in training.points] == [False, False, True]


@pytest.mark.parametrize(("last", "steps"), [(400, (25, 50, 100, 200, 400)), (15, (1, 3, 7, 15)), (1, (1,))])
def test_halving_evaluates_more_often_early(make_cell, last, steps):
    (training,) = compile_plan([make_cell(step=last, eval_every="halving")]).trainings
    assert training.steps == steps


def test_halving_goes_down_from_the_last_step_that_is_asked_for(make_cell):
    (training,) = compile_plan([make_cell(step=step, eval_every="halving") for step in (300, 400)]).trainings
    assert training.steps == (25, 50, 100, 200, 300, 400)


def test_a_signature_is_the_hash_of_what_matters(make_cell):
    subject = make_cell().train.subject
    text = '[{"class_noun":"dog","class_prompt":"a photo of a dog","fingerprint":"images","identifier":"sks",'
    text += '"instance_prompt":""}]'
    assert signature(subject) == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert signature(replace(subject, images="elsewhere", name="another")) == signature(subject)
    assert signature(replace(subject, identifier="zwx")) != signature(subject)


def test_what_is_scored_is_not_left(make_cell, tmp_path):
    (training,) = compile_plan([make_cell(step=250, eval_every=100)]).trainings
    store = Store(tmp_path)
    assert store.left(training) == Remaining(training, training.points, 0)
    first = store.evaluation(training.spec, training.points[0]) / "scores.json"
    first.parent.mkdir(parents=True)
    first.write_text("{}")
    assert store.left(training).missing == training.points[1:]


def test_a_textual_inversion_counts_once_for_all_that_start_from_it(make_cell, tmp_path):
    first = TrainerSpec("ti_dreambooth", inversion_steps=2000)
    cells = [make_cell(lr=lr, seed=seed) for lr in (1e-6, 2e-6) for seed in (0, 1)]
    cells = [replace(cell, train=replace(cell.train, trainer=first)) for cell in cells]
    store = Store(tmp_path)
    left = [store.left(training) for training in compile_plan(cells).trainings]
    bill = cost(left, store)
    assert (bill.training_steps, bill.done_training_steps) == (4 * 400 + 2 * 2000, 0)  # one for each seed
    assert bill.training_steps_unshared == 4 * (400 + 2000)
    one, other = (tmp_path / "cache/inversions" / inversion_stage(cell.train).signature for cell in cells[:2])
    write_json(one / "checkpoints/002000" / MANIFEST, {})
    write_json(other / "state/000500" / MANIFEST, {})
    assert cost(left, store).done_training_steps == 2000 + 500
    trained = [replace(each, trained=400) for each in left]  # only samples are missing: the word is not needed
    assert cost(trained, store).done_training_steps == bill.training_steps
