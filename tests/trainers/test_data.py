"""The streams of images, crops, noise and timesteps."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.trainers import tiny
from trainers import data
from trainers.data import Latents, generator, instance_prompts, make_streams, order
from trainers.errors import SpecError
from trainers.families import family_of
from trainers.loop import train

CPU = torch.device("cpu")
WHOLE = slice(None)


@given(st.integers(0, 5), st.integers(1, 9), st.integers(0, 40), st.integers(1, 30))
def test_order_is_one_stream_of_whole_passes(seed, count, start, length):
    stream = order(seed, "instance", count, 0, start + length)
    assert order(seed, "instance", count, start, length) == stream[start:]
    for epoch in range(len(stream) // count):
        assert sorted(stream[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_passes_are_shuffled_and_purposes_and_seeds_apart():
    assert order(0, "instance", 50, 0, 50) != order(0, "instance", 50, 50, 50)
    assert order(0, "instance", 50, 0, 50) != order(0, "class", 50, 0, 50)
    assert order(0, "instance", 50, 0, 50) != order(1, "instance", 50, 0, 50)


@pytest.fixture
def streams(make_spec, class_folder, tmp_path):
    def make(spec=None, **fields):
        spec = spec or make_spec(prior=True, **fields)
        family = family_of(spec.model)
        components = family.load(spec.model)
        return make_streams(spec, components, family.forward_process(components), class_folder, tmp_path / "cache", CPU)

    return make


def test_processes_share_the_batch(streams):
    for stream in streams():
        whole = stream.batch(3, 4, WHOLE, CPU)
        parts = [stream.batch(3, 4, slice(0, 2), CPU), stream.batch(3, 4, slice(2, 4), CPU)]
        for name in ("latents", "noise", "timesteps"):
            assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts]))
        assert whole.prompts == parts[0].prompts + parts[1].prompts


def test_draws_are_unit_normal_and_new_at_every_step(streams):
    instance, klass = streams()
    noise = torch.cat([stream.batch(i, 4, WHOLE, CPU).noise for stream in (instance, klass) for i in range(40)])
    assert len({float(row.sum()) for row in noise}) == len(noise)
    assert abs(float(noise.mean())) < 5 / noise.numel() ** 0.5
    assert float(noise.std()) == pytest.approx(1, abs=0.01)


def test_prior_and_options_leave_the_instance_draws_alone(streams, make_spec):
    """So that trainings which differ in one setting are paired."""
    plain = streams(make_spec())[0].batch(2, 4, WHOLE, CPU)
    for fields in ({}, {"trainer": {"random_flip": True}}, {"trainer": {"cache_latents": False}}):
        batch = streams(**fields)[0].batch(2, 4, WHOLE, CPU)
        assert torch.equal(plain.noise, batch.noise)
        assert torch.equal(plain.timesteps, batch.timesteps)


def test_offset_noise_shifts_whole_channels(streams):
    plain = streams()[0].batch(0, 64, WHOLE, CPU).noise
    shifted = streams(trainer={"offset_noise": 0.5})[0].batch(0, 64, WHOLE, CPU).noise
    shift = shifted - plain
    assert torch.allclose(shift, shift.mean((2, 3), keepdim=True).expand_as(shift), atol=1e-5)
    assert float(shift[:, :, 0, 0].std()) == pytest.approx(0.5, rel=0.15)


def test_repeats_lengthen_the_pass(streams):
    """Each image comes as often as asked in one pass, and passes are shuffled as a whole."""
    for repeats in (1, 4):
        stream = replace(streams(trainer={"repeats": repeats})[0], prompts=[["a"], ["b"], ["c"]])
        seen = stream.batch(0, 12, WHOLE, CPU).prompts
        assert Counter(seen) == {"a": 4, "b": 4, "c": 4}
        each = [len(set(seen[i : i + 3])) == 3 for i in range(0, 12, 3)]
        assert all(each) == (repeats == 1)


def photograph(folder, size=(24, 16)):
    folder.mkdir()
    width, height = size
    pixels = np.stack([np.tile(np.arange(width) * 10, (height, 1))] * 3, -1).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    return [folder / "a.png"]


def identity(pixels):
    return pixels, torch.zeros_like(pixels)


def test_crops_cover_the_photograph_and_flip(tmp_path):
    latents = Latents(photograph(tmp_path / "p"), 16, False, True, identity, keep=True)
    draws = torch.rand(400, 3, generator=generator(0, "crops"))
    crops = [latents.crop(0, draw) for draw in draws]
    assert {left for _, left, _ in crops} == set(range(9))
    assert {top for top, _, _ in crops} == {0}
    assert Counter(flip for *_, flip in crops)[True] == pytest.approx(200, abs=60)
    columns = ((latents.pixels(0, (0, 5, False))[0, 0, 0] + 1) * 127.5 / 10).round()
    assert columns.tolist() == list(range(5, 21))
    assert torch.equal(latents.pixels(0, (0, 5, True)), latents.pixels(0, (0, 5, False)).flip(-1))
    assert not latents.fixed


def test_a_bounded_number_of_crops_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CROPS_KEPT", 3)
    encoded = []

    def encode(pixels):
        encoded.append(1)
        return identity(pixels)

    latents = Latents(photograph(tmp_path / "p"), 16, False, False, encode, keep=True)
    crops = [(0, left, False) for left in range(9)]
    for crop in [*crops, *crops[-3:]]:
        assert torch.equal(latents(0, crop)[0], latents.pixels(0, crop)[0])
    assert len(encoded) == 9
    latents(0, crops[0])
    assert len(encoded) == 10


def test_centre_crop(tmp_path):
    latents = Latents(photograph(tmp_path / "p"), 16, True, False, identity, keep=True)
    assert latents.fixed
    assert latents.crop(0, torch.rand(3)) == (0, 4, False)


@pytest.mark.parametrize("trainer", [{}, {"random_flip": True}, {"center_crop": True}])
@pytest.mark.parametrize("size", [(16, 16), (24, 17)])
def test_cache_changes_nothing(make_spec, tmp_path, trainer, size):
    """With cached latents and without: the same losses, also of photographs that are cropped anew each time."""
    folder = tiny.make_images(tmp_path / "photographs", 3, size)
    losses = []
    for cached in (True, False):
        spec = make_spec(trainer={**trainer, "cache_latents": cached, "cache_text": cached})
        spec = spec.__class__(**{**spec.__dict__, "subject": tiny.subject_spec(folder)})
        shown = []
        list(train(spec, [4], tmp_path / str(cached), progress=lambda step, loss, shown=shown: shown.append(loss)))
        losses.append(shown)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_cache_samples_anew_and_is_read_by_the_next_training(streams, tmp_path):
    instance = streams()[0]
    latents = [instance.batch(i, 3, WHOLE, CPU).latents.sum() for i in range(4)]
    assert len({float(x) for x in latents}) == 4
    files = list((tmp_path / "cache" / "latents").glob("*.safetensors"))
    assert len(files) == 2
    again = streams()[0]
    assert torch.equal(again.batch(1, 3, WHOLE, CPU).latents, instance.batch(1, 3, WHOLE, CPU).latents)
    assert len(list((tmp_path / "cache" / "latents").glob("*.safetensors"))) == 2


def test_captions(make_spec, tmp_path):
    folder = tiny.make_images(tmp_path / "captioned", 2)
    (folder / "00.txt").write_text("sks dog in the photo\n")
    spec = make_spec()
    assert instance_prompts(spec, folder / "00.png") == ["sks dog in the photo"]
    assert instance_prompts(spec, folder / "01.png") == ["a photo of sks dog"]
    assert instance_prompts(make_spec(trainer={"captions": False}), folder / "00.png") == ["a photo of sks dog"]


def test_prior_needs_its_images(make_spec, tmp_path):
    with pytest.raises(SpecError, match="class images"):
        next(train(make_spec(prior=True), [1], tmp_path))
