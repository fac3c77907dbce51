"""The licence to share: a checkpoint at step n is bit for bit what a training of exactly n steps gives."""

import itertools
import shutil

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from tests.suites import some_of
from trainers import files, loop
from trainers.checkpoint import TrainState
from trainers.families import family_of
from trainers.files import read_json
from trainers.loop import train
from trainers.spec import SampleSpec

EVERYTHING = {
    "prior": True,
    "train_text_encoder": True,
    "gradient_accumulation_steps": 2,
    "trainer": {
        "lr_schedule": "constant_with_warmup",
        "lr_warmup_steps": 3,
        "ema_decay": 0.9,
        "text_encoder_stop_step": 3,
        "random_flip": True,
        "offset_noise": 0.1,
    },
}


@pytest.fixture(params=some_of(["plain", "everything", "dropout"], ["plain"]))
def spec(request, make_spec):
    if request.param == "plain":
        return make_spec()
    return make_spec("dropout" if request.param == "dropout" else "v_prediction", **EVERYTHING)


def weights(checkpoint):
    files = sorted(checkpoint.folder.rglob("*.safetensors"))
    assert files
    return {f"{file.parent.name}/{name}": w for file in files for name, w in load_file(file).items()}


def assert_equal(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def run(spec, steps, folder, class_folder, **kwargs):
    return list(train(spec, steps, folder, class_images=class_folder, **kwargs))


def test_checkpoint_equals_a_training_of_its_length(spec, tmp_path, class_folder):
    shared = run(spec, [2, 4, 5], tmp_path / "shared", class_folder)
    for checkpoint in shared:
        (alone,) = run(spec, [checkpoint.step], tmp_path / str(checkpoint.step), class_folder)
        assert_equal(checkpoint, alone)
    assert weights(shared[0])["unet/conv_in.weight"].ne(weights(shared[1])["unet/conv_in.weight"]).any()


@pytest.fixture
def a_second_a_step(monkeypatch):
    """A clock by which every step of the optimizer takes a second; returns what sets the seconds between two states."""
    ticks = itertools.count()
    monkeypatch.setattr(loop, "clock", lambda: next(ticks))
    return lambda seconds: monkeypatch.setattr(loop, "SAVE_EVERY", seconds)


@pytest.mark.parametrize(
    ("save_every", "hard", "saved"), [(3, True, 3), (3.5, True, -1), (3, False, 4), (3.5, False, 4)],
)  # fmt: skip
def test_interrupted_and_resumed_equals_uninterrupted(
    save_every, hard, saved, spec, tmp_path, class_folder, a_second_a_step
):
    """Killed in its fourth step, a training goes on from its last state; stopped, from the very step."""
    a_second_a_step(save_every)
    whole = run(spec, [2, 5], tmp_path / "whole", class_folder)[-1]
    interrupted = tmp_path / "interrupted"
    with pytest.MonkeyPatch.context() as patched:

        def stop(step, loss):
            if step == 4:
                if hard:
                    patched.setattr(TrainState, "save", lambda self, training: None)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(spec, [2, 5], interrupted, class_folder, progress=stop)
    assert files.saved_step(interrupted) == saved
    trained = []
    resumed = run(spec, [2, 5], interrupted, class_folder, progress=lambda step, loss: trained.append(step))[-1]
    assert trained == list(range(max(saved, 0) + 1, 6))
    assert_equal(whole, resumed)
    assert read_json(interrupted / "loss.json") == read_json(tmp_path / "whole" / "loss.json")


def test_what_takes_no_training_does_not_count_until_the_next_state(make_spec, tmp_path, class_folder, a_second_a_step):
    a_second_a_step(3)
    saved = []
    for checkpoint in train(make_spec(), [1, 2, 3, 4], tmp_path, class_images=class_folder):
        saved.append(files.saved_step(tmp_path))
        assert read_json(tmp_path / "loss.json")["loss"][checkpoint.step - 1 :]  # the curve is there all the same
        for _ in range(100):
            loop.clock()
    assert saved == [-1, -1, 3, 3]


def test_several_processes_save_together_where_they_read_losses(make_spec, tmp_path, monkeypatch, a_second_a_step):
    """The others wait on the processor meanwhile, rather than in a collective, which keeps a GPU busy."""
    happened = []
    save = TrainState.save
    a_second_a_step(1)
    monkeypatch.setattr(loop, "READ_EVERY", {"cpu": 2, "cuda": 2})
    monkeypatch.setattr(Accelerator, "num_processes", 2)
    monkeypatch.setattr(loop, "agreed", lambda due: happened.append("agree") or due)
    monkeypatch.setattr(loop, "wait_for_all", lambda: happened.append("wait"))
    monkeypatch.setattr(TrainState, "save", lambda state, folder: happened.append(state.step) or save(state, folder))
    training = train(make_spec(batch_size=2), [5], tmp_path, goes_on=lambda: False)
    next(training)
    assert happened == ["agree", 2, "wait", "agree", 4, "wait", "wait"]  # the last once the checkpoint is written


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_training_that_nobody_takes_more_of_saves_its_state_where_it_may_go_on(
    goes_on, make_spec, tmp_path, class_folder
):
    def begun(steps, folder):
        return train(make_spec(), steps, tmp_path / folder, class_images=class_folder, goes_on=lambda: goes_on)

    list(begun([1, 2], "ended"))
    closed = begun([1, 2], "closed")
    next(closed)
    closed.close()
    assert files.saved_step(tmp_path / "ended") == (2 if goes_on else -1)
    assert files.saved_step(tmp_path / "closed") == (1 if goes_on else -1)


def test_a_finished_training_is_extended(spec, tmp_path, class_folder):
    whole = run(spec, [5], tmp_path / "whole", class_folder)[-1]
    run(spec, [3], tmp_path / "extended", class_folder)
    trained = []
    extended = run(spec, [5], tmp_path / "extended", class_folder, progress=lambda step, loss: trained.append(step))[-1]
    assert trained == [4, 5]
    assert_equal(whole, extended)


def test_a_stop_while_a_state_replaces_another_loses_neither(make_spec, tmp_path, class_folder, monkeypatch):
    spec = make_spec()
    whole = run(spec, [4], tmp_path / "whole", class_folder)[-1]
    run(spec, [2], tmp_path / "cut", class_folder)

    def cut(folder):
        if folder.exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(files, "remove_folder", cut)
        with pytest.raises(KeyboardInterrupt):
            run(spec, [3], tmp_path / "cut", class_folder)
    assert files.saved_step(tmp_path / "cut") == 3
    seen = []
    resumed = run(spec, [4], tmp_path / "cut", class_folder, progress=lambda step, loss: seen.append(step))[-1]
    assert seen == [4]
    assert_equal(whole, resumed)
    assert [folder.name for folder in (tmp_path / "cut/state").iterdir()] == ["000004"]


def test_an_earlier_checkpoint_is_trained_anew_and_the_later_state_kept(make_spec, tmp_path, class_folder):
    spec = make_spec()
    later = run(spec, [4], tmp_path, class_folder)[0]
    (earlier,) = run(spec, [2], tmp_path, class_folder)
    (alone,) = run(spec, [2], tmp_path / "alone", class_folder)
    assert_equal(earlier, alone)
    assert files.saved_step(tmp_path) == 4
    assert later.complete
    assert len(read_json(tmp_path / "loss.json")["loss"]) == 4


def test_complete_checkpoints_are_yielded_without_training(make_spec, tmp_path, class_folder):
    spec = make_spec()
    run(spec, [1, 2], tmp_path, class_folder)
    shutil.rmtree(tmp_path / "state")  # nothing but the checkpoints is needed

    def fail(step, loss):
        raise AssertionError(f"trained step {step}")

    assert [c.step for c in run(spec, [2, 1, 2], tmp_path, class_folder, progress=fail)] == [1, 2]


def test_sampling_in_between_disturbs_nothing(make_spec, tmp_path, class_folder):
    spec = make_spec("dropout", **EVERYTHING)
    undisturbed = run(spec, [1, 3], tmp_path / "undisturbed", class_folder)[-1]
    family = family_of(spec.model)
    for checkpoint in train(spec, [1, 3], tmp_path / "sampled", class_images=class_folder):
        torch.manual_seed(checkpoint.step)
        torch.rand(7)
        family.sample(
            checkpoint.components(),
            ["a photo of sks dog"],
            torch.randn(1, 4, 8, 8),
            SampleSpec("euler_a", inference_steps=2),
            [torch.Generator().manual_seed(0)],
        )
    assert_equal(undisturbed, checkpoint)


def test_the_global_generator_is_not_touched(make_spec, tmp_path, class_folder):
    spec = make_spec("dropout", **EVERYTHING)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    run(spec, [2], tmp_path, class_folder)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_state_that_is_mapped_into_memory_is_the_same(spec, tmp_path, class_folder, monkeypatch):
    """As it is read where a GPU trains."""
    (whole,) = run(spec, [4], tmp_path / "whole", class_folder)
    run(spec, [2], tmp_path / "resumed", class_folder)
    read = []

    def mapped(*args, **kwargs):
        assert not kwargs["mmap"]  # here a CPU trains
        read.append(args)
        return load(*args, **{**kwargs, "mmap": True})

    load = torch.load
    monkeypatch.setattr(torch, "load", mapped)
    (resumed,) = run(spec, [4], tmp_path / "resumed", class_folder)
    assert len(read) == 1
    assert_equal(whole, resumed)
