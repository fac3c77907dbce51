"""Metrics against their formulas, torchmetrics and images that tempt them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchmetrics.functional.multimodal import clip_score
from transformers import AutoModel, CLIPImageProcessor, CLIPModel, CLIPProcessor, ViTImageProcessor

from evaluation.baselines import centre, photograph_values, read_photographs
from evaluation.denoising import TIMESTEPS, denoising_losses
from evaluation.features import ClipEncoder, DinoEncoder, encode
from evaluation.metrics import METRICS, Images, Reference, Samples, noise_level, score
from evaluation.vetoes import VETOES
from evaluation.words import VETOED
from tests.evaluation.conftest import SIDE
from trainers.errors import SpecError
from trainers.families import family_of

ATOL = 1e-5


@pytest.fixture(scope="module")
def clip(clip_folder):
    return ClipEncoder(str(clip_folder))


@pytest.fixture(scope="module")
def dino(dino_folder):
    return DinoEncoder(str(dino_folder))


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, SIDE, SIDE, 3), dtype=np.uint8)


def of_features(features: np.ndarray) -> Images:
    """Images with the same given unit features [..., D] for CLIP and DINO, and as single patch."""
    features = features / np.linalg.norm(features, axis=-1, keepdims=True)
    return Images(np.zeros((*features.shape[:-1], 8, 8, 3), np.uint8), features, features, features[..., None, :])


def scored(prompts, of_class=None, photographs=None, texts=None, losses=None):
    rng = np.random.default_rng(3)
    losses = np.ones((1, 1)) if losses is None else losses
    photographs = of_features(rng.normal(size=(3, 4))) if photographs is None else photographs
    texts = rng.normal(size=(len(prompts.clip), prompts.clip.shape[-1])) if texts is None else texts
    return score(Samples(prompts, of_class or prompts, losses), Reference(photographs, texts))


def test_the_formulas_on_known_vectors():
    east, north, both = [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]
    values = scored(
        prompts=of_features(np.array([[east, both], [north, north]])),
        of_class=of_features(np.array([[north, both]])),
        photographs=of_features(np.array([east, east, north])),
        texts=np.array([east, north]),
    )
    half = np.sqrt(0.5)
    assert values["dino"] == pytest.approx(np.array([[2 / 3, half], [1 / 3, 1 / 3]]))
    assert values["clip_i"] == pytest.approx(values["dino"])
    assert values["clip_t"] == pytest.approx(np.array([[1, half], [1, 1]]))
    assert values["pres"] == pytest.approx(np.array([[1 / 3, half]]))
    assert values["copying"] == pytest.approx(np.array([[1, half], [1, 1]]))
    assert values["div"] == pytest.approx(np.array([[1 - half, 1 - half], [0, 0]]))


def test_identical_images_score_one(clip, dino):
    one = encode(random_images(1), clip, dino)
    same = encode(np.repeat(random_images(1)[None], 3, axis=1), clip, dino)
    values = scored(same, photographs=one)
    for name in ("dino", "clip_i", "copying", "pres"):
        assert values[name] == pytest.approx(np.ones((1, 3)), abs=ATOL)
    assert values["div"] == pytest.approx(np.zeros((1, 3)), abs=ATOL)


def test_black_constant_and_tiny_images_stay_finite(clip, dino, pixels):
    tiny = np.zeros((1, 2, 1, 1, 3), np.uint8)
    for images in (pixels[None], pixels[:, None], tiny):
        encoded = encode(images, clip, dino)
        values = scored(encoded, photographs=encode(pixels, clip, dino))
        finite = [name for name in METRICS if not (name == "div" and images.shape[1] == 1)]
        finite = [name for name in finite if not (name == "noise" and images is tiny)]
        for name in finite:
            assert np.isfinite(values[name]).all(), name


def test_what_is_not_defined_is_missing_rather_than_wrong():
    alone = scored(of_features(np.random.default_rng(0).normal(size=(2, 1, 4))))
    assert np.isnan(alone["div"]).all()
    assert np.isnan(noise_level(np.zeros((2, 2, 2, 3), np.uint8))).all()


@given(order=st.permutations(range(5)))
@settings(max_examples=10, deadline=None)
def test_order_of_photographs_and_images_does_not_matter(order):
    rng = np.random.default_rng(0)
    prompts, photographs, texts = rng.normal(size=(2, 5, 8)), rng.normal(size=(5, 8)), rng.normal(size=(2, 8))
    one = scored(of_features(prompts), photographs=of_features(photographs), texts=texts)
    other = scored(of_features(prompts[:, order]), photographs=of_features(photographs[list(order)]), texts=texts)
    for name in set(METRICS) - {"validation_loss"}:
        assert other[name] == pytest.approx(one[name][:, order]), name


class TensorCLIP(CLIPModel):
    """What torchmetrics 1.9 expects of CLIPModel: in transformers 5 the features are a field of the output."""

    def get_image_features(self, *args, **kwargs):
        return super().get_image_features(*args, **kwargs).pooler_output

    def get_text_features(self, *args, **kwargs):
        return super().get_text_features(*args, **kwargs).pooler_output


def test_clip_t_agrees_with_torchmetrics(clip, clip_folder):
    images, texts = random_images(4), ["a cat", "an owl", "red", "a blue dog"]  # a letter a token
    ours = [float(i @ t) for i, t in zip(clip.images(images), clip.text(texts), strict=True)]
    model, processor = TensorCLIP.from_pretrained(clip_folder), CLIPProcessor(clip.processor, clip.tokenizer)
    for image, text, value in zip(images, texts, ours, strict=True):
        pixels = torch.from_numpy(image).permute(2, 0, 1)
        theirs = clip_score(pixels, text, model_name_or_path=lambda: (model, processor)).detach()
        assert max(100 * value, 0) == pytest.approx(float(theirs), abs=1e-3)
    assert max(ours) > 0


def test_dino_without_a_crop_is_preprocessed_as_by_its_own_processor(dino, dino_folder):
    images = random_images(2, seed=5).repeat(3, axis=1).repeat(3, axis=2)  # three times too large
    own = ViTImageProcessor.from_pretrained(dino_folder)(list(images), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = AutoModel.from_pretrained(dino_folder)(pixel_values=own).last_hidden_state[:, 0]
    expected = torch.nn.functional.normalize(expected, dim=-1).numpy()
    assert dino.images(images)[0] == pytest.approx(expected, abs=1e-4)


def test_dinov2_goes_the_same_way(dinov2_folder):
    cls, patches = DinoEncoder(str(dinov2_folder)).images(random_images(2))
    assert cls.shape == (2, 16)
    assert patches.shape == (2, (SIDE // 4) ** 2, 16)
    assert np.linalg.norm(cls, axis=-1) == pytest.approx(np.ones(2))


def test_batches_do_not_change_features(clip, dino, monkeypatch):
    images = random_images(5)
    whole = encode(images, clip, dino)
    monkeypatch.setattr("evaluation.features.BATCH", 2)
    parts = encode(images, clip, dino)
    assert parts.clip == pytest.approx(whole.clip, abs=ATOL)
    assert parts.dino == pytest.approx(whole.dino, abs=ATOL)


def test_images_that_do_not_fit_at_once_give_the_same_features(clip, dino, monkeypatch):
    images = random_images(5)
    whole = encode(images, clip, dino)
    for encoder in (clip, dino):
        monkeypatch.setattr(encoder.model, "get_image_features" if encoder is clip else "forward", at_most_two(encoder))
    monkeypatch.setattr("trainers.batches.FITS", {})
    parts = encode(images, clip, dino)
    assert parts.clip == pytest.approx(whole.clip, abs=ATOL)
    assert parts.dino == pytest.approx(whole.dino, abs=ATOL)


def at_most_two(encoder):
    real = encoder.model.get_image_features if isinstance(encoder, ClipEncoder) else encoder.model.forward

    def limited(pixel_values, **kwargs):
        if len(pixel_values) > 2:
            raise torch.OutOfMemoryError("no room")
        return real(pixel_values=pixel_values, **kwargs)

    return limited


def test_a_missing_encoder_is_named():
    with pytest.raises(SpecError, match="no/such"):
        ClipEncoder("./no/such")


def test_noise_level_measures_gaussian_noise():
    rng = np.random.default_rng(0)
    ramp = np.linspace(60, 200, 96)[None, :, None] + np.zeros((96, 96, 3))
    assert noise_level(ramp.round().astype(np.uint8)) < 0.6  # rounding to grey levels
    noisy = ramp[..., :1] + rng.normal(0, 8, (96, 96, 1)) + np.zeros(3)  # the same on every channel
    assert noise_level(noisy.clip(0, 255).astype(np.uint8)) == pytest.approx(8, rel=0.05)


def test_photographs_are_compared_leave_one_out():
    east, north, both = [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]
    values = photograph_values(Reference(of_features(np.array([east, north, both])), np.array([east])))
    half = np.sqrt(0.5)
    assert values["dino"] == pytest.approx([half / 2, half / 2, half])
    assert values["copying"] == pytest.approx([half, half, half])
    assert values["clip_t"] == pytest.approx(np.array([[1, 0, half]]))
    alone = photograph_values(Reference(of_features(np.array([east])), np.array([east])))
    assert alone["dino"] == pytest.approx([1])


def test_photographs_are_squares_of_the_middle(photographs):
    assert read_photographs(photographs, SIDE).shape == (3, SIDE, SIDE, 3)
    image = np.arange(2 * 6 * 3, dtype=np.uint8).reshape(2, 6, 3)
    assert (centre(image) == image[:, 2:4]).all()
    read = read_photographs(photographs, SIDE)[2]
    assert (read == np.asarray(Image.open(photographs / "2.png"))).all()  # the right size already: untouched


def test_validation_loss_is_the_written_formula_on_frozen_noise(components):
    images = random_images(2)
    losses = denoising_losses(components, images, "a sks owl")
    assert losses.shape == (2, len(TIMESTEPS))
    assert (losses == denoising_losses(components, images, "a sks owl")).all()
    family = family_of(components.model)
    with torch.no_grad():
        states = family.condition(components, ["a sks owl"]).tensors["states"].expand(2, -1, -1)
        vae = components.autoencoder
        latents = vae.encode(torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1).latent_dist.mean
        latents = latents * vae.config.scaling_factor
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(2))
        alpha = family.forward_process(components).alphas_cumprod[500]
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        predicted = components.network(noisy, 500, states).sample
    assert losses[:, 2] == pytest.approx(((predicted - noise) ** 2).mean((1, 2, 3)).numpy(), rel=1e-4)


def test_clip_processors_agree_on_squares(clip, clip_folder):
    images = random_images(2)
    theirs = CLIPImageProcessor.from_pretrained(clip_folder)(list(images), return_tensors="pt")["pixel_values"]
    ours = clip.processor(list(images), input_data_format="channels_last", return_tensors="pt")["pixel_values"]
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_words_for_a_person(name):
    metric = METRICS[name]
    assert isinstance(metric.higher_is_better, bool)
    assert metric.title
    assert metric.title[0].islower() or metric.title.split()[0].isupper()
    assert metric.description[0].isupper()
    assert metric.description.endswith(".")
    assert metric.unit
    assert metric.version >= 1
    assert metric.backbone in ("clip", "dino", "pixels", "unet")


def test_every_veto_has_words_and_advice():
    for name, veto in VETOES.items():
        assert name in METRICS
        said = veto.words.format(0.5, 0.4, 0.6)
        assert ("50%" in said and "40%" in said) if name == "copying" else "0.50 [0.40, 0.60]" in said
        assert veto.advice
        assert VETOED[name]
