"""What torch does on a device: its flags in each phase of the work, copies that do not wait, and how it says that there
is too little memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def phase(tf32: bool = False) -> Iterator[None]:
    """What torch does with fp32 on a GPU while training, sampling or scoring; afterwards its flags are as they were.

    Only a training may ask for TF32: samples and scores are the same whatever was trained before them. cuDNN does not
    measure its algorithms (`benchmark`), as it would choose others in another process. `deterministic` is left alone:
    some backward passes add up in no fixed order, so a training on a GPU repeats itself but for rounding.
    """
    matmul = torch.backends.cuda.matmul
    cudnn = torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    matmul.allow_tf32 = cudnn.allow_tf32 = tf32
    cudnn.benchmark = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before


# In the messages of CUDA's own libraries, which take memory that torch's allocator knows nothing of.
NO_MEMORY = ("out of memory", "alloc_failed", "allocation_failed")


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether a device has too little memory: torch's allocator says so, or CUDA and its libraries in their words."""
    said = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in said for words in NO_MEMORY)
    )


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`. To a GPU it goes through pinned memory: an ordinary copy waits for all that the GPU has
    yet to do."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
