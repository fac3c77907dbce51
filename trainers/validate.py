"""Which settings a training can have; asked before anything is loaded. Imports nothing heavy."""

from collections.abc import Iterable, Iterator

from trainers.errors import SpecError
from trainers.families.defaults import DEFAULTS
from trainers.spec import ENDLESS_SCHEDULES, LR_SCHEDULES, OPTIMIZERS, SCHEDULERS, TRAINERS, SampleSpec, TrainSpec

PRECISIONS = ("no", "fp16", "bf16")
POLYNOMIAL_END = 1e-7  # of diffusers' schedule, and no setting there
TEXT_PROJECTIONS = {"q_proj", "k_proj", "v_proj", "out_proj"}


def validate(spec: TrainSpec) -> None:
    """
    Raises:
        SpecError: the first thing that is wrong with `spec`: the value, what is allowed, what to do.
    """
    for complaint in complaints(spec):
        raise SpecError(complaint)


def complaints(spec: TrainSpec) -> Iterator[str]:
    """Everything that is wrong with `spec`, a line each."""
    yield from _choices(spec)
    yield from _ranges(spec)
    yield from _combinations(spec)
    yield from _of_the_family(spec)


AMPERE = (8, 0)  # the compute capability from which on NVIDIA's cards have bf16 and TF32
OF_OTHERS = (99, 0)  # of a CPU, and of the GPUs of others: they have what they say


def check_capability(spec: TrainSpec, samples: Iterable[SampleSpec], card: str, capability: tuple[int, int]) -> None:
    """
    Raises:
        SpecError: the card has no unit for what is asked for.
    """
    if capability >= AMPERE:
        return
    has = f"{card} has compute capability {capability[0]}.{capability[1]}, and"
    if spec.mixed_precision == "bf16":
        raise SpecError(f"mixed_precision=bf16: {has} bf16 needs 8.0; take mixed_precision=fp16")
    if spec.trainer.tf32:
        raise SpecError(f"trainer.tf32=true: {has} TF32 needs 8.0; leave it out, and take mixed_precision=fp16")
    if any(sample.precision == "bf16" for sample in samples):
        raise SpecError(f"sampling in bf16: {has} bf16 needs 8.0; take fp16")


def _choices(spec: TrainSpec) -> Iterator[str]:
    trainer = spec.trainer
    for name, value, allowed in (
        ("trainer", trainer.name, TRAINERS),
        ("mixed_precision", spec.mixed_precision, PRECISIONS),
        ("trainer.optimizer", trainer.optimizer, OPTIMIZERS),
        ("trainer.lr_schedule", trainer.lr_schedule, LR_SCHEDULES),
        ("trainer.templates", trainer.templates, ("object", "style")),
        *([("prior.sample.scheduler", spec.prior.sample.scheduler, SCHEDULERS)] if spec.prior else []),
    ):
        if value not in allowed:
            yield f"{name}={value} is unknown; one of {', '.join(allowed)}"


def _ranges(spec: TrainSpec) -> Iterator[str]:
    trainer = spec.trainer
    at_least_one = {
        "batch_size": spec.batch_size,
        "gradient_accumulation_steps": spec.gradient_accumulation_steps,
        "model.resolution": spec.model.resolution,
        "trainer.repeats": trainer.repeats,
        "trainer.lora_rank": trainer.lora_rank,
        "trainer.vectors": trainer.vectors,
        "trainer.inversion_steps": trainer.inversion_steps,
        "trainer.lr_cycles": trainer.lr_cycles,
        **({"prior.num_class_images": spec.prior.num_class_images} if spec.prior else {}),
    }
    for name, count in at_least_one.items():
        if count < 1:
            yield f"{name}={count}: must be 1 or more"
    not_negative = {
        "trainer.weight_decay": trainer.weight_decay,
        "trainer.lr_warmup_steps": trainer.lr_warmup_steps,
        "trainer.offset_noise": trainer.offset_noise,
        "trainer.text_encoder_lr": trainer.text_encoder_lr or 0,
        "trainer.text_encoder_stop_step": trainer.text_encoder_stop_step or 0,
        **({"prior.weight": spec.prior.weight} if spec.prior else {}),
    }
    for name, number in not_negative.items():
        if number < 0:
            yield f"{name}={number}: must not be negative"
    above_nothing = {
        "trainer.adam_epsilon": trainer.adam_epsilon,
        "trainer.inversion_lr": trainer.inversion_lr,
        "trainer.lora_alpha": 1 if trainer.lora_alpha is None else trainer.lora_alpha,
        "trainer.lr_power": trainer.lr_power,
    }
    for name, number in above_nothing.items():
        if number <= 0:
            yield f"{name}={number}: must be above 0"
    for name, beta in (("trainer.adam_beta1", trainer.adam_beta1), ("trainer.adam_beta2", trainer.adam_beta2)):
        if not 0 <= beta < 1:
            yield f"{name}={beta}: must be in [0, 1)"
    if not 0 < spec.lr < float("inf"):
        yield f"lr={spec.lr}: must be above 0; 2e-6 is usual for dreambooth, 1e-4 for dreambooth_lora"
    if trainer.max_grad_norm <= 0:
        yield f"trainer.max_grad_norm={trainer.max_grad_norm}: must be above 0; a very large number clips nothing"
    if trainer.min_snr_gamma is not None and trainer.min_snr_gamma <= 0:
        yield f"trainer.min_snr_gamma={trainer.min_snr_gamma}: must be above 0 (5 is usual), or null for none"
    if not 0 <= trainer.ema_decay < 1:
        yield f"trainer.ema_decay={trainer.ema_decay}: must be in [0, 1); 0 keeps no average"


def _combinations(spec: TrainSpec) -> Iterator[str]:
    trainer = spec.trainer
    name = spec.trainer.name
    if trainer.lr_schedule not in ENDLESS_SCHEDULES and spec.horizon is None:
        yield f"trainer.lr_schedule={trainer.lr_schedule} needs to know the number of steps; the plan sets the horizon"
    if trainer.lr_schedule == "constant" and trainer.lr_warmup_steps:
        yield "trainer.lr_warmup_steps has no effect on lr_schedule=constant; use lr_schedule=constant_with_warmup"
    if spec.use_8bit_adam and trainer.optimizer not in ("adamw", "adamw8bit"):
        yield f"use_8bit_adam=true contradicts trainer.optimizer={trainer.optimizer}; leave one of them out"
    if trainer.channels_last and (spec.use_8bit_adam or trainer.optimizer == "adamw8bit"):
        yield "trainer.channels_last=true has no effect with 8-bit AdamW, which orders weights its way; leave it out"
    if trainer.lr_schedule == "polynomial" and spec.effective_lr <= POLYNOMIAL_END:
        yield f"lr={spec.lr}: trainer.lr_schedule=polynomial goes down to {POLYNOMIAL_END}; take a higher rate"
    on_text = name == "dreambooth_lora" and spec.train_text_encoder
    if on_text and not TEXT_PROJECTIONS & {target.rsplit(".", 1)[-1] for target in trainer.lora_text_targets}:
        yield (
            f"trainer.lora_text_targets={','.join(trainer.lora_text_targets)}: diffusers cannot load a text encoder's "
            f"LoRA without attention; add one of {', '.join(sorted(TEXT_PROJECTIONS))}"
        )
    if trainer.optimizer == "prodigy" and spec.train_text_encoder and trainer.text_encoder_lr is not None:
        yield "trainer.optimizer=prodigy finds one step size for all; leave trainer.text_encoder_lr out"
    if name in ("textual_inversion", "ti_dreambooth") and not spec.subject.identifier.strip():
        yield f"subject.identifier is empty: trainer={name} learns the word that stands there; give one, such as sks"
    if name == "textual_inversion" and spec.train_text_encoder:
        yield "train_text_encoder=true contradicts trainer=textual_inversion, where only new tokens learn"
    if name == "textual_inversion" and spec.prior is not None:
        yield "prior_preservation=true has no effect with trainer=textual_inversion: the networks do not change"
    if not spec.train_text_encoder:
        for option in ("text_encoder_lr", "text_encoder_stop_step"):
            if getattr(trainer, option) is not None:
                yield f"trainer.{option} has no effect without train_text_encoder=true"


def _of_the_family(spec: TrainSpec) -> Iterator[str]:
    """What other families can have and this one cannot."""
    family = DEFAULTS.get(spec.model.family)
    name = spec.trainer.name
    if family is None:
        yield f"model.family={spec.model.family} is unknown; one of {', '.join(DEFAULTS)}"
        return
    if name in TRAINERS and name not in family.trainers:
        yield f"trainer={name} does not apply to model.family={spec.model.family}; one of {', '.join(family.trainers)}"
    if spec.train_text_encoder and not family.lora_text_targets:
        yield f"train_text_encoder=true does not apply to model.family={spec.model.family}; false is all it has"
    scheduler = spec.prior.sample.scheduler if spec.prior else family.scheduler
    if scheduler in SCHEDULERS and scheduler not in family.schedulers:
        allowed = ", ".join(family.schedulers)
        yield f"prior.scheduler={scheduler} does not apply to model.family={spec.model.family}; one of {allowed}"
