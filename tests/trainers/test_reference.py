"""Losses and weights after several steps against the reference written from the formulas."""

import pytest
import torch
from safetensors.torch import load_file

from tests.suites import some_of
from tests.trainers.reference import Reference
from trainers.files import read_json
from trainers.loop import train
from trainers.textual_inversion import TEMPLATES

STEPS = 4
PROMPTS = {"instance": "a photo of sks dog", "class": "a photo of a dog"}
FULL = {
    "batch 1": {"batch_size": 1},
    "batch 2": {"batch_size": 2},
    "batch 4": {"batch_size": 4},
    "prior": {"prior": True},
    "prior, batch 1": {"prior": True, "batch_size": 1},
    "prior, batch 4": {"prior": True, "batch_size": 4},
    "min-SNR": {"trainer": {"min_snr_gamma": 5.0}},
    "min-SNR, prior": {"prior": True, "trainer": {"min_snr_gamma": 5.0}},
    "v": {"kind": "v_prediction"},
    "v, min-SNR, prior": {"kind": "v_prediction", "prior": True, "trainer": {"min_snr_gamma": 5.0}},
    "accumulation": {"gradient_accumulation_steps": 3, "prior": True},
    "clipping": {"trainer": {"max_grad_norm": 1e-3}},
    "warm-up": {"trainer": {"lr_schedule": "constant_with_warmup", "lr_warmup_steps": 3}},
    "offset noise": {"trainer": {"offset_noise": 0.1}},
    "moving average": {"trainer": {"ema_decay": 0.3}},
    "text encoder": {"train_text_encoder": True, "prior": True},
    "text encoder's own rate": {"train_text_encoder": True, "trainer": {"text_encoder_lr": 1e-4}},
    "text encoder stops": {"train_text_encoder": True, "trainer": {"text_encoder_stop_step": 2}},
    "no caches": {"prior": True, "trainer": {"cache_latents": False, "cache_text": False}},
    "gradient checkpointing": {"gradient_checkpointing": True, "train_text_encoder": True},
}
# The rest has its own suite; together these take every path of the loop.
OFTEN = ("batch 1", "v, min-SNR, prior", "accumulation", "clipping", "moving average", "text encoder", "no caches")
EVERYTHING = {
    "gradient_accumulation_steps": 2,
    "trainer": {
        "min_snr_gamma": 5.0,
        "offset_noise": 0.1,
        "ema_decay": 0.3,
        "lr_schedule": "constant_with_warmup",
        "lr_warmup_steps": 2,
    },
}
LORA = {
    "batch 1": {"batch_size": 1},
    "batch 2, prior": {"prior": True},
    "batch 4, U-Net alone": {"batch_size": 4, "train_text_encoder": False},
    "everything": {**EVERYTHING, "prior": True},
}


def whole(module):
    return {name: w.detach().clone() for name, w in module.state_dict().items()}


def assert_close(learned, start, expected):
    """The two movements from `start` differ by less than a thousandth. (Adam's first steps divide the gradient by its
    own size, so where that is next to nothing single weights differ by rounding.)"""
    moved = torch.cat([(learned[n] - start[n]).flatten() for n in start])
    wanted = torch.cat([(expected[n] - start[n]).flatten() for n in start]).detach()
    assert wanted.norm() > 0
    assert (moved - wanted).norm() / wanted.norm() < 1e-3


@pytest.mark.parametrize("name", some_of(FULL, OFTEN))
def test_full(name, make_spec, class_folder, tmp_path):
    spec = make_spec(**FULL[name])
    checkpoint = list(train(spec, [STEPS], tmp_path, class_images=class_folder))[0]
    reference = Reference(spec, class_folder)
    parts = {"unet": reference.unet} | ({"text": reference.text_encoder} if spec.train_text_encoder else {})
    start = {f"{part}.{n}": w for part, module in parts.items() for n, w in whole(module).items()}
    fixed = {"unet": {}, "text": whole(reference.text_encoder)}

    def effective(learned):
        weights = [
            {**fixed[part], **{n.split(".", 1)[1]: w for n, w in learned.items() if n.startswith(part)}}
            for part in ("unet", "text")
        ]
        return weights[0], weights[1]

    text_lr = spec.trainer.text_encoder_lr or spec.lr
    expected = reference.train(
        STEPS,
        {n: w.clone().requires_grad_(True) for n, w in start.items()},
        effective,
        lambda purpose, draw: PROMPTS[purpose],
        lambda n: text_lr if n.startswith("text") else spec.lr,
        lambda n: spec.trainer.text_encoder_stop_step if n.startswith("text") else None,
    )
    assert read_json(tmp_path / "loss.json")["loss"] == pytest.approx(reference.losses, rel=1e-4)
    assert_close(_learned(checkpoint.folder, parts, checkpoint), start, expected)
    if spec.trainer.ema_decay:
        assert_close(_learned(checkpoint.folder / "ema", parts, checkpoint, ema=True), start, reference.average)


def _learned(folder, parts, checkpoint, ema=False):
    components = checkpoint.components(ema=ema)
    modules = {"unet": components.parts["unet"], "text": components.parts["text_encoder"]}
    return {f"{part}.{n}": w for part in parts for n, w in whole(modules[part]).items()}


@pytest.mark.parametrize("name", some_of(LORA, ["everything"]))
def test_lora(name, make_spec, class_folder, tmp_path):
    trainer = {**LORA[name].get("trainer", {}), "name": "dreambooth_lora", "lora_rank": 2, "lora_alpha": 6.0}
    spec = make_spec(**{"train_text_encoder": True, **LORA[name], "trainer": trainer})
    before, after = train(spec, [0, STEPS], tmp_path, class_images=class_folder)
    start = load_file(before.folder / "pytorch_lora_weights.safetensors")
    reference = Reference(spec, class_folder)
    bases = {"unet": whole(reference.unet), "text_encoder": whole(reference.text_encoder)}

    def effective(learned):
        merged = {part: dict(base) for part, base in bases.items()}
        for name, down in learned.items():
            if ".down." in name:
                part, path = name.split(".", 1)
                path = path.replace(".lora.down", "").replace(".lora_linear_layer.down", "")
                merged[part][path] = merged[part][path] + 6.0 / 2 * learned[name.replace(".down.", ".up.")] @ down
        return merged["unet"], merged["text_encoder"]

    expected = reference.train(
        STEPS,
        {n: w.clone().requires_grad_(True) for n, w in start.items()},
        effective,
        lambda purpose, draw: PROMPTS[purpose],
        lambda n: spec.lr,
    )
    assert read_json(tmp_path / "loss.json")["loss"] == pytest.approx(reference.losses, rel=1e-4)
    assert_close(load_file(after.folder / "pytorch_lora_weights.safetensors"), start, expected)
    if spec.trainer.ema_decay:
        average = load_file(after.folder / "ema" / "pytorch_lora_weights.safetensors")
        assert_close(average, start, reference.average)


@pytest.mark.parametrize(
    ("kind", "vectors", "fields"),
    [
        ("object", 1, {"batch_size": 4}),
        ("style", 2, {"batch_size": 2}),
        ("object", 3, {**EVERYTHING, "batch_size": 1}),
    ],
)
def test_textual_inversion(kind, vectors, fields, make_spec, class_folder, tmp_path):
    trainer = {"name": "textual_inversion", "vectors": vectors, "templates": kind, "initial_word": "cat"}
    spec = make_spec(**{**fields, "trainer": {**fields.get("trainer", {}), **trainer}})
    before, after = train(spec, [0, STEPS], tmp_path)
    start = load_file(before.folder / "learned_embeds.safetensors")
    reference = Reference(spec, class_folder)
    table = "embeddings.token_embedding.weight"
    text, unet = whole(reference.text_encoder), whole(reference.unet)
    (cat,) = reference.tokenizer("cat", add_special_tokens=False).input_ids
    assert torch.equal(start["<sks>"], text[table][[cat] * vectors])
    words = ["<sks>", "<sks>_1", "<sks>_2"][:vectors]
    reference.tokenizer.add_tokens(words)

    def effective(learned):
        return unet, {**text, table: torch.cat([text[table], learned["<sks>"]])}

    def prompt(purpose, draw):
        options = TEMPLATES[kind]
        return options[int(draw * len(options))].format(" ".join(words))

    learned = {"<sks>": start["<sks>"].clone().requires_grad_(True)}
    expected = reference.train(STEPS, learned, effective, prompt, lambda n: spec.lr)
    assert read_json(tmp_path / "loss.json")["loss"] == pytest.approx(reference.losses, rel=1e-4)
    assert_close(load_file(after.folder / "learned_embeds.safetensors"), start, expected)
    if spec.trainer.ema_decay:
        assert_close(load_file(after.folder / "ema" / "learned_embeds.safetensors"), start, reference.average)
