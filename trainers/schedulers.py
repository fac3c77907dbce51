"""The inference schedulers by the names that are typed."""

from collections.abc import Mapping
from typing import Any

# name -> (diffusers class, what its configuration differs in from the model's own)
SCHEDULER_CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "lms": ("LMSDiscreteScheduler", {}),
    "ddim": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpm": ("DPMSolverMultistepScheduler", {}),
    "dpm_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
}


def make_scheduler(name: str, config: Mapping[str, Any]) -> Any:
    """A fresh diffusers scheduler with the noise schedule and prediction type of `config`, the model's own."""
    import diffusers

    class_name, changes = SCHEDULER_CLASSES[name]
    scheduler_class = getattr(diffusers, class_name)
    known = {k: v for k, v in config.items() if not k.startswith("_")}
    return scheduler_class.from_config({**known, **changes})
