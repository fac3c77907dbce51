"""Settings that no training can have are said in one line, before anything is loaded."""

from dataclasses import replace
from pathlib import Path

import pytest

from trainers.errors import SpecError
from trainers.families.defaults import DEFAULTS, TrainerDefaults
from trainers.optimizers import make_schedule
from trainers.spec import LR_SCHEDULES, ModelSpec, PriorSpec, SubjectSpec, TrainerSpec, TrainSpec
from trainers.validate import complaints, validate


def spec(trainer=None, **fields):
    return TrainSpec(ModelSpec("r"), SubjectSpec("f", "dog"), TrainerSpec(**(trainer or {})), **fields)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (spec({"name": "hypernetwork"}), "trainer=hypernetwork is unknown; one of dreambooth, dreambooth_lora"),
        (spec({"optimizer": "sgd"}), "trainer.optimizer=sgd is unknown; one of adamw, adamw8bit, prodigy, adafactor"),
        (spec(mixed_precision="fp8"), "mixed_precision=fp8 is unknown; one of no, fp16, bf16"),
        (spec(batch_size=0), "batch_size=0: must be 1 or more"),
        (spec(lr=0.0), "lr=0.0: must be above 0"),
        (spec(lr=float("nan")), "lr=nan: must be above 0"),
        (spec({"lr_schedule": "cosine"}), "trainer.lr_schedule=cosine needs to know the number of steps"),
        (spec({"lr_warmup_steps": 5}), "use lr_schedule=constant_with_warmup"),
        (spec({"optimizer": "prodigy"}, use_8bit_adam=True), "use_8bit_adam=true contradicts"),
        (spec({"name": "textual_inversion"}, train_text_encoder=True), "only new tokens learn"),
        (spec({"name": "textual_inversion"}, prior=PriorSpec()), "the networks do not change"),
        (
            TrainSpec(ModelSpec("r"), SubjectSpec("f", "dog", ""), TrainerSpec("ti_dreambooth")),
            "subject.identifier is empty: trainer=ti_dreambooth learns the word",
        ),
        (spec({"text_encoder_lr": 1e-6}), "no effect without train_text_encoder=true"),
        (spec({"min_snr_gamma": 0.0}), "must be above 0 (5 is usual)"),
        (spec({"ema_decay": 1.0}), "must be in [0, 1)"),
        (spec({"adam_beta2": 1.5}), "trainer.adam_beta2=1.5: must be in [0, 1)"),
        (spec({"lora_alpha": 0}), "trainer.lora_alpha=0: must be above 0"),
        (spec({"lr_cycles": 0}), "trainer.lr_cycles=0: must be 1 or more"),
        (spec({"channels_last": True}, use_8bit_adam=True), "no effect with 8-bit AdamW"),
        (spec({"lr_schedule": "polynomial"}, horizon=9, lr=1e-7), "goes down to 1e-07"),
        (
            spec({"name": "dreambooth_lora", "lora_text_targets": ("fc1",)}, train_text_encoder=True),
            "trainer.lora_text_targets=fc1: diffusers cannot load",
        ),
        (spec(prior=PriorSpec(num_class_images=0)), "prior.num_class_images=0: must be 1 or more"),
    ],
)
def test_complaints(wrong, said):
    (complaint,) = complaints(wrong)
    assert said in complaint
    assert "\n" not in complaint
    with pytest.raises(SpecError):
        validate(wrong)


def test_what_a_family_cannot_have_is_refused(monkeypatch):
    small = replace(
        DEFAULTS["stable_diffusion"],
        trainers={"dreambooth_lora": TrainerDefaults(1e-4)},
        lora_text_targets=(),
        schedulers=("euler",),
        scheduler="euler",
    )
    monkeypatch.setitem(DEFAULTS, "small", small)
    wrong = replace(spec(train_text_encoder=True, prior=PriorSpec()), model=ModelSpec("r", "small"))
    assert list(complaints(wrong)) == [
        "trainer=dreambooth does not apply to model.family=small; one of dreambooth_lora",
        "train_text_encoder=true does not apply to model.family=small; false is all it has",
        "prior.scheduler=ddim does not apply to model.family=small; one of euler",
    ]
    (unknown,) = complaints(replace(spec(), model=ModelSpec("r", "sd9")))
    assert unknown == "model.family=sd9 is unknown; one of stable_diffusion, small"


def test_usual_settings_pass():
    validate(spec())
    validate(spec({"text_encoder_lr": 1e-6, "text_encoder_stop_step": 100}, train_text_encoder=True, prior=PriorSpec()))
    for schedule in LR_SCHEDULES:
        validate(spec({"lr_schedule": schedule}, horizon=100))


def rates(schedule, steps, warmup, horizon=None):
    import torch

    wanted = spec({"lr_schedule": schedule, "lr_warmup_steps": warmup}, horizon=horizon)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    scheduler = make_schedule(wanted, optimizer)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_schedules_follow_their_formulas():
    import math

    warm = [2 * i / 4 for i in range(4)]
    assert rates("constant_with_warmup", 6, 4) == pytest.approx([*warm, 2, 2])
    assert rates("linear", 8, 4, 8) == pytest.approx([*warm, 2, 1.5, 1, 0.5])
    assert rates("cosine", 8, 4, 8) == pytest.approx([*warm, *(1 + math.cos(math.pi * i / 4) for i in range(4))])


def test_effective_rates():
    def scaled(**fields):
        given = spec(**fields)
        return TrainSpec(ModelSpec("r"), given.subject, given.trainer, lr=1e-6, lr_scale=40.0)

    assert scaled().effective_lr == scaled().effective_text_encoder_lr == pytest.approx(4e-5)
    assert scaled(trainer={"text_encoder_lr": 1e-7}).effective_text_encoder_lr == pytest.approx(4e-6)
    assert scaled(trainer={"optimizer": "prodigy"}).effective_lr == 1e-6


def test_default_rate_of_an_inversion_is_the_models_own():
    """The usual 5e-4; on the miniature, whose lr_scale is for networks, one that is not too long a step for a word."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(Path(__file__).parents[2] / "conf"), version_base="1.3"):
        given = {m: compose("sweep", ["trainer=ti_dreambooth", f"model={m}"]) for m in ("miniature", "sd15")}
    default = DEFAULTS["stable_diffusion"].trainers["ti_dreambooth"].lr_scale
    scales = {name: default if (s := config.model.lr_scale) is None else s for name, config in given.items()}
    rates = {name: config.trainer.inversion_lr * scales[name] for name, config in given.items()}
    assert rates == {"miniature": pytest.approx(2e-3, rel=0.1), "sd15": 5e-4}
