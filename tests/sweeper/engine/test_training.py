"""One training in this process: what the worker does with a job."""

import json
import weakref
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from accelerate import PartialState
from diffusers import DiffusionPipeline
from safetensors.torch import load_file

from sweeper.engine import cards, room, states
from sweeper.engine import training as training_module
from sweeper.engine.cards import GB, Card
from sweeper.engine.faults import CROWDED
from sweeper.engine.halving import halve
from sweeper.engine.handlers import HANDLERS, carry_out, stopper
from sweeper.engine.jobs import COMPLETE, Export, HandedBack, Kind, Reporter, Task
from sweeper.engine.queue import Queue
from sweeper.engine.training import Execution, Stopped
from sweeper.plan.inversions import inversions
from sweeper.store import Store, claim, is_claimed
from tests.suites import some_of
from tests.sweeper.tiny_sweep import trainings
from trainers import loop
from trainers.errors import SpecError
from trainers.files import remove_folder, saved_step
from trainers.loop import train
from trainers.spec import TRAINERS

OOM = torch.OutOfMemoryError


@pytest.fixture(scope="module")
def training(models):
    """lr=1e-4, two steps and four, batch 2."""
    torch.set_num_threads(1)
    return trainings(*models)[0]


def begin(training, root) -> Execution:
    (root / "jobs").mkdir()
    report = Reporter(Queue(root / "jobs").add(Task(Kind.TRAIN, training)))
    return Execution(training, Store(root / "store"), report, PartialState(cpu=True))


@pytest.fixture
def execution(training, tmp_path):
    return begin(training, tmp_path)


def scores(execution) -> list:
    store, training = execution.store, execution.training
    return [(p.step, store.scorecard(training.spec, p).values) for p in training.points]


@pytest.fixture(scope="module")
def undisturbed(training, tmp_path_factory):
    done = begin(training, tmp_path_factory.mktemp("undisturbed"))
    done.run()
    return done


def test_every_point_is_trained_sampled_and_scored(undisturbed):
    assert [step for step, _ in scores(undisturbed)] == [2, 4]
    assert not undisturbed.store.left(undisturbed.training).missing
    assert undisturbed.rates()["step"] > 0
    assert {"training", "sampling", "scoring", "baselines"} <= set(undisturbed.report.seconds)


def test_a_checkpoint_that_has_lost_is_deleted_and_the_training_goes_on_without_it(undisturbed, training, tmp_path):
    execution = begin(training, tmp_path)
    execution.discarded = lambda: [2]
    execution.stop = interrupted
    with pytest.raises(SystemExit):
        execution.run()
    store = execution.store
    assert not store.checkpoint(training.spec, 2).exists()
    assert store.left(training).trained == 2
    again = Execution(training, store, execution.report, PartialState(cpu=True))
    again.run()
    assert again.trained == 2  # steps
    assert scores(again) == scores(undisturbed)


def interrupted(step):
    raise SystemExit(143)


@pytest.mark.parametrize("trainer", some_of(["dreambooth", "textual_inversion"], ["dreambooth"]))
@pytest.mark.parametrize("score", [0.5, None])
def test_a_training_of_more_steps_goes_on_where_the_answer_may_ask_for_it(
    models, tmp_path, monkeypatch, trainer, score
):
    """score: of the last checkpoint, where it is the best one."""
    monkeypatch.setattr(states, "_score_to_extend", lambda training, store: score)
    (shorter,) = trainings(*models, "steps=2", "eval_every=0", f"trainer={trainer}")
    (longer,) = trainings(*models, "steps=4", "eval_every=0", f"trainer={trainer}")
    first = begin(shorter, tmp_path)
    first.run()
    again = Execution(longer, first.store, first.report, PartialState(cpu=True))
    assert first.store.left(longer).untrained == (2 if score else 4)
    again.run()
    assert again.trained == (2 if score else 4)
    (alone,) = train(longer.spec, [4], tmp_path / "alone")
    for file in alone.folder.rglob("*.safetensors"):
        other = load_file(again.store.checkpoint(longer.spec, 4) / file.relative_to(alone.folder))
        assert all(torch.equal(weight, other[name]) for name, weight in load_file(file).items())


def test_a_training_that_was_ended_early_leaves_no_state(training, tmp_path):
    execution = begin(training, tmp_path)
    execution.stop = lambda step: "its score is behind"
    with pytest.raises(Stopped):
        execution.run()
    assert saved_step(execution.store.training(training.spec)) == -1


@pytest.mark.parametrize("trainer", some_of(TRAINERS, ["dreambooth"]))
def test_evaluation_changes_no_weight(models, tmp_path, trainer):
    """Four steps evaluated at two against four steps that nobody looks at."""
    words = ["trainer.inversion_steps=2"] if trainer == "ti_dreambooth" else []
    (training,) = trainings(*models, f"trainer={trainer}", *words, "lr=1e-3")
    evaluated = begin(training, tmp_path)
    evaluated.run()
    assert evaluated.scorer.denoised > 0
    (alone,) = train(training.spec, [4], tmp_path / "alone", cache=tmp_path / "cache")
    files = sorted(alone.folder.rglob("*.safetensors"))
    assert files
    for file in files:
        other = load_file(evaluated.store.checkpoint(training.spec, 4) / file.relative_to(alone.folder))
        own = load_file(file)  # not the files' bytes: safetensors writes its metadata in any order
        assert own.keys() == other.keys()
        assert all(torch.equal(weight, other[name]) for name, weight in own.items())


def test_more_may_be_asked_of_a_checkpoint_later(undisturbed, training):
    """A slice of other noise, of which the training knows nothing."""
    point = training.points[-1]
    slice = replace(point, evaluation=replace(point.evaluation, seed=7))
    carry_out_alone(undisturbed, Task(Kind.SAMPLE, training, points=(slice,)))
    values = [undisturbed.store.scorecard(training.spec, each).values["dino"] for each in (point, slice)]
    assert values[0] != values[1]


@pytest.mark.options
def test_what_trainings_need_can_be_made_before(models, tmp_path):
    """By jobs of their own; then the training makes none of it, and is the same bit for bit."""
    words = ["prior_preservation=true", "trainer=ti_dreambooth", "trainer.inversion_steps=2", "eval_every=0", "steps=2"]
    (training,) = trainings(*models, *words)
    alone = begin(training, tmp_path)
    alone.run()
    (tmp_path / "shared").mkdir()
    shared = begin(training, tmp_path / "shared")
    for kind in (Kind.CLASS_IMAGES, Kind.INVERSION, Kind.BASELINE):
        carry_out_alone(shared, Task(kind, training, points=training.points))
    made = {path: path.stat().st_mtime_ns for path in shared.store.root.rglob("*") if path.suffix == ".png"}
    assert shared.store.has_class_images(training.spec)
    assert shared.store.has_baselines(training.spec, training.points[0])
    assert not any(each.left for each in inversions([shared.store.left(training)], shared.store.cache).values())
    shared.run()
    assert made.items() <= {path: path.stat().st_mtime_ns for path in made}.items()
    assert scores(shared) == scores(alone)


def carry_out_alone(execution, task):
    job = Queue(execution.report.job.path.parent).add(task)
    assert carry_out(job, execution.store, Reporter(job), PartialState(cpu=True)).state == COMPLETE


def test_who_waits_for_a_decision_leaves_where_nobody_is_left_to_take_it(training, tmp_path):
    queue = Queue(tmp_path)
    job = queue.add(Task(Kind.TRAIN, training, guided=True))
    stop = stopper(job, Store(tmp_path / "store"), Reporter(job))
    with pytest.raises(SystemExit):
        stop(2)
    job.decide(2, "its score is behind")
    with queue.attended():
        assert stop(2) == "its score is behind"


def test_every_kind_of_job_is_carried_out():
    assert set(HANDLERS) == set(Kind)


def test_a_checkpoint_is_exported_as_a_pipeline(undisturbed, tmp_path):
    undisturbed.export(Export(4, "ddim", True, tmp_path / "export"))
    pipeline = DiffusionPipeline.from_pretrained(tmp_path / "export")
    pipeline.set_progress_bar_config(disable=True)
    assert type(pipeline.scheduler).__name__ == "DDIMScheduler"
    images = pipeline("a photo of sks dog", num_inference_steps=2, height=16, width=16, output_type="np").images
    assert images.shape == (1, 16, 16, 3)


def test_a_deleted_checkpoint_is_not_exported_but_trained_and_scored_again(undisturbed, training, tmp_path):
    execution = begin(training, tmp_path)
    execution.run()
    store, folder = execution.store, execution.store.training(training.spec)
    remove_folder(store.checkpoint(training.spec, 4))
    with pytest.raises(FileNotFoundError, match="the checkpoint at step 4 was deleted"):
        execution.export(Export(4, "pndm", True, tmp_path / "again"))
    point = training.points[-1]
    slice = replace(point, evaluation=replace(point.evaluation, seed=7))
    old = {path: path.stat().st_mtime_ns for path in folder.glob("evaluations/*/scores.json")}
    execution.sample([slice])
    new = {path: path.stat().st_mtime_ns for path in folder.glob("evaluations/*/scores.json")}
    changed = {path.parent.name[:6] for path in old if new[path] != old[path]}
    assert changed == {"000004"}
    assert store.scorecard(training.spec, slice)
    assert scores(execution) == scores(undisturbed)
    execution.export(Export(4, "pndm", True, tmp_path / "again"))


@pytest.mark.options
def test_what_is_trained_again_for_another_way_of_sampling_is_scored_again_in_all(models, tmp_path):
    (training,) = trainings(*models, "scheduler=pndm,ddim", "eval_every=0", "steps=4")
    (known,) = trainings(*models, "scheduler=pndm", "eval_every=0", "steps=4")
    execution = begin(known, tmp_path)
    execution.run()
    store = execution.store
    (scored,) = store.training(known.spec).glob("evaluations/*/scores.json")
    stamp = scored.stat().st_mtime_ns
    remove_folder(store.checkpoint(known.spec, 4))
    Execution(training, store, execution.report, PartialState(cpu=True)).run()
    assert scored.stat().st_mtime_ns != stamp
    assert not store.left(training).missing


def test_what_the_card_cannot_do_is_refused_before_anything_is_loaded(models, tmp_path, monkeypatch):
    (training,) = trainings(*models, "mixed_precision=bf16")
    execution = begin(training, tmp_path)
    monkeypatch.setattr(room, "capability", lambda device: (7, 5))
    monkeypatch.setattr(Execution, "load", lambda self: pytest.fail("loaded"))
    with pytest.raises(SpecError, match="compute capability 7.5, and bf16 needs 8.0; take mixed_precision=fp16"):
        execution.run()


def test_the_evaluation_counts_where_memory_is_checked(execution, monkeypatch):
    asked = []
    monkeypatch.setattr(room, "check_fits", lambda *given: asked.append(given) or "")
    execution.run()
    ((spec, _, device, processes, needed, bf16),) = asked
    assert (spec, device, processes, bf16) == (execution.spec, "cpu", 1, True)
    assert needed.samples == tuple({point.sample for point in execution.training.points})
    assert needed.encoders > 0


def test_out_of_memory_halves_the_batch_once_and_says_so(execution, monkeypatch):
    batches = []

    def too_large(spec, *args, **kwargs):
        batches.append((spec.batch_size, spec.gradient_accumulation_steps))
        if spec.batch_size > 1:
            raise torch.OutOfMemoryError("out of memory")
        yield from real(spec, *args, **kwargs)

    real = training_module.train
    monkeypatch.setattr(training_module, "train", too_large)
    execution.run()
    assert batches == [(2, 1), (1, 2)]
    assert json.loads(execution.store.note(execution.spec).read_text()) == (
        "out of memory with batch 2 x 1; trained with 1 x 2 (batch size x accumulation)"
    )
    assert not execution.store.left(execution.training).missing


def test_out_of_memory_leaves_nothing_of_the_old_training_alive(training, tmp_path, monkeypatch):
    """When the second one begins: no weights, no gradients, no state of the optimizer. With autocast, which accelerate
    makes refer to itself."""
    execution = begin(replace(training, spec=replace(training.spec, mixed_precision="bf16")), tmp_path)
    old, alive = [], []

    def step(context, state):
        if context.spec.batch_size > 1 and state.step == 3:
            learned = list(state.learner.learned().values())
            moments = [moment for state in state.optimizer.state.values() for moment in state.values()]
            assert moments
            old.extend(weakref.ref(each) for each in (context.network, state.learner, *learned, *moments))
            raise torch.OutOfMemoryError("out of memory")
        return real_step(context, state)

    def start(spec, *args):
        alive.append([each() for each in old if each() is not None])
        return real_start(spec, *args)

    real_step, real_start = loop._optimizer_step, loop._start
    monkeypatch.setattr(loop, "_optimizer_step", step)
    monkeypatch.setattr(loop, "_start", start)
    execution.run()
    assert old
    assert alive == [[], []]
    assert not execution.store.left(execution.training).missing


def test_a_batch_that_was_halved_stays_so(execution, monkeypatch):
    """A training that goes on in another process does not run out of memory once more before it knows."""
    seen = []

    def noted(spec, *args, **kwargs):
        seen.append((spec.batch_size, spec.gradient_accumulation_steps))
        return real(spec, *args, **kwargs)

    real = training_module.train
    monkeypatch.setattr(training_module, "train", noted)
    halve(execution.spec, execution.store, 1)
    execution.run()
    assert seen == [(1, 2)]


def test_memory_that_other_programs_hold_changes_no_training(execution, monkeypatch):
    """It is the device's fault: another worker is to do the same."""
    card = Card()
    card.name, card.total = "GPU-a", 24 * GB  # and nothing free
    monkeypatch.setattr(cards, "card", card)
    with pytest.raises(HandedBack, match=r"other programs hold 24\.0 of its 24\.0 GB") as raised:
        halve(execution.spec, execution.store, 1)
    assert raised.value.fault.kind == CROWDED
    assert not execution.store.halved(execution.spec).exists()


@pytest.mark.parametrize(
    ("error", "batches"), [("CUDA error: CUBLAS_STATUS_ALLOC_FAILED", [2, 1]), ("no kernel image", [2])]
)
def test_other_libraries_say_in_their_words_that_memory_ran_out(execution, monkeypatch, error, batches):
    tried = []

    def too_large(spec, *args, **kwargs):
        tried.append(spec.batch_size)
        raise RuntimeError(error)
        yield

    execution.untuned = None
    monkeypatch.setattr(training_module, "train", too_large)
    with pytest.raises(RuntimeError, match=error):
        list(execution._checkpoints([4], None, lambda: False))
    assert tried == batches


@pytest.mark.parametrize(("batch", "processes", "raised"), [(2, 1, None), (4, 2, HandedBack), (2, 2, OOM), (3, 1, OOM)])
def test_one_of_several_processes_does_not_try_again_alone(training, tmp_path, monkeypatch, batch, processes, raised):
    """It hands the job back, and whoever takes it begins with half the batch. What cannot be halved has failed."""
    spec = replace(training.spec, batch_size=batch)
    execution = begin(replace(training, spec=spec), tmp_path)
    execution.process, execution.untuned = SimpleNamespace(num_processes=processes, is_main_process=True), None
    tried = []

    def too_large(spec, *args, **kwargs):
        tried.append(spec.batch_size)
        if len(tried) == 1:
            raise OOM("out of memory")
        yield "checkpoint"

    monkeypatch.setattr(training_module, "train", too_large)
    with pytest.raises(raised) if raised else nullcontext():
        assert list(execution._checkpoints([4], None, lambda: False)) == ["checkpoint"]
    assert execution.store.halved(spec).exists() == (raised is not OOM)
    assert tried == ([2, 1] if raised is None else [batch])


def test_out_of_memory_with_the_smallest_batch_is_a_failure(execution, monkeypatch):
    def too_large(*args, **kwargs):
        raise torch.OutOfMemoryError("out of memory")
        yield

    monkeypatch.setattr(training_module, "train", too_large)
    with pytest.raises(torch.OutOfMemoryError):
        execution.run()


def test_a_stop_between_two_steps_loses_none(execution, undisturbed, monkeypatch):
    trained = Execution._trained

    def stop_after_three(self, step, loss):
        monkeypatch.setattr(Reporter, "stopping", step == 3)
        trained(self, step, loss)

    monkeypatch.setattr(Execution, "_trained", stop_after_three)
    with pytest.raises(SystemExit):
        execution.run()
    assert saved_step(execution.store.training(execution.spec)) == 3
    monkeypatch.setattr(Reporter, "stopping", False)
    seen = []
    monkeypatch.setattr(Execution, "_trained", lambda self, step, loss: seen.append(step))
    execution.run()
    assert seen == [4]
    assert scores(execution) == scores(undisturbed)


def test_a_job_is_taken_once_and_a_claimed_training_is_left_for_later(training, tmp_path):
    folder, store = tmp_path / "jobs", Store(tmp_path / "store")
    folder.mkdir()
    queue = Queue(folder)
    job = queue.add(Task(Kind.TRAIN, training))
    assert job.training == training
    with claim(store.training(training.spec)):
        assert is_claimed(store.training(training.spec))
        with queue.take(store) as none:
            assert none is None
    with queue.take(store) as first, Queue(folder).take(store) as second:
        assert (first, second) == (job, None)
        assert not job.died
    assert job.died  # its claim is gone, and there is no outcome
    with queue.take(store) as again:
        assert again is None
    job.give_back("the process ended with code -9")
    with queue.take(store) as again:
        assert again == job


def test_a_job_that_was_handed_back_counts_no_attempt(training, tmp_path):
    (tmp_path / "jobs").mkdir()
    job = Queue(tmp_path / "jobs").add(Task(Kind.TRAIN, training))
    job.give_back("the process ended with code -9")
    job.hand_back(1, "half the batch")
    job.fail_together(0, "RuntimeError: [gloo] Connection closed by peer")
    assert job.back == ["half the batch"]
    job.give_back("the process ended with code 1")
    assert (job.lost, job.back) == (["the process ended with code -9"], [])


def test_a_consequence_is_no_cause(training, tmp_path):
    (tmp_path / "jobs").mkdir()
    job = Queue(tmp_path / "jobs").add(Task(Kind.TRAIN, training))
    job.fail_together(0, "RuntimeError: [gloo] Connection closed by peer")
    job.fail_together(1, "TrainingDiverged: loss is nan")
    assert job.causes == ["TrainingDiverged: loss is nan"]
