"""Tiny random models in the formats of the real ones, saved to disk and loaded through the real path."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from evaluation.spec import EvalSpec
from trainers.families import family_of
from trainers.files import write_json
from trainers.spec import ModelSpec, SampleSpec, SubjectSpec

SIDE = 16  # pixels


def tokenizer():
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    words = letters + [letter + "</w>" for letter in letters] + ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer({w: i for i, w in enumerate(words)}, [], model_max_length=12)


def text_config(**kwargs):
    return dict(
        vocab_size=54, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=12, bos_token_id=52, eos_token_id=53, pad_token_id=53, **kwargs,
    )  # fmt: skip


def vision_config(**kwargs):
    return dict(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=SIDE,
        patch_size=4, **kwargs,
    )  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    torch.manual_seed(0)
    StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=(8, 8), norm_num_groups=2, latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        ),
        text_encoder=CLIPTextModel(CLIPTextConfig(**text_config())),
        tokenizer=tokenizer(),
        unet=UNet2DConditionModel(
            sample_size=SIDE // 2, block_out_channels=(8, 8), norm_num_groups=2, cross_attention_dim=16,
            layers_per_block=1, attention_head_dim=2, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        ),
        scheduler=PNDMScheduler(skip_prk_steps=True),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def components(pipeline_folder):
    model = ModelSpec(revision="test", repo=str(pipeline_folder), resolution=SIDE)
    return family_of(model).load(model)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(1)
    CLIPModel(CLIPConfig(text_config=text_config(), vision_config=vision_config(), projection_dim=8)).save_pretrained(
        folder
    )
    tokenizer().save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="session")
def dino_folder(tmp_path_factory):
    """As facebook/dino-vits16: a ViT without pooler, and a preprocessor config that knows no crop."""
    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(2)
    ViTModel(ViTConfig(**vision_config()), add_pooling_layer=False).save_pretrained(folder)
    config = {"do_normalize": True, "do_resize": True, "feature_extractor_type": "ViTFeatureExtractor", "resample": 3}
    mean = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    write_json(folder / "preprocessor_config.json", config | mean | {"size": SIDE})
    return folder


@pytest.fixture(scope="session")
def dinov2_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dinov2")
    torch.manual_seed(3)
    Dinov2Model(Dinov2Config(**vision_config())).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": SIDE + 2}, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for i, shape in enumerate([(20, 30, 3), (30, 20, 3), (SIDE, SIDE, 3)]):
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="session")
def subject(photographs):
    return SubjectSpec(fingerprint="photographs", class_noun="owl", images=str(photographs))


@pytest.fixture(scope="session")
def sampling():
    return SampleSpec("ddim", inference_steps=2)


@pytest.fixture(scope="session")
def evaluation(clip_folder, dino_folder):
    return EvalSpec(
        prompts=("a photo of {} on the beach", "a red {}"), images_per_prompt=2, class_images=2,
        clip="clip", dino="dino", clip_repo=str(clip_folder), dino_repo=str(dino_folder), clip_name="tiny clip",
    )  # fmt: skip


@pytest.fixture
def pixels():
    """Images that tempt a metric to divide by zero, and a usual one: uint8 [4, SIDE, SIDE, 3]."""
    rng = np.random.default_rng(1)
    usual = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return np.stack([np.zeros_like(usual), np.full_like(usual, 255), np.full_like(usual, 128), usual])
