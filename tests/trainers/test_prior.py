"""Class images."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.trainers import tiny
from trainers.errors import SpecError
from trainers.families import family_of
from trainers.files import is_complete
from trainers.prior import make_class_images, review_sheet
from trainers.spec import PriorSpec, SampleSpec

PRIOR = PriorSpec(num_class_images=5, sample=SampleSpec("euler_a", 2))
PROMPT = "a photo of a dog"


@pytest.fixture
def components(pipelines):
    model = tiny.model_spec(pipelines["epsilon"])
    return family_of(model).load(model)


def read(folder):
    return [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))]


def test_batches_and_interruption_do_not_matter(components, tmp_path):
    whole = make_class_images(components, PROMPT, PRIOR, tmp_path / "whole", batch_size=5)
    state = torch.random.get_rng_state()

    def stop(done, count):
        assert count == 5
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_class_images(components, PROMPT, PRIOR, tmp_path / "parts", batch_size=2, progress=stop)
    assert not is_complete(tmp_path / "parts")
    assert len(read(tmp_path / "parts")) == 4
    shown = []
    parts = make_class_images(
        components, PROMPT, PRIOR, tmp_path / "parts", batch_size=2, progress=lambda *p: shown.append(p)
    )
    assert shown == [(5, 5)]
    assert is_complete(parts)
    assert (tmp_path / "parts-sheet.jpg").exists()
    differences = [np.abs(a.astype(int) - b).max() for a, b in zip(read(whole), read(parts), strict=True)]
    assert max(differences) <= 1
    assert len({image.tobytes() for image in read(whole)}) == 5
    assert torch.equal(state, torch.random.get_rng_state())


def test_memory_that_runs_out_halves_the_batch(components, tmp_path, monkeypatch):
    family = type(family_of(components.model))
    sizes, real = [], family.sample

    def limited(self, components, prompts, *args):
        sizes.append(len(prompts))
        if len(prompts) > 2:
            raise torch.OutOfMemoryError("no room")
        return real(self, components, prompts, *args)

    monkeypatch.setattr(family, "sample", limited)
    monkeypatch.setattr("trainers.batches.FITS", {})
    made = make_class_images(components, PROMPT, PRIOR, tmp_path / "made", batch_size=5)
    assert sizes == [5, 2, 2, 1]
    assert is_complete(made)
    assert len(read(made)) == 5


def test_complete_images_are_not_made_again(components, tmp_path):
    folder = make_class_images(components, PROMPT, PRIOR, tmp_path / "made")
    assert make_class_images(None, PROMPT, PRIOR, folder) == folder


def test_signature_is_of_all_that_matters(make_spec):
    spec = replace(make_spec(), prior=PRIOR)
    one = spec.class_images_signature
    assert one == replace(spec, prior=replace(PRIOR, weight=0.5), lr=1.0, seed=9).class_images_signature
    others = [
        replace(spec, model=replace(spec.model, revision="s")).class_images_signature,
        replace(spec, subject=replace(spec.subject, class_prompt="a photo of a cat")).class_images_signature,
        replace(spec, prior=replace(PRIOR, seed=1)).class_images_signature,
        replace(spec, prior=replace(PRIOR, num_class_images=6)).class_images_signature,
        replace(spec, prior=replace(PRIOR, sample=SampleSpec("ddim", 2))).class_images_signature,
    ]
    assert len({one, *others}) == 6


def test_own_images(class_folder, tmp_path):
    own = PriorSpec(num_class_images=5, folder=str(class_folder))
    assert make_class_images(None, PROMPT, own, tmp_path / "unused") == class_folder
    with pytest.raises(SpecError, match="holds 5 images and prior.num_class_images=6"):
        make_class_images(None, PROMPT, replace(own, num_class_images=6), tmp_path)


def test_review_sheet_shows_every_image(class_folder):
    sheet = np.asarray(Image.open(review_sheet(class_folder, tile=32, columns=3)))
    assert sheet.shape == (64, 96, 3)
    tiles = [sheet[y : y + 16, x : x + 16] for y in (0, 32) for x in (0, 32, 64)]
    assert [tile.std() > 20 for tile in tiles] == [True] * 5 + [False]


def test_the_shares_of_several_processes_are_what_one_makes(make_spec, tmp_path):
    model = make_spec().model
    components, prior = family_of(model).load(model), PriorSpec(num_class_images=5, sample=SampleSpec("euler_a", 2))

    def make(folder, **kwargs):
        make_class_images(components, "a photo of a dog", prior, tmp_path / folder, batch_size=2, **kwargs)
        return {path.name: path.read_bytes() for path in sorted((tmp_path / folder).glob("*.png"))}

    whole = make("whole")
    first = make("shared", share=(0, 2))
    assert sorted(first) == ["00000.png", "00001.png", "00004.png"]
    assert make("shared", share=(1, 2)) == whole
    assert not (tmp_path / "shared" / "manifest.json").exists()
    assert make("shared") == whole
    assert (tmp_path / "shared" / "manifest.json").exists()
