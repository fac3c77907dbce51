"""The encoders that one configures, in the formats of their repositories: shrunk models, real preprocessing."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    ViTConfig,
    ViTModel,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from evaluation.features import ClipEncoder, DinoEncoder
from tests.evaluation.conftest import text_config, tokenizer
from trainers.files import write_json

CLIP = {
    "crop_size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True, "resample": 3, "size": 224,
    "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}  # fmt: skip
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
DINO = IMAGENET | {"do_normalize": True, "do_resize": True, "resample": 3, "size": 224}
DINOV2 = IMAGENET | {
    "crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 256}, "resample": 3,
    "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True,
    "image_processor_type": "BitImageProcessor", "rescale_factor": 1 / 255,
}  # fmt: skip


def vision(patch):
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return sizes | {"image_size": 224, "patch_size": patch}


def clip(patch):
    return CLIPModel(CLIPConfig(text_config=text_config(), vision_config=vision(patch), projection_dim=8))


def registers():
    return Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**vision(14), num_register_tokens=4))


REPOSITORIES = {
    "openai/clip-vit-base-patch32": (lambda: clip(32), CLIP, CLIPImageProcessorPil),
    "openai/clip-vit-large-patch14": (lambda: clip(14), CLIP, CLIPImageProcessorPil),
    "facebook/dino-vits16": (lambda: ViTModel(ViTConfig(**vision(16)), False), DINO, ViTImageProcessorPil),
    "facebook/dinov2-base": (lambda: Dinov2Model(Dinov2Config(**vision(14))), DINOV2, BitImageProcessorPil),
    "facebook/dinov2-with-registers-base": (registers, DINOV2, BitImageProcessorPil),
}


@pytest.fixture(params=REPOSITORIES)
def repository(request, tmp_path):
    """(folder, model, its own preprocessing)"""
    make, config, processor = REPOSITORIES[request.param]
    torch.manual_seed(0)
    model = make().eval()
    model.save_pretrained(tmp_path)
    write_json(tmp_path / "preprocessor_config.json", config)
    if "clip" in request.param:
        tokenizer().save_pretrained(tmp_path)
    return tmp_path, model, processor(**config)


@torch.no_grad()
def test_features_are_those_of_the_repositorys_own_preprocessing(repository):
    folder, model, processor = repository
    images = np.random.default_rng(0).integers(0, 256, (3, 300, 300, 3), dtype=np.uint8)
    pixels = processor(list(images), return_tensors="pt", input_data_format="channels_last")["pixel_values"]
    if isinstance(model, CLIPModel):
        ours, own = ClipEncoder(str(folder)).images(images), model.get_image_features(pixels).pooler_output
    else:
        (ours, patches), own = DinoEncoder(str(folder)).images(images), model(pixels).last_hidden_state[:, 0]
        assert patches.shape[1] == (224 // model.config.patch_size) ** 2  # without the registers
    assert pixels.shape == (3, 3, 224, 224)
    assert ours == pytest.approx(torch.nn.functional.normalize(own, dim=-1).numpy(), abs=1e-5)


def test_weights_of_before_safetensors_are_read(clip_folder, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    for file in clip_folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save(CLIPModel.from_pretrained(clip_folder).state_dict(), tmp_path / "pytorch_model.bin")
    assert (ClipEncoder(str(tmp_path)).images(images) == ClipEncoder(str(clip_folder)).images(images)).all()


class Malice:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickled_code_is_refused(clip_folder, tmp_path):
    for file in clip_folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = CLIPModel.from_pretrained(clip_folder).state_dict()
    torch.save(weights | {"more": Malice(tmp_path / "ran")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(pickle.UnpicklingError):
        ClipEncoder(str(tmp_path))
    assert not (tmp_path / "ran").exists()
