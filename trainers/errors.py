"""What can be wrong with a training, said in one line: the value, what is allowed, what to do."""

from pathlib import Path


class SpecError(ValueError):
    """A setting, or a combination of settings, that no training can have."""


class BrokenFile(SpecError):
    """A file of ours that holds something else than was written into it."""

    def __init__(self, path: Path, why: object):
        super().__init__(f"{path} cannot be read ({why}): move it away, then the same command goes on without it.")


class DoesNotFit(SpecError):
    """A training that needs more memory than its device has."""


class ImageError(SpecError):
    """A folder of images that holds something else, or nothing."""


class TrainingDiverged(RuntimeError):
    """The loss or the norm of its gradient became NaN or infinite."""

    def __init__(self, step: int, loss: float, norm: float, settings: str):
        super().__init__(
            f"loss is {loss} and gradient norm {norm} at step {step} with {settings}; "
            "a lower lr, warm-up or mixed_precision=no may help"
        )
        self.step = step
        self.loss = loss
        self.norm = norm
        self.settings = settings

    def __reduce__(self) -> tuple[type["TrainingDiverged"], tuple[int, float, float, str]]:
        return type(self), (self.step, self.loss, self.norm, self.settings)
