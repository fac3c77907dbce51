"""The training of the parts: the optimizer, the loop and how it resumes, the arithmetic of losses, the kept renders."""

import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from transformers import AutoModel, CLIPModel

from miniature.pretrain import classifier, clip, data, export, identity, loop, unet, vae
from miniature.pretrain.__main__ import PARTS
from miniature.pretrain.data import cached_renders, render_all, scene_from_seed, to_images, to_tensor
from miniature.pretrain.muon import Muon, make_optimizers, orthogonalize

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("shape", [(8, 8), (4, 36), (36, 4)])
def test_orthogonalize_brings_singular_values_near_one(shape):
    values = torch.linalg.svdvals(orthogonalize(torch.randn(shape, generator=torch.Generator().manual_seed(0))))
    assert values.min() > 0.4
    assert values.max() < 1.4


def test_muon_takes_hidden_convolutions_and_leaves_the_rest_to_adamw():
    model = torch.nn.ModuleDict({"conv_in": torch.nn.Conv2d(2, 4, 3), "hidden": torch.nn.Conv2d(4, 4, 3)})
    hidden, rest = make_optimizers(model, 0.1)
    assert [weight is model["hidden"].weight for weight in hidden.param_groups[0]["params"]] == [True]
    assert len(rest.param_groups[0]["params"]) == 3


def test_muon_lowers_a_loss():
    weight = torch.nn.Parameter(torch.randn(4, 4, 3, 3, generator=torch.Generator().manual_seed(0)))
    optimizer = Muon([weight], lr=0.1)
    before = weight.square().sum().item()
    for _ in range(20):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    assert weight.square().sum().item() < 0.5 * before


def fit_line(folder, steps, stop_at=None):
    """Fit a line with `loop.fit`; with `stop_at` it raises in that step, as a kill would."""
    calls = itertools.count()

    def loss_of(model, rng):
        if next(calls) == stop_at:
            raise KeyboardInterrupt
        x = torch.from_numpy(rng.normal(size=(8, 1))).float()
        return (model(x) - 2 * x + torch.randn(8, 1) * 0.1).square().mean(), {}

    torch.manual_seed(0)
    return loop.fit("line", torch.nn.Linear(1, 1), loss_of, steps=steps, lr=1e-2, folder=folder)


def test_a_resumed_training_ends_as_an_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0)
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    whole = fit_line(tmp_path / "whole", 30)
    with pytest.raises(KeyboardInterrupt):
        fit_line(tmp_path / "broken", 30, stop_at=17)
    resumed = fit_line(tmp_path / "broken", 30)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_schedules_start_at_the_peak_and_fall():
    assert loop.cosine(0) == loop.trapezoid(0) == loop.trapezoid(0.75) == 1
    assert loop.cosine(1) < 0.05
    assert loop.trapezoid(1) < 0.05


def test_min_snr_weights_against_their_definition():
    alphas = torch.tensor([0.99, 0.5, 0.01])
    expected = [5 / 99, 1.0, 1.0]
    assert unet.min_snr_weights(alphas, torch.arange(3)).tolist() == pytest.approx(expected, rel=1e-4)


def test_timesteps_are_spread():
    timesteps = unet.spread_timesteps(np.random.default_rng(0), 10)
    assert sorted(int(t) // 100 for t in timesteps) == list(range(10))


def test_standardized_latents_have_unit_scale_and_the_same_images():
    torch.manual_seed(0)
    model = vae.build().eval()
    images = render_all([scene_from_seed(seed) for seed in range(40)])
    with torch.no_grad():
        before = model.decode(model.encode(to_tensor(images)).latent_dist.mode()).sample
        vae.standardize(model, images)
        latents = model.encode(to_tensor(images)).latent_dist
        after = model.decode(latents.mode()).sample
    assert latents.mode().mean((0, 2, 3)).abs().max() < 1e-4
    assert (latents.mode().std((0, 2, 3)) - 1).abs().max() < 1e-4
    assert (before - after).abs().max() < 1e-4


def test_psnr_of_a_known_error():
    class Shifted(torch.nn.Module):
        """An autoencoder that is off by 0.02 of the range everywhere."""

        def encode(self, pixels):
            self.latent_dist = self
            self.kept = pixels * 0.5
            return self

        def mode(self):
            return self.kept

        def decode(self, latents):
            self.sample = latents * 2 + 0.04
            return self

    gray = np.full((3, 64, 64, 3), 128, np.uint8)
    assert vae.psnr(Shifted(), gray).tolist() == pytest.approx([-20 * math.log10(0.02)] * 3, abs=1e-3)


def test_images_survive_the_way_to_tensors_and_back():
    images = render_all([scene_from_seed(0)])
    assert (to_images(to_tensor(images)) == images).all()


def test_renders_are_kept(tmp_path, monkeypatch):
    scenes = [scene_from_seed(seed) for seed in range(3)]
    first = cached_renders(scenes, tmp_path / "scenes.npy")
    assert (first == render_all(scenes)).all()
    monkeypatch.setattr(data, "render", None)
    assert (cached_renders(scenes, tmp_path / "scenes.npy") == first).all()


def test_renders_that_were_interrupted_are_not_taken_for_complete(tmp_path, monkeypatch):
    scenes = [scene_from_seed(seed) for seed in range(3)]
    with monkeypatch.context() as patch:
        patch.setattr(data, "render", None)
        with pytest.raises(TypeError):
            cached_renders(scenes, tmp_path / "scenes.npy")
    assert (cached_renders(scenes, tmp_path / "scenes.npy") == render_all(scenes)).all()


def first_weights(part, folder):
    """A part's weights before its first step."""
    scenes = [scene_from_seed(seed) for seed in range(4)]
    images = render_all(scenes)
    if part == "vae":
        return vae.train(images, folder, 0)
    if part == "judge":
        return classifier.train(scenes, images, folder, 0)
    if part == "identity":
        return identity.train(folder, 4, 0)
    clip_model, tokenizer = clip.train(scenes, images, folder, 0, 0, 0)
    if part == "clip":
        return clip_model
    moments = (torch.zeros(4, 8, 16, 16), torch.ones(4, 8, 16, 16))
    return unet.train(scenes, moments, export.text_encoder_of(clip_model), tokenizer, folder, 0)


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_seeded(part, tmp_path):
    weights = []
    for outside in (1, 2):
        torch.manual_seed(outside)
        weights.append(first_weights(part, tmp_path).state_dict())
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())


@pytest.mark.slow
def test_everything_is_built_from_nothing(tmp_path):
    """With a five-hundredth of the steps: the images show nothing, but the folders are complete."""
    command = [sys.executable, "-m", "miniature.pretrain", "--scale", "0.002", "--threads", "1"]
    folders = ["--state", str(tmp_path / "state"), "--weights", str(tmp_path / "weights")]
    subprocess.run([*command, *folders], check=True, cwd=PROJECT)
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "weights" / "pipeline")
    assert np.isfinite(pipeline("a photo of a dog", num_inference_steps=2, output_type="np").images).all()
    text_encoder = pipeline.text_encoder.state_dict()
    clip_model = CLIPModel.from_pretrained(tmp_path / "weights" / "clip")
    assert all(torch.equal(text_encoder[name], weight) for name, weight in clip_model.text_model.state_dict().items())
    AutoModel.from_pretrained(tmp_path / "weights" / "identity")
    classifier.load(tmp_path / "weights" / "judge")
