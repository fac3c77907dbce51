"""From a checkpoint's components to its scorecard."""

import json
import shutil
import weakref

import numpy as np
import pytest
import torch

from evaluation import weights as weights_module
from evaluation.denoising import denoising_losses
from evaluation.evaluate import encoders, evaluate, prepare
from evaluation.metrics import METRICS
from evaluation.sample import generator, read_images, sample_images
from evaluation.scorecard import Baselines, Scorecard
from trainers.families import family_of
from trainers.files import read_json


@pytest.fixture(scope="module")
def prepared(components, subject, sampling, evaluation, tmp_path_factory):
    return prepare(components, subject, sampling, evaluation, tmp_path_factory.mktemp("untuned"))


@pytest.fixture(scope="module")
def reference(prepared):
    return prepared[0]


@pytest.fixture(scope="module")
def baselines(prepared):
    return prepared[1]


def test_the_scorecard_holds_every_metric_per_image(components, subject, sampling, evaluation, reference, tmp_path):
    card = evaluate(components, subject, sampling, evaluation, reference, tmp_path)
    assert set(card.metrics) == set(card.values) == set(card.backbones) == set(METRICS)
    assert np.shape(card.values["dino"]) == (2, 2)
    assert np.shape(card.values["pres"]) == (1, 2)
    assert card.images["clip_t"] == 4
    assert card.backbones["clip_t"] == "tiny clip"
    assert card.metrics["dino"] == pytest.approx(np.mean(card.values["dino"]))
    assert Scorecard.read(tmp_path / "scores.json") == card
    assert sorted(f.name for f in tmp_path.glob("*.png")) == ["00-00.png", "00-01.png", "01-00.png", "01-01.png"]


def test_the_baselines_are_json_and_have_the_shapes_of_checkpoints(baselines):
    assert Baselines.from_json(json.loads(json.dumps(baselines.to_json(), allow_nan=False))) == baselines
    assert set(baselines.untuned) == set(METRICS)
    assert np.shape(baselines.photographs["clip_t"]) == (2, 3)
    assert np.shape(baselines.photographs["dino"]) == (3,)


def test_prompts_are_compared_without_the_identifier(evaluation, reference):
    clip, _ = encoders(evaluation, "cpu")
    assert (reference.texts == clip.text(["a photo of an owl on the beach", "a red owl"])).all()


def test_a_checkpoint_and_the_untuned_model_start_from_the_same_noise(
    components, subject, sampling, evaluation, reference, tmp_path, monkeypatch
):
    family, drawn = family_of(components.model), []

    def sample(components, prompts, latents, *arguments, draw=family.sample):
        drawn.append((tuple(prompts), latents))
        return draw(components, prompts, latents, *arguments)

    monkeypatch.setattr(family, "sample", sample)
    prepare(components, subject, sampling, evaluation, tmp_path / "untuned")
    evaluate(components, subject, sampling, evaluation, reference, tmp_path / "tuned")
    untuned, tuned = drawn[:2], drawn[2:]
    assert len(untuned) == len(tuned) == 2
    for (before, noise), (after, same) in zip(untuned, tuned, strict=True):
        assert torch.equal(noise, same)
        assert before == after or all("sks owl" in prompt for prompt in after)


def test_what_is_scored_is_not_sampled_again(components, subject, sampling, evaluation, reference, tmp_path):
    first = evaluate(components, subject, sampling, evaluation, reference, tmp_path)
    (tmp_path / "00-00.png").unlink()
    assert evaluate(components, subject, sampling, evaluation, reference, tmp_path) == first
    assert not (tmp_path / "00-00.png").exists()


def test_a_killed_sampling_goes_on_and_gives_the_same(components, sampling, tmp_path):
    arguments = (components, sampling, "sks owl", ("a {}", "a {} at night", "{}"), 2, 0)
    whole = sample_images(*arguments, tmp_path / "whole", batch_size=2)
    shutil.copytree(whole, tmp_path / "killed")
    for name in ("manifest.json", "01-01.png", "02-00.png", "02-01.png"):
        (tmp_path / "killed" / name).unlink()
    kept = (tmp_path / "killed" / "00-00.png").stat().st_mtime_ns
    resumed = sample_images(*arguments, tmp_path / "killed", batch_size=2)
    assert (resumed / "00-00.png").stat().st_mtime_ns == kept
    assert (read_images(resumed, 3, 2) == read_images(whole, 3, 2)).all()
    assert read_json(resumed / "manifest.json")["prompts"] == ["a sks owl", "a sks owl at night", "sks owl"]


def test_the_shares_of_several_processes_are_what_one_draws(components, sampling, tmp_path):
    arguments = (components, sampling, "sks owl", ("a {}", "{}"), 3, 0)
    whole = sample_images(*arguments, tmp_path / "whole", batch_size=2)
    parts = tmp_path / "parts"
    names = []
    for number in (1, 0):
        sample_images(*arguments, parts, batch_size=2, share=(number, 2))
        names.append({path.name for path in parts.glob("*.png")})
    assert names[0] == {"00-02.png", "01-00.png"}
    assert len(names[1]) == 6
    assert not (parts / "manifest.json").exists()
    sample_images(*arguments, parts, batch_size=2)
    assert {path.name: path.read_bytes() for path in parts.iterdir()} == {
        path.name: path.read_bytes() for path in whole.iterdir()
    }
    with pytest.raises(ValueError, match="other settings"):
        sample_images(components, sampling, "sks owl", ("{}",), 1, 1, parts, share=(1, 2))


def test_a_share_takes_as_many_at_once_as_the_memory_holds(components, sampling, tmp_path, monkeypatch):
    sizes = []
    monkeypatch.setattr("evaluation.sample.images_at_once", lambda *arguments: 2)
    monkeypatch.setattr("evaluation.sample.sample_batch", lambda *arguments: sizes.append(len(arguments[3])))
    sample_images(components, sampling, "owl", ("{}",), 8, 0, tmp_path, batch_size=4, share=(0, 2))
    assert sizes == [2, 2]


def test_a_folder_of_other_samples_is_refused(components, sampling, tmp_path):
    sample_images(components, sampling, "sks owl", ("{}",), 1, 0, tmp_path)
    with pytest.raises(ValueError, match="other settings"):
        sample_images(components, sampling, "sks owl", ("{}",), 1, 1, tmp_path)


def test_noise_depends_on_seed_prompt_and_image_only():
    draws = {key: torch.randn(3, generator=generator(*key)) for key in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]}
    again = torch.randn(3, generator=generator(0, 1, 0))
    assert torch.equal(draws[0, 1, 0], again)
    assert len({tuple(d.tolist()) for d in draws.values()}) == 4


def test_the_batch_size_and_the_other_prompts_do_not_change_an_image(components, sampling, tmp_path):
    alone = sample_images(components, sampling, "owl", ("{}",), 1, 0, tmp_path / "a", batch_size=1)
    among = sample_images(components, sampling, "owl", ("{}", "a {} at night"), 3, 0, tmp_path / "b", batch_size=6)
    difference = read_images(alone, 1, 1)[0, 0].astype(int) - read_images(among, 2, 3)[0, 0]
    assert abs(difference).max() <= 1  # rounding of sums in another order


def test_evaluation_leaves_the_global_random_numbers_alone(components, subject, sampling, evaluation, tmp_path):
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    reference, _ = prepare(components, subject, sampling, evaluation, tmp_path / "untuned")
    evaluate(components, subject, sampling, evaluation, reference, tmp_path / "tuned")
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()


def test_memory_that_runs_out_halves_the_batch(components, sampling, tmp_path, monkeypatch):
    import evaluation.sample as module

    sizes, real = [], module.sample_batch

    def limited(components, spec, texts, batch, *args):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError
        real(components, spec, texts, batch, *args)

    monkeypatch.setattr(module, "sample_batch", limited)
    monkeypatch.setattr("trainers.batches.FITS", {})
    sample_images(components, sampling, "owl", ("{}",), 5, 0, tmp_path / "a", batch_size=8)
    assert sizes == [5, 2, 2, 1]
    sample_images(components, sampling, "owl", ("{}",), 3, 0, tmp_path / "b", batch_size=8)
    assert sizes[4:] == [2, 1]  # what did not fit once is not tried again
    assert read_images(tmp_path / "a", 1, 5).shape[:2] == (1, 5)


def test_weights_lie_on_the_device_in_one_precision_at_a_time(components, pixels, monkeypatch):
    """Those in half precision make room for the losses in fp32, and come back for the next way of sampling."""
    found = []

    def losses(placed, *arguments):
        found.append((half(), placed.network))
        return np.zeros((1, 1))

    monkeypatch.setattr(weights_module, "denoising_losses", losses)
    weights = weights_module.Weights(components)
    half = weakref.ref(weights.on("cpu", "bf16").network)
    assert half().dtype == torch.bfloat16
    weights.losses(pixels, "an owl", "cpu")
    assert found == [(None, components.network)]
    assert weights.on("cpu", "bf16").network.dtype == torch.bfloat16
    weights.losses(pixels, "an owl", "cpu")
    assert len(found) == 1


def test_photographs_that_do_not_fit_at_once_give_the_same_losses(components, pixels, monkeypatch):
    """On a card with memory for one of them in the autoencoder, and for two in the network."""
    at_once = denoising_losses(components, pixels, "a photo of an owl")
    family = type(family_of(components.model))
    encode, predict = family.encode_images, family.predict

    def limited(most, work):
        def limited_work(self, network, images, *args):
            if len(images) > most:
                raise torch.OutOfMemoryError("no room")
            return work(self, network, images, *args)

        return limited_work

    monkeypatch.setattr(family, "encode_images", limited(1, encode))
    monkeypatch.setattr(family, "predict", limited(2, predict))
    monkeypatch.setattr("trainers.batches.FITS", {})
    with pytest.raises(torch.OutOfMemoryError):
        denoising_losses(components, pixels, "a photo of an owl")
    monkeypatch.setattr("evaluation.denoising.sliced", lambda device: True)
    assert denoising_losses(components, pixels, "a photo of an owl") == pytest.approx(at_once, rel=1e-4)


def test_progress_counts_every_image_once(components, subject, sampling, evaluation, reference, tmp_path):
    seen = []
    evaluate(
        components, subject, sampling, evaluation, reference, tmp_path, batch_size=2, progress=lambda *a: seen.append(a)
    )
    assert seen == [(2, 6), (4, 6), (6, 6)]
