"""What a plan says of downloads, while it downloads nothing."""

import time
from dataclasses import replace

import pytest
from huggingface_hub import constants

from sweeper.plan import downloads
from sweeper.plan.compile import compile_plan
from sweeper.plan.downloads import fetch_models, left_of, repositories
from tests.fake_hub import NEEDED
from trainers.errors import SpecError
from trainers.families.defaults import DEFAULTS

SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
CLIP, DINO = "openai/clip-vit-base-patch32", "facebook/dino-vits16"


@pytest.fixture
def plan(make_cell):
    cell = make_cell()
    model = replace(cell.train.model, repo=SD15, revision=f"{SD15}@main")
    encoders = {"clip_repo": CLIP, "clip": f"{CLIP}@main", "dino_repo": DINO, "dino": f"{DINO}@main"}
    evaluation = replace(cell.evaluation, **encoders)
    return compile_plan([replace(cell, train=replace(cell.train, model=model), evaluation=evaluation)])


def test_local_folders_need_no_download(make_cell):
    assert repositories(compile_plan([make_cell()])) == {}


def test_the_plan_says_what_the_hub_says_and_downloads_nothing(plan, hub):
    left = left_of(plan)
    assert [(part.name, part.bytes) for part in left.parts] == [(SD15, 4274), (CLIP, 612), (DINO, 89)]
    assert str(left).endswith(f"from the hub ({SD15} 0.0 GB, {CLIP} 0.0 GB, {DINO} 0.0 GB)")
    assert hub.downloaded == set()


def test_nothing_is_left_once_everything_is_there(plan, hub):
    fetch_models(plan)
    assert hub.downloaded >= NEEDED
    hub.asked.clear()
    assert left_of(plan).parts == ()
    assert hub.asked == []


def test_without_an_answer_the_usual_sizes_are_said_and_nobody_is_waited_for(plan, hub, monkeypatch):
    monkeypatch.setattr(downloads, "PATIENCE", 0.2)
    hub.slow = 30.0
    start = time.monotonic()
    slow = left_of(plan)
    assert time.monotonic() - start < 15  # of 30
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    nobody = left_of(plan)
    assert slow == nobody
    usual = DEFAULTS["stable_diffusion"].download
    assert [part.bytes for part in slow.parts] == [usual, 610_000_000, 90_000_000]
    assert str(slow).startswith("about 5.9 GB from the hub")
    assert "the hub did not say" in str(slow)


def test_what_cannot_be_had_is_in_the_plan_and_then_refused(plan, hub):
    hub.files.pop(DINO)
    left = left_of(plan)
    (problem,) = left.problems
    assert DINO in problem
    with pytest.raises(SpecError, match="is not on the hub"):
        fetch_models(plan)
