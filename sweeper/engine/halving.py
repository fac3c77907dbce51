"""What is left to try when a training is out of memory."""

from dataclasses import replace

from trainers.spec import TrainSpec


def halved(spec: TrainSpec) -> TrainSpec:
    """Half the batch and twice the accumulation: the same images in each optimizer step, in half the memory."""
    return replace(
        spec, batch_size=spec.batch_size // 2, gradient_accumulation_steps=2 * spec.gradient_accumulation_steps
    )


def memory_note(spec: TrainSpec, smaller: TrainSpec) -> str:
    before, after = (f"{s.batch_size} x {s.gradient_accumulation_steps}" for s in (spec, smaller))
    return f"out of memory with batch {before}; trained with {after} (batch size x accumulation)"
