"""What each family can do, and the defaults of its own scripts. The plan reads it, so it imports nothing heavy.

Where nothing is typed, `conf/` decides. Of the defaults here `lr_scale` and the scheduler of an export are read so far.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from trainers.hub import Reads
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
    mixed_precision: str  # no | fp16 | bf16, of training on a GPU
    sample_precision: str  # the same of sampling
    lora_rank: int
    lora_targets: tuple[str, ...]  # layers of the network that learns
    lora_text_targets: tuple[str, ...]  # layers of the text encoders; empty: they have no adapters
    scheduler: str
    schedulers: tuple[str, ...]  # all that the family can be sampled with
    inference_steps: int
    guidance_scale: float
    trainers: Mapping[str, TrainerDefaults]  # all that the family can be trained with
    reads: Reads  # of a model's repository on the hub
    download: int  # bytes of that, of the family's largest model


DEFAULTS: Mapping[str, FamilyDefaults] = {
    "stable_diffusion": FamilyDefaults(
        resolution=512,
        # As diffusers' DreamBooth documentation and the post have it: fp16 is on every card since 2016. bf16 is on some
        # only, and a plan that depended on the card would make the same command another training elsewhere.
        mixed_precision="fp16",
        sample_precision="fp16",
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
        reads=Reads(
            files=("model_index.json", "scheduler/scheduler_config.json")
            + tuple(f"{part}/config.json" for part in ("unet", "vae", "text_encoder")),
            weights=("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"),
            tokenizers=("tokenizer/",),
        ),
        download=5_200_000_000,  # 2.1; 1.x has a smaller text encoder and takes 4.3
    ),
}
