"""What is left to try when a training is out of memory, and that it is remembered: a training that goes on later, or in
another process, decides the same."""

from dataclasses import replace

from sweeper.engine import cards
from sweeper.engine.cards import crowded
from sweeper.engine.jobs import HandedBack
from sweeper.store import Store
from trainers.files import write_json
from trainers.spec import TrainSpec


def halved(spec: TrainSpec) -> TrainSpec:
    """Half the batch and twice the accumulation: the same images in each optimizer step, in half the memory."""
    return replace(
        spec, batch_size=spec.batch_size // 2, gradient_accumulation_steps=2 * spec.gradient_accumulation_steps
    )


def memory_note(spec: TrainSpec, smaller: TrainSpec) -> str:
    before, after = (f"{s.batch_size} x {s.gradient_accumulation_steps}" for s in (spec, smaller))
    return f"out of memory with batch {before}; trained with {after} (batch size x accumulation)"


def remembered(spec: TrainSpec, store: Store) -> TrainSpec:
    """The training as it runs: with half the batch, once it was out of memory."""
    return halved(spec) if store.halved(spec).exists() else spec


def can_halve(spec: TrainSpec, runs: TrainSpec, processes: int) -> bool:
    """Of a training that runs as `runs`: not a second time."""
    return runs == spec and spec.batch_size % (2 * processes) == 0


def halve(spec: TrainSpec, store: Store, processes: int) -> TrainSpec:
    """The training as it runs from now on, as it was out of memory. That is noted, for whoever goes on with it and for
    who reads its results.

    Raises:
        HandedBack: other programs have the memory, and that changes no training; or of several processes one alone must
            not go on, as the others wait for it in a collective.
    """
    fault = crowded(cards.card)
    if fault:
        raise HandedBack(fault.reason, fault)
    smaller = halved(spec)
    note = memory_note(spec, smaller)
    write_json(store.note(spec), note)
    write_json(store.halved(spec), {"batch_size": smaller.batch_size})
    if processes > 1:
        raise HandedBack(note)
    return smaller
