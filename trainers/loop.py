"""The training loop: a generator of checkpoints.

The checkpoint at step n is, bit for bit on a CPU, what a training of exactly n steps gives, wherever it was stopped and
resumed, and whatever was sampled in between: what is drawn depends on the seed and the step alone, never on the global
generator, and nothing but the schedules that need it knows how long the training is.
"""

import contextlib
import functools
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils.memory import clear_device_cache
from diffusers.training_utils import EMAModel
from filelock import FileLock
from torch import Tensor

from trainers.checkpoint import Checkpoint, TrainState
from trainers.data import Batch, ImageStream, generator, make_streams
from trainers.device import phase
from trainers.errors import SpecError
from trainers.families import family_of
from trainers.families.base import Components, ForwardProcess
from trainers.files import saved_step
from trainers.full import Full
from trainers.learner import ConditioningCache, Learner, has_dropout
from trainers.lora import Lora
from trainers.loss import denoising_losses, total
from trainers.optimizers import make_optimizer, make_schedule
from trainers.precision import FP32
from trainers.processes import agreed, wait_for_all
from trainers.sizes import SAVE_EVERY
from trainers.spec import TrainSpec
from trainers.stages import inversion_stage
from trainers.textual_inversion import TextualInversion
from trainers.validate import validate

Progress = Callable[[int, float], None]  # step, the last loss that is known
clock = time.monotonic
# Steps between two readings of their losses, by type of device: a GPU has to be waited for.
READ_EVERY = {"cpu": 1, "cuda": 50}  # and others as cuda
LEARNERS: dict[str, type[Learner]] = {
    "dreambooth": Full,
    "dreambooth_lora": Lora,
    "textual_inversion": TextualInversion,
    "ti_dreambooth": Full,
}


@dataclass(frozen=True)
class TrainingContext:
    """What does not change while training."""

    spec: TrainSpec
    accelerator: Accelerator
    network: torch.nn.Module  # the learner as accelerate wraps it
    weights: list[torch.nn.Parameter]  # that learn
    streams: list[ImageStream]  # of the instance images and, with prior preservation, of the class images
    process: ForwardProcess
    conditioning: ConditioningCache
    has_dropout: bool

    @property
    def share(self) -> slice:
        """This process's rows of the batch."""
        size = self.spec.per_process(self.accelerator.num_processes)
        return slice(size * self.accelerator.process_index, size * (self.accelerator.process_index + 1))


def train(
    spec: TrainSpec,
    steps: Sequence[int],
    folder: Path,
    *,
    class_images: Path | None = None,
    cache: Path | None = None,
    components: Components | None = None,
    original: TrainSpec | None = None,
    precision: str = FP32,
    progress: Progress = lambda step, loss: None,
    goes_on: Callable[[], bool] = lambda: True,
) -> Generator[Checkpoint]:
    """Trains as `spec` says and yields the checkpoint at each of `steps` (optimizer steps), in order.

    A checkpoint that is in `folder` is yielded as it is; the others are trained, from the latest state in `folder`
    where there is one. `components` are the untuned weights, loaded by the family if not given. `cache` is a folder
    for what trainings share, `folder` if not given. `original` is what `spec` was before its batch had to be halved: an
    inversion that was learned with it is used. `precision` is that of the checkpoints on disk; what learns is fp32.
    `progress` gets (step, loss), on a GPU the last loss that was read, NaN before the first; the steps of a textual
    inversion before a `ti_dreambooth` count up to 0. Run by several processes under accelerate, each yields the same
    checkpoints.

    The state is saved every `SAVE_EVERY` seconds of training, where `progress` raises, and where no more checkpoints
    are taken (they all were, or the generator is closed) and `goes_on` says that the training may go on from there.

    Raises:
        SpecError: a setting that no training can have.
        TrainingDiverged: the loss is NaN or infinite.
    """
    validate(spec)
    context: TrainingContext | None = None
    state: TrainState | None = None

    def save_end() -> None:
        if context is not None and state is not None and context.accelerator.is_main_process and goes_on():
            state.save(folder)

    try:
        for step in sorted(set(steps)):
            checkpoint = Checkpoint(folder, step, spec.model, components)
            if not checkpoint.serves(precision):
                with phase(tf32=spec.trainer.tf32):  # not around the yield: others compute there
                    if context is None or state is None:
                        context, state = _start(spec, original, components, class_images, cache or folder, progress)
                        if 0 <= saved_step(folder) <= step:
                            state.load(folder)
                    _train_to(step, context, state, folder, progress)
                    if context.accelerator.is_main_process:
                        state.save_checkpoint(checkpoint, precision)
                    wait_for_all()
            yield checkpoint
        save_end()
    except GeneratorExit:
        save_end()
        raise
    finally:
        context = state = None
        clear_device_cache(garbage_collection=True)  # what accelerate wraps refers to itself


def _train_to(step: int, context: TrainingContext, state: TrainState, folder: Path, progress: Progress) -> None:
    """Trains up to a step. All processes read the losses at the same ones, so that all see a training diverge; there
    they agree on whether it is time to save."""
    read_every = READ_EVERY.get(context.accelerator.device.type, READ_EVERY["cuda"])
    main = context.accelerator.is_main_process
    alone = context.accelerator.num_processes == 1
    while state.step < step:
        begin = clock()
        _optimizer_step(context, state)
        reads = state.step % read_every == 0
        if reads:
            state.read_losses()
        if main:
            _report(progress, state, folder)
        state.unsaved += clock() - begin
        due = state.unsaved >= SAVE_EVERY
        if due if alone else reads and agreed(due):
            if main:
                state.save(folder)
            wait_for_all()  # in a collective of the next step they would keep their devices busy
    state.read_losses()


def _report(progress: Progress, state: TrainState, folder: Path) -> None:
    """Calls `progress` after a step. It may raise to stop the training there; then the state is saved first."""
    try:
        progress(state.step, state.losses[-1] if state.losses else math.nan)
    except BaseException:
        state.save(folder)
        raise


def _optimizer_step(context: TrainingContext, state: TrainState) -> None:
    """One step of the optimizer, over all accumulation steps and processes. Nothing in it waits for the device."""
    spec = context.spec
    accelerator = context.accelerator
    stop = spec.trainer.text_encoder_stop_step
    state.learner.text_stopped = stop is not None and state.step >= stop
    accumulation = spec.gradient_accumulation_steps
    summed = torch.zeros((), device=accelerator.device)
    for i in range(accumulation):
        position = state.step * accumulation + i
        parts = [s.batch(position, spec.batch_size, context.share, accelerator.device) for s in context.streams]
        last = i == accumulation - 1
        with contextlib.nullcontext() if last else accelerator.no_sync(context.network):
            part = _loss(context, Batch.of(parts), position) / accumulation
            accelerator.backward(part)
        summed += part.detach()
    clipped = accelerator.clip_grad_norm_(context.weights, spec.trainer.max_grad_norm)
    state.optimizer.step()
    state.schedule.step()
    state.optimizer.zero_grad(set_to_none=True)
    if state.ema is not None:
        state.ema.step(context.weights)
    state.step += 1
    state.unread.append(torch.stack([accelerator.reduce(summed, "mean"), clipped]))


def _loss(context: TrainingContext, batch: Batch, position: int) -> Tensor:
    """The loss of one accumulation step, a scalar."""
    spec = context.spec
    process = context.process
    text, rows = context.conditioning(batch.prompts)
    noisy = process.noised(batch.latents, batch.noise, batch.timesteps)
    with _dropout_from(context, position):
        prediction = context.network(noisy, batch.timesteps, text, rows)
    losses = denoising_losses(prediction, process.target(batch.latents, batch.noise, batch.timesteps))
    weights = process.weights(batch.timesteps, spec.trainer.min_snr_gamma)
    if weights is not None:
        losses = losses * weights
    return total(losses, batch.instances, spec.prior.weight if spec.prior else 0.0)


@contextlib.contextmanager
def _dropout_from(context: TrainingContext, position: int) -> Iterator[None]:
    """Dropout is all that draws from the global generators: it gets a seed of its own, and they are put back."""
    if not context.has_dropout:
        yield
        return
    accelerator = context.accelerator
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        purpose = ("dropout", position, accelerator.process_index)
        torch.manual_seed(generator(context.spec.seed, *purpose).initial_seed())
        yield


def _start(
    spec: TrainSpec,
    original: TrainSpec | None,
    components: Components | None,
    class_images: Path | None,
    cache: Path,
    progress: Progress,
) -> tuple[TrainingContext, TrainState]:
    """The training before its first step."""
    accelerator = _accelerator(spec)
    family = family_of(spec.model)
    components = components if components is not None else family.load(spec.model)
    if spec.trainer.name == "ti_dreambooth":
        components = inverted([s for s in (original, spec) if s], components, cache, progress)
    learner = LEARNERS[spec.trainer.name](components, spec)
    learner.to(accelerator.device)
    learner.configure()
    optimizer = make_optimizer(spec, learner.parameter_groups())
    network, optimizer = accelerator.prepare(learner, optimizer)
    process = family.forward_process(components, accelerator.device)
    streams = make_streams(spec, components, process, class_images, cache, accelerator.device)
    weights = list(learner.learned().values())
    on_gpu = accelerator.device.type == "cuda"  # on a CPU `foreach` rounds otherwise
    state = TrainState(
        learner=learner,
        optimizer=optimizer,
        schedule=make_schedule(spec, optimizer.optimizer),
        scaler=accelerator.scaler,
        ema=EMAModel(weights, spec.trainer.ema_decay, foreach=on_gpu) if spec.trainer.ema_decay else None,
    )
    conditioning = ConditioningCache(learner, accelerator.device)
    context = TrainingContext(spec, accelerator, network, weights, streams, process, conditioning, has_dropout(learner))
    return context, state


def inverted(specs: list[TrainSpec], components: Components, cache: Path, progress: Progress) -> Components:
    """`components` with the word that a textual inversion learned, which is trained once for all that start from it.

    The inversion is that of the first of `specs` for which one is complete, else that of the last."""
    steps = specs[-1].trainer.inversion_steps
    inversions = cache / "inversions"
    stages = [inversion_stage(spec) for spec in specs]
    complete = (s for s in stages if Checkpoint(inversions / s.signature, steps, s.model).complete)
    stage = next(complete, stages[-1])
    folder = inversions / stage.signature
    folder.mkdir(parents=True, exist_ok=True)
    process = PartialState()
    with FileLock(folder / ".lock") if process.is_main_process else contextlib.nullcontext():
        wait_for_all()  # from here all processes see the same checkpoints
        shown = functools.partial(_before_zero, progress, steps)
        (inversion,) = train(stage, [steps], folder, cache=cache, components=components, progress=shown)
    return inversion.components()


def _before_zero(progress: Progress, steps: int, step: int, loss: float) -> None:
    progress(step - steps, loss)


def _accelerator(spec: TrainSpec) -> Accelerator:
    AcceleratorState._reset_state()  # else a process keeps the precision of its first training
    several = DistributedDataParallelKwargs(
        find_unused_parameters=spec.trainer.text_encoder_stop_step is not None,
        gradient_as_bucket_view=True,  # gradients lie in the buckets rather than beside them
    )
    accelerator = Accelerator(mixed_precision=spec.mixed_precision, kwargs_handlers=[several])
    if spec.mixed_precision == "fp16" and accelerator.device.type == "cpu":  # accelerate would train in fp32
        raise SpecError("mixed_precision=fp16 needs a GPU and there is none; no or bf16")
    if spec.batch_size % accelerator.num_processes:
        raise SpecError(
            f"batch_size={spec.batch_size} cannot be shared by {accelerator.num_processes} processes; take a multiple"
        )
    return accelerator
