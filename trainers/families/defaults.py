"""What each family can do, and the defaults of its own scripts. The plan reads it, so it imports nothing heavy.

Where nothing is typed, `conf/` decides. Of the defaults here `lr_scale` and the scheduler of an export are read so far.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from trainers.spec import SCHEDULERS


@dataclass(frozen=True)
class TrainerDefaults:
    """The defaults of one trainer in a family."""

    lr: float
    lr_scale: float = 1.0  # effective lr = lr * lr_scale


@dataclass(frozen=True)
class FamilyDefaults:
    """The defaults of a family, as its own documentation and scripts have them."""

    resolution: int  # pixels
    mixed_precision: str  # no | fp16 | bf16
    lora_rank: int
    lora_targets: tuple[str, ...]  # layers of the network that learns
    lora_text_targets: tuple[str, ...]  # layers of the text encoders; empty: they have no adapters
    scheduler: str
    schedulers: tuple[str, ...]  # all that the family can be sampled with
    inference_steps: int
    guidance_scale: float
    trainers: Mapping[str, TrainerDefaults]  # all that the family can be trained with


DEFAULTS: Mapping[str, FamilyDefaults] = {
    "stable_diffusion": FamilyDefaults(
        resolution=512,
        mixed_precision="no",
        lora_rank=4,
        lora_targets=("to_q", "to_k", "to_v", "to_out.0"),
        lora_text_targets=("q_proj", "k_proj", "v_proj", "out_proj"),
        scheduler="pndm",
        schedulers=SCHEDULERS,
        inference_steps=25,
        guidance_scale=7.5,
        trainers={
            "dreambooth": TrainerDefaults(lr=2e-6),
            "dreambooth_lora": TrainerDefaults(lr=1e-4),
            "textual_inversion": TrainerDefaults(lr=5e-4),
            "ti_dreambooth": TrainerDefaults(lr=2e-6),
        },
    ),
}
