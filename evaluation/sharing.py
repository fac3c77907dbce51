"""Several processes sample the images of one evaluation; the first then scores them."""

from collections.abc import Sequence
from pathlib import Path

import torch

from evaluation.files import image_path
from evaluation.sample import sample_batch
from evaluation.spec import fill
from trainers.families.base import Components
from trainers.spec import SampleSpec

Share = tuple[int, int]  # which of how many processes


def sample_share(
    components: Components,
    spec: SampleSpec,
    words: str,
    prompts: Sequence[str],
    images_per_prompt: int,
    seed: int,
    folder: Path,
    *,
    share: Share,
    device: torch.device | str = "cpu",
    batch_size: int = 16,
    first: tuple[int, int] = (0, 0),
) -> None:
    """The PNGs of every n-th batch of `sample_images`, which draws what is still missing once all have their share.

    On a CPU the batches are those of one process, so that the images are the same bits; elsewhere they are as small as
    needed for each process to have one. What does not fit the device's memory is left for the first process.
    """
    texts = [fill(prompt, words) for prompt in prompts]
    wanted = [(p, k) for p in range(len(texts)) for k in range(images_per_prompt)]
    number, processes = share
    if torch.device(device).type != "cpu":
        batch_size = min(batch_size, -(-len(wanted) // processes))
    batches = [wanted[start : start + batch_size] for start in range(0, len(wanted), batch_size)]
    for batch in batches[number::processes]:
        if all(image_path(folder, p, k).exists() for p, k in batch):
            continue
        try:
            sample_batch(components, spec, texts, batch, seed, folder, device, first)
        except torch.OutOfMemoryError:
            return
