"""What determines a training, as values. Imports nothing heavy: the plan is made without torch.

A spec's `signature` names its result on disk, so equal specs are never computed twice. A field that does not
change the result (a path, a label) is declared with `not_identity()` and stays out of the signature. A field that is
added to a spec is declared with `added(default=...)`, so that the signatures of finished work stay what they are.
"""

import hashlib
import json
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def not_identity(**kwargs: Any) -> Any:
    """A dataclass field that takes no part in the signature, nor in equality."""
    return field(metadata={"identity": False}, compare=False, **kwargs)


def added(*, default: Any) -> Any:
    """A dataclass field that recorded signatures do not know. It enters the canonical JSON only where it differs from
    its default, so adding it renames no finished work."""
    return field(metadata={"added": True}, default=default)


def log_scale(*, default: Any) -> Any:
    """A dataclass field whose values are compared by their ratio, as learning rates are."""
    return field(metadata={"log": True}, default=default)


def canonical(value: Any) -> Any:
    """`value` as plain JSON types; of dataclasses only the fields that determine the result."""
    return json.loads(_text(value))


def _text(value: Any) -> str:
    if is_dataclass(value):
        spec: Any = value  # mypy does not see that frozen dataclasses are hashable
        return _text_of(spec)
    if isinstance(value, dict):
        return "{" + ",".join(f'"{name}":{_text(value[name])}' for name in sorted(value)) + "}"
    if isinstance(value, (tuple, list)):
        return f"[{','.join(map(_text, value))}]"
    return _ENCODER.encode(value)


@lru_cache(maxsize=100_000)  # the specs of a plan share their parts
def _text_of(spec: Any) -> str:
    return _text(_determining(spec))


def _determining(spec: Any) -> dict[str, Any]:
    """The fields of a dataclass that determine the result, as its canonical JSON holds them."""
    kind: Any = type(spec)
    given = ((name, getattr(spec, name), default) for name, default in _identity(kind))
    values = {name: value for name, value, default in given if default is None or _text(value) != default}
    # Up to revision 6044e38 `lr_scale` was a field of ModelSpec. In the JSON of a training it stays where it stood, and
    # a model alone has a 1 there, so that trainings, class images and baselines on disk keep their names.
    if isinstance(spec, ModelSpec):
        values["lr_scale"] = 1.0
    if isinstance(spec, TrainSpec):
        values["model"] = _determining(spec.model) | {"lr_scale": values.pop("lr_scale")}
    return values


@lru_cache
def _identity(kind: type) -> tuple[tuple[str, str | None], ...]:
    """(name, text of the value that is left out) of the fields that determine the result, sorted."""
    determining = sorted((f for f in fields(kind) if f.metadata.get("identity", True)), key=lambda f: f.name)
    return tuple((f.name, _text(f.default) if f.metadata.get("added") else None) for f in determining)


def signature(*values: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of the canonical JSON of `values`."""
    return hashlib.sha256(_text(values).encode()).hexdigest()[:16]


def model_as_before(spec: "TrainSpec") -> dict[str, Any]:
    """The canonical model of a training as revision 6044e38 had it everywhere: with the training's `lr_scale`."""
    return dict(canonical(spec)["model"])


@dataclass(frozen=True)
class ModelSpec:
    """An untuned pipeline. `revision` is the content hash of a local folder, or `repo@revision` of a hub model."""

    revision: str
    family: str = "stable_diffusion"
    resolution: int = 64  # pixels, of the square instance images
    repo: str = not_identity(default="")  # where to load from: a diffusers folder or a hub id
    name: str = not_identity(default="")


@dataclass(frozen=True)
class SubjectSpec:
    """The instance images and the words for them. `fingerprint` is the hash of the images' bytes and captions."""

    fingerprint: str
    class_noun: str
    identifier: str = "sks"
    instance_prompt: str = ""  # what the instance images are trained with
    class_prompt: str = ""  # what the class images are sampled and trained with
    kind: str = not_identity(default="object")  # object | face | live
    images: str = not_identity(default="")  # folder
    name: str = not_identity(default="")


TRAINERS = ("dreambooth", "dreambooth_lora", "textual_inversion", "ti_dreambooth")
OPTIMIZERS = ("adamw", "adamw8bit", "prodigy", "adafactor")
LR_SCHEDULES = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial")
ENDLESS_SCHEDULES = ("constant", "constant_with_warmup")  # need no horizon, so trainings of any length share them

# Names of the inference schedulers; trainers/schedulers.py holds the diffusers class of each.
SCHEDULERS = ("pndm", "lms", "ddim", "ddpm", "euler", "euler_a", "heun", "dpm", "dpm_sde", "unipc")


@dataclass(frozen=True)
class SampleSpec:
    """How images are sampled from weights; costs no training."""

    scheduler: str = "pndm"
    inference_steps: int = 50
    guidance_scale: float = 7.5
    precision: str = "no"  # no (fp32) | fp16 | bf16


@dataclass(frozen=True)
class PriorSpec:
    """Prior preservation: class images sampled from the untuned model, and their weight in the loss."""

    num_class_images: int = 200
    weight: float = 1.0
    sample: SampleSpec = SampleSpec("ddim")
    seed: int = 0
    folder_fingerprint: str = ""  # of the user's own class images; empty: the model makes them
    folder: str = not_identity(default="")


@dataclass(frozen=True)
class TrainerSpec:
    """The settings of the trainer group; the axes proper are in `TrainSpec`. Defaults are diffusers' script's."""

    name: str = "dreambooth"  # one of TRAINERS
    optimizer: str = "adamw"  # one of OPTIMIZERS
    weight_decay: float = 1e-2
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    lr_schedule: str = "constant"  # one of LR_SCHEDULES
    lr_warmup_steps: int = 0  # optimizer steps
    lr_cycles: int = 1  # of cosine_with_restarts
    lr_power: float = 1.0  # of polynomial
    text_encoder_lr: float | None = log_scale(default=None)  # None: as lr; multiplied by lr_scale likewise
    text_encoder_stop_step: int | None = None  # the text encoder learns in the steps up to this one; None: in all
    ema_decay: float = 0.0  # 0: no moving average; with one, a checkpoint holds both weights
    min_snr_gamma: float | None = None  # 5 in the paper; None: every timestep weighs the same
    offset_noise: float = 0.0  # 0.1 is usual
    center_crop: bool = False
    random_flip: bool = False
    repeats: int = 1  # of the instance images in one pass of the data order
    captions: bool = True  # a `.txt` beside an image is its prompt
    cache_latents: bool = True  # mean and deviation kept, latents sampled anew each step
    cache_text: bool = True  # text states kept where the text encoder is frozen
    compile: bool = False
    channels_last: bool = False
    tf32: bool = False
    lora_rank: int = 4
    lora_alpha: float | None = None  # None: as lora_rank
    lora_targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    lora_text_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj")
    vectors: int = 1  # learned tokens of a textual inversion
    initial_word: str = ""  # whose embedding they start from; empty: the class noun
    templates: str = "object"  # object | style: the sentences around the learned word
    inversion_steps: int = 2000  # ti_dreambooth: of its first stage
    inversion_lr: float = log_scale(default=5e-4)

    @property
    def whole_networks(self) -> bool:
        """Whether a checkpoint holds whole networks, rather than some megabytes that go beside them."""
        return self.name in ("dreambooth", "ti_dreambooth")


@dataclass(frozen=True)
class TrainSpec:
    """The identity of one training. The number of steps is no part of it unless the schedule knows the horizon."""

    model: ModelSpec
    subject: SubjectSpec
    trainer: TrainerSpec = TrainerSpec()
    prior: PriorSpec | None = None
    lr: float = 2e-6
    train_text_encoder: bool = False
    seed: int = 0
    batch_size: int = 4  # instance images per accumulation step, over all processes; class images come on top
    gradient_accumulation_steps: int = 1
    mixed_precision: str = "no"  # no | fp16 | bf16
    use_8bit_adam: bool = False
    gradient_checkpointing: bool = False
    horizon: int | None = None  # optimizer steps, only where the schedule needs the end
    lr_scale: float = 1.0  # effective lr = lr * lr_scale; the family has a default for each trainer

    @property
    def effective_lr(self) -> float:
        return self.lr * self._lr_scale

    @property
    def effective_text_encoder_lr(self) -> float:
        own = self.trainer.text_encoder_lr
        return (self.lr if own is None else own) * self._lr_scale

    @property
    def _lr_scale(self) -> float:
        """Prodigy finds the step size itself; its lr is a factor to that, 1 for every model."""
        return 1.0 if self.trainer.optimizer == "prodigy" else self.lr_scale

    @property
    def images_per_step(self) -> int:
        """Instance and class images of an optimizer step, over all processes."""
        return self.batch_size * self.gradient_accumulation_steps * (2 if self.prior else 1)

    def per_process(self, processes: int) -> int:
        """Instance images of an accumulation step on each of so many processes."""
        return self.batch_size // processes

    @cached_property
    def class_images_signature(self) -> str:
        """Names the class images: their model, prompt, sampling, seed and count, but not their weight in the loss.

        Raises:
            ValueError: it is a training without prior preservation.
        """
        if self.prior is None:
            raise ValueError("no prior preservation, so no class images")
        return signature((self.model, self.subject.class_prompt, replace(self.prior, weight=1.0)))

    @cached_property
    def signature(self) -> str:
        return signature(self)
