"""Bytes that are said beforehand, against the bytes that are written."""

import math

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch.utils._pytree import tree_leaves
from transformers.optimization import Adafactor

from tests.sweeper.tiny_sweep import trainings
from trainers.families import family_of
from trainers.loop import train
from trainers.sizes import OPTIMIZER_BYTES, WIDEST, checkpoint_bytes, pipeline_bytes, state_bytes


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("train_text_encoder=true",),
        ("trainer.ema_decay=0.9",),
        ("trainer=dreambooth_lora", "trainer.lora_rank=3", "train_text_encoder=true"),
        ("trainer=dreambooth_lora",),
    ],
)
def test_a_checkpoint_is_as_large_as_estimated(models, words, tmp_path):
    (training,) = trainings(*models, *words)
    assert checkpoint_bytes(training.spec) == written(training.spec, tmp_path)


def test_the_embedding_of_a_learned_word_is_no_larger_than_estimated(models, tmp_path):
    (training,) = trainings(*models, "trainer=textual_inversion", "trainer.vectors=2")
    assert 0 < written(training.spec, tmp_path) <= checkpoint_bytes(training.spec) == 4 * 2 * WIDEST


def written(spec, folder):
    """Bytes of the weights in a checkpoint, without the files' headers."""
    (checkpoint,) = train(spec, [1], folder)
    files = list(checkpoint.folder.rglob("*.safetensors"))
    return sum(path.stat().st_size - 8 - int.from_bytes(path.read_bytes()[:8], "little") for path in files)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("trainer.ema_decay=0.9", "train_text_encoder=true"),
        ("trainer.optimizer=prodigy", "lr=0.1"),
        ("trainer=dreambooth_lora",),
    ],
)
def test_a_state_is_as_large_as_estimated(models, words, tmp_path):
    """The names of its hundreds of small tensors come on top."""
    (training,) = trainings(*models, *words)
    list(train(training.spec, [1], tmp_path))
    (file,) = tmp_path.glob("state/*/state.pt")
    tensors = torch.load(file, weights_only=True)
    leaves = [x for x in tree_leaves(tensors) if isinstance(x, torch.Tensor) and x.numel() > 1]
    size = sum(x.numel() * x.element_size() for x in leaves)
    assert size == pytest.approx(state_bytes(training.spec), rel=0.02)


def test_a_pipeline_is_as_large_as_estimated(models, tmp_path):
    (training,) = trainings(*models)
    model = training.spec.model
    family = family_of(model)
    family.save_pipeline(family.load(model), tmp_path)
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
    assert size == pytest.approx(pipeline_bytes(model), rel=0.2)  # headers


def test_weights_of_half_precision_take_half(models):
    (training,) = trainings(*models, "trainer.ema_decay=0.9")
    assert 2 * checkpoint_bytes(training.spec, "fp16") == checkpoint_bytes(training.spec)
    (adapter,) = trainings(*models, "trainer=dreambooth_lora")
    assert checkpoint_bytes(adapter.spec, "fp16") == checkpoint_bytes(adapter.spec)


def adafactor_bytes(shapes):
    """Of the second moments: a row and a column of the last two dimensions."""
    return 4 * sum(math.prod(s) // s[-1] + math.prod(s) // s[-2] if len(s) > 1 else math.prod(s) for s in shapes)


def test_the_state_of_adafactor_on_the_u_net_of_stable_diffusion():
    weights = [torch.nn.Parameter(torch.ones(shape)) for shape in ((8, 6, 3, 3), (8, 6), (5,))]
    optimizer = Adafactor(weights, lr=1.0, scale_parameter=False, relative_step=False)
    sum(weight.sum() for weight in weights).backward()
    optimizer.step()
    tensors = [x for x in tree_leaves(optimizer.state_dict()["state"]) if isinstance(x, torch.Tensor) and x.numel() > 1]
    assert 4 * sum(x.numel() for x in tensors) == adafactor_bytes([weight.shape for weight in weights])
    with torch.device("meta"):
        network = UNet2DConditionModel(cross_attention_dim=768)
    count = sum(weight.numel() for weight in network.parameters())
    assert count == 859_520_964  # Stable Diffusion 1.5's
    assert adafactor_bytes([w.shape for w in network.parameters()]) / count == pytest.approx(
        OPTIMIZER_BYTES["adafactor"], abs=0.005
    )
