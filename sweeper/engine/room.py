"""Whether a device can hold a training, and do what it asks for; asked before anything is loaded."""

import torch

from evaluation.memory import beside
from sweeper.plan.types import Training
from trainers.memory import capability, check_fits
from trainers.validate import AMPERE, check_capability


def check_device(training: Training, device: torch.device, processes: int, available: int) -> str:
    """A warning where `available` bytes may not suffice for the training with the evaluation of its checkpoints.

    Raises:
        SpecError: it needs clearly more, or a precision that the device does not have.
    """
    samples = [point.sample for point in training.points]
    able = capability(device)
    check_capability(training.spec, samples, "this card", able)
    needed = beside(samples, [point.evaluation for point in training.points])
    return check_fits(training.spec, available, device.type, processes, needed, able >= AMPERE)
