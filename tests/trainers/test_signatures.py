"""Signatures of specs, as the code of revision 6044e38 computed them: finished work is found under these names."""

from dataclasses import dataclass, make_dataclass, replace

import pytest

from evaluation.spec import EvalSpec
from trainers.spec import (
    ModelSpec,
    PriorSpec,
    SampleSpec,
    SubjectSpec,
    TrainerSpec,
    TrainSpec,
    added,
    canonical,
    model_as_before,
    signature,
)
from trainers.stages import inversion_stage

MODEL = ModelSpec("0123456789abcdef")
SCALED = ModelSpec("runwayml/stable-diffusion-v1-5@main", "stable_diffusion", 512, "somewhere", "sd15")
SUBJECT = SubjectSpec(
    "fedcba9876543210", "cat toy", "sks", "a photo of sks cat toy", "a photo of a cat toy", "live", "folder", "name"
)
EULER = SampleSpec("euler_a", 30, 5.0, "fp16")
PRIOR = PriorSpec(10, 0.5, SampleSpec("ddim", 25, 7.5), 3)
EVALUATION = EvalSpec(("a {} in the snow", "a red {}"), 4, 8, 1, "clip-id", "dino-id", "a", "b", "c", "d", "paper")
FULL = TrainSpec(
    SCALED,
    SUBJECT,
    TrainerSpec(
        lr_schedule="cosine",
        ema_decay=0.99,
        min_snr_gamma=5.0,
        random_flip=True,
        text_encoder_lr=1e-6,
        text_encoder_stop_step=100,
    ),
    PRIOR,
    lr=5e-6,
    train_text_encoder=True,
    seed=7,
    batch_size=2,
    gradient_accumulation_steps=3,
    mixed_precision="bf16",
    gradient_checkpointing=True,
    horizon=800,
    lr_scale=150.0,
)
LORA = TrainerSpec("dreambooth_lora", lora_rank=16, lora_alpha=8.0, lora_targets=("to_q",), optimizer="prodigy")
WORD = TrainerSpec("textual_inversion", vectors=4, initial_word="toy", templates="style")
FIRST_A_WORD = TrainSpec(
    SCALED,
    SUBJECT,
    TrainerSpec("ti_dreambooth", inversion_steps=500, captions=False),
    replace(PRIOR, folder_fingerprint="aa55", folder="somewhere"),
    lr=1e-6,
    lr_scale=150.0,
)


@pytest.mark.parametrize(
    ("spec", "recorded"),
    [
        (MODEL, "8b2d71b9bec98c02"),
        (model_as_before(FULL), "510d58c58d42b2d3"),
        (SUBJECT, "fb7356ada0f79920"),
        (SampleSpec(), "fb7ebfd85b4925d5"),
        (EULER, "cc09cf8c92643ae0"),
        (PRIOR, "100a1f8142578aa0"),
        (FIRST_A_WORD.prior, "448181ec905e8f59"),
        (EVALUATION, "771f98714060054d"),
    ],
)
def test_the_signature_of_a_part_is_as_recorded(spec, recorded):
    assert signature(spec) == recorded


@pytest.mark.parametrize(
    ("spec", "recorded"),
    [
        (TrainSpec(MODEL, SUBJECT), "0fb83f10031bcaf9"),
        (FULL, "718e968225dceec3"),
        (TrainSpec(MODEL, SUBJECT, LORA, lr=1.0), "acf87bb95fdfc098"),
        (TrainSpec(MODEL, SUBJECT, WORD, lr=5e-4), "1bd4a129f930f4db"),
        (FIRST_A_WORD, "b367d2fce6a984da"),
        (inversion_stage(FIRST_A_WORD), "4e87ea105c77fbba"),
    ],
)
def test_the_signature_of_a_training_is_as_recorded(spec, recorded):
    assert spec.signature == recorded


@dataclass(frozen=True)
class Before:
    name: str
    size: int = 1


After = make_dataclass("After", [("seasons", "int", added(default=0))], bases=(Before,), frozen=True)


def test_a_field_added_later_renames_nothing():
    assert signature(After("a")) == signature(Before("a"))
    assert signature(After("a", seasons=0)) == signature(Before("a"))
    assert canonical(After("a", seasons=4)) == {"name": "a", "seasons": 4, "size": 1}
    assert signature(After("a", seasons=4)) != signature(Before("a"))
