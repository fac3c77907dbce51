"""What makes sharing true, for every trainer with every option: a checkpoint is bit for bit that of a training of
exactly its length, and a training that is extended that of one that was not.

`test_resume.py` kills and disturbs one."""

import pytest

from tests.trainers.test_resume import assert_equal
from trainers.families import family_of
from trainers.loop import train
from trainers.prior import make_class_images
from trainers.spec import TRAINERS, PriorSpec, SampleSpec

TEXT = {"train_text_encoder": True}
# name -> TrainSpec fields; options that do not exclude each other are tested together
OPTIONS = {
    "plain": {},
    "text encoder, accumulation, warm-up, moving average": {
        **TEXT,
        "gradient_accumulation_steps": 2,
        "trainer": {"lr_schedule": "constant_with_warmup", "lr_warmup_steps": 2, "ema_decay": 0.9},
    },
    "text encoder stopped, its own lr": {
        **TEXT,
        "trainer": {"text_encoder_lr": 1e-4, "text_encoder_stop_step": 1},
    },
    "prior, min-SNR, offset noise, crops, flips": {
        "kind": "v_prediction",
        "prior": True,
        "trainer": {"min_snr_gamma": 5.0, "offset_noise": 0.1, "center_crop": True, "random_flip": True, "repeats": 2},
    },
    "no caches, gradient checkpointing, dropout, channels last": {
        **TEXT,
        "kind": "dropout",
        "gradient_checkpointing": True,
        "trainer": {"cache_latents": False, "cache_text": False, "channels_last": True},
    },
    "bf16": {"mixed_precision": "bf16"},
    "8-bit Adam": {"use_8bit_adam": True},
    "prodigy": {"lr": 1.0, "trainer": {"optimizer": "prodigy"}},
    "adafactor": {"trainer": {"optimizer": "adafactor"}},
    "captions, TF32": {**TEXT, "captioned": True, "prior": True, "trainer": {"tf32": True}},
}
OWN = {
    "dreambooth_lora": {"lora_rank": 2, "lora_alpha": 16.0},
    "textual_inversion": {"vectors": 2, "templates": "style"},
    "ti_dreambooth": {"inversion_steps": 1},
}
NOT_FOR_WORDS = ("prior", "train_text_encoder", "text_encoder_lr", "text_encoder_stop_step")


def spec_of(make_spec, trainer, option):
    fields = {"trainer": {}, **OPTIONS[option]}
    fields["trainer"] = {"name": trainer, **OWN.get(trainer, {}), **fields["trainer"]}
    if trainer == "textual_inversion":
        for part in (fields, fields["trainer"]):
            for name in NOT_FOR_WORDS:
                part.pop(name, None)
    return make_spec(**fields)


@pytest.mark.options
@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("option", OPTIONS)
def test_a_checkpoint_is_that_of_a_training_of_its_length(trainer, option, make_spec, class_folder, tmp_path):
    spec = spec_of(make_spec, trainer, option)

    def run(steps, folder):
        return list(train(spec, steps, tmp_path / folder, class_images=class_folder, cache=tmp_path / "cache"))

    first, second = run([1, 2], "shared")
    assert_equal(first, *run([1], "alone"))
    assert_equal(second, *run([2], "alone"))  # goes on from its first step
    assert_equal(second, *run([2], "whole"))


@pytest.mark.slow
@pytest.mark.parametrize("trainer", TRAINERS)
def test_compiled_too(trainer, make_spec, tmp_path):
    spec = make_spec(trainer={"name": trainer, **OWN.get(trainer, {}), "compile": True})

    def run(steps, folder):
        return list(train(spec, steps, tmp_path / folder, cache=tmp_path / "cache"))

    first, second = run([1, 2], "shared")
    assert_equal(first, *run([1], "alone"))
    assert_equal(second, *run([2], "alone"))
    assert_equal(second, *run([2], "whole"))


def test_class_images_of_a_call_killed_within_a_batch_are_those_of_one_that_was_not(make_spec, tmp_path):
    model = make_spec().model
    components, prior = family_of(model).load(model), PriorSpec(num_class_images=5, sample=SampleSpec("ddim", 2))

    def made(folder):
        make_class_images(components, "a photo of a dog", prior, tmp_path / folder, batch_size=3)
        return [path.read_bytes() for path in sorted((tmp_path / folder).glob("*.png"))]

    whole = made("whole")
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "00000.png").write_bytes(whole[0])
    assert made("killed") == whole
