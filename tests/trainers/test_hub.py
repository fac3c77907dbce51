"""The hub's cache: what is asked for of a repository, offline as online, and why one cannot be had.

The hub is a server of ours that answers as the real one does; the client is the real one.
"""

import errno
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from evaluation import backbones
from evaluation.features import ClipEncoder, clip_encoder
from sweeper.plan.grid import CONF
from tests.fake_hub import COMMIT, LICENSED, NEEDED, OLD_TOKENIZER, REPOSITORIES, contents
from tests.trainers import tiny
from trainers import hub as module
from trainers.errors import SpecError
from trainers.families import family_of
from trainers.families.defaults import DEFAULTS
from trainers.hub import Repository, Unreachable, cached, chosen, fetch, listed
from trainers.spec import ModelSpec

READS = DEFAULTS["stable_diffusion"].reads
SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
MODELS = {path.stem: dict(line.split(": ", 1) for line in path.read_text().splitlines() if ": " in line) for path in
          sorted((CONF / "model").glob("*.yaml"))}  # fmt: skip
ON_HUB = {name: config["repo"].split()[0] for name, config in MODELS.items() if name != "miniature"}


def repository(name=SD15, reads=READS, revision="main"):
    return Repository(name, revision, reads)


@pytest.mark.parametrize("model", ON_HUB)
def test_of_a_models_repository_exactly_the_files_that_are_read_are_chosen(model):
    files, lacking = chosen(REPOSITORIES[ON_HUB[model]], READS)
    assert not lacking
    assert sorted(files) == sorted(NEEDED)
    processed = ["config.json", "preprocessor_config.json"]
    encoders = {role: MODELS[model][role].split()[0] for role in ("clip", "dino")}
    files, lacking = chosen(REPOSITORIES[encoders["clip"]], backbones.CLIP)
    assert not lacking
    assert set(files) == {*processed, "pytorch_model.bin", "tokenizer.json", *OLD_TOKENIZER}
    files, lacking = chosen(REPOSITORIES[encoders["dino"]], backbones.DINO)
    assert (files, lacking) == ([*processed, "pytorch_model.bin"], [])


def test_what_is_downloaded_of_stable_diffusion_1_5_is_a_third_of_what_is_there(hub):
    """In millionths: 4.3 GB of the pipeline, 5.0 GB with the encoders."""
    parts = [(SD15, READS), ("openai/clip-vit-base-patch32", backbones.CLIP), ("facebook/dino-vits16", backbones.DINO)]
    sizes = [listed(repository(name, reads)).left for name, reads in parts]
    assert sizes[0] == pytest.approx(4265, abs=20)
    assert sum(sizes) == pytest.approx(4957, abs=40)


def test_encoders_are_read_from_safetensors_where_there_are_some():
    files, _ = chosen({**REPOSITORIES["facebook/dino-vits16"], "model.safetensors": 1}, backbones.DINO)
    assert files == ["config.json", "preprocessor_config.json", "model.safetensors"]


def test_weights_in_parts_are_read_whole_or_not_at_all():
    stem = "unet/diffusion_pytorch_model"
    names = {*NEEDED, f"{stem}.safetensors.index.json", *(f"{stem}-0000{i}-of-00002.safetensors" for i in (1, 2))}
    names |= {f"{stem}.fp16-00001-of-00001.safetensors"}
    names.remove(f"{stem}.safetensors")
    files, lacking = chosen(names, READS)
    assert not lacking
    assert [name for name in files if name.startswith(stem)] == [
        f"{stem}.safetensors.index.json", f"{stem}-00001-of-00002.safetensors", f"{stem}-00002-of-00002.safetensors",
    ]  # fmt: skip
    assert chosen(names - {f"{stem}-00002-of-00002.safetensors"}, READS)[1] == [f"{stem}.safetensors"]


def test_exactly_the_needed_files_are_downloaded_once(hub):
    folder = fetch(repository())
    assert hub.downloaded == NEEDED
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there == NEEDED
    hub.asked.clear()
    assert fetch(repository()) == cached(repository()) == folder
    assert hub.asked == []


def in_cache(name, files):
    """A cache as a client of the hub leaves it, without its listing."""
    root = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    for file in files:
        path = root / "snapshots" / COMMIT / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}")
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    return root / "snapshots" / COMMIT


def test_a_complete_cache_of_the_main_variant_serves_without_a_network(hub):
    folder = in_cache(SD15, NEEDED)
    assert fetch(repository()) == folder
    assert hub.asked == []


@pytest.mark.parametrize("lacking", sorted(NEEDED - {"tokenizer/special_tokens_map.json"}))
def test_a_cache_that_lacks_a_needed_file_does_not_serve(hub, lacking):
    in_cache(SD15, NEEDED - {lacking})
    assert cached(repository()) is None


def test_a_cache_of_other_variants_only_does_not_serve(hub, monkeypatch):
    others = [name for name in REPOSITORIES[SD15] if name not in NEEDED or "." not in name or name.endswith(".json")]
    in_cache(SD15, others)
    assert cached(repository()) is None
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(Unreachable, match="is not whole in the local cache"):
        fetch(repository())


def test_a_download_that_was_cut_off_is_completed(hub):
    folder = fetch(repository())
    for name in ("tokenizer/special_tokens_map.json", "vae/config.json"):
        (folder / name).unlink()
    assert cached(repository()) is None  # the first need not be there, but the hub has it
    assert listed(repository()).left == 2
    hub.asked.clear()
    fetch(repository())
    assert listed(repository()).left == 0


@pytest.fixture
def real(hub, tmp_path):
    """The hub holds a tiny pipeline and a tiny CLIP, and beside them what is never asked for."""
    pipeline = tiny.make_pipeline(tmp_path / "pipeline")
    useless = {name: b"not read" for name in REPOSITORIES[SD15] if "safety" in name or "fp16" in name or "bin" in name}
    hub.files[SD15] = useless | contents(pipeline)
    return pipeline


def test_the_family_loads_from_exactly_these_files_without_a_network(real, hub, monkeypatch):
    model = ModelSpec(revision=f"{SD15}@main", repo=SD15, resolution=tiny.RESOLUTION)
    fetch(repository())
    kept = {name.split("/")[0] for name in hub.downloaded}
    assert kept == {"model_index.json", "scheduler", "tokenizer", "text_encoder", "unet", "vae"}
    assert not any("fp16" in name or name.endswith(".bin") for name in hub.downloaded)
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    family = family_of(model)
    loaded = family.load(model)
    own = family.load(ModelSpec(revision="x", repo=str(real), resolution=tiny.RESOLUTION))
    for name, part in own.parts.items():
        assert all(torch.equal(w, loaded.parts[name].state_dict()[key]) for key, w in part.state_dict().items())
    with torch.device("meta"):
        family.blank(model)
    assert hub.asked == []


def test_an_encoder_is_read_from_its_pickled_tensors_where_there_is_nothing_else(hub, tmp_path, monkeypatch):
    from tests.sweeper.tiny_sweep import make_models

    make_models(tmp_path)
    own = ClipEncoder(str(tmp_path / "clip"))
    files = contents(tmp_path / "clip")
    del files["model.safetensors"]
    torch.save(own.model.state_dict(), tmp_path / "pytorch_model.bin")
    hub.files["owner/clip"] = files | {"pytorch_model.bin": (tmp_path / "pytorch_model.bin").read_bytes()}
    encoder = clip_encoder("owner/clip", "owner/clip@main", "cpu")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert encoder.text(["a dog"]) == pytest.approx(own.text(["a dog"]), abs=1e-6)


def refusal(name=SD15, **kwargs):
    with pytest.raises(SpecError) as caught:
        fetch(repository(name, **kwargs))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_gated_model_is_one_line_with_the_licence_and_the_token(hub, monkeypatch):
    hub.gated.add(SD15)
    for token in (None, "hf_of_someone_else"):
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        said = refusal()
        assert f"is gated: accept its licence at https://huggingface.co/{SD15}, and set HF_TOKEN" in said
    monkeypatch.setenv("HF_TOKEN", LICENSED)
    assert fetch(repository())


def test_what_cannot_be_had_is_a_line_of_its_own(hub, monkeypatch):
    said = [
        refusal("owner/nothing"),
        refusal(revision="v7"),
        refusal("bad name/model"),
    ]
    monkeypatch.setenv("HF_TOKEN", "hf_of_someone_else")
    said.append(refusal("owner/nothing"))
    hub.broken = 503
    said.append(refusal())
    hub.broken = 403
    said.append(refusal())
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    said.append(refusal())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    said.append(refusal())
    parts = (
        "is not on the hub, or is private or gated", "has no revision v7", "no name of a repository",
        "is not on the hub: mind the spelling", "answers with error 503", "is gated", "the hub cannot be reached",
        "HF_HUB_OFFLINE is set",
    )  # fmt: skip
    for line, part in zip(said, parts, strict=True):
        assert part in line
    assert len(set(said)) == len(said)


def test_a_repository_of_other_weights_says_what_it_lacks(hub):
    held = dict(hub.files[SD15])
    for part in ("unet", "vae"):
        del held[f"{part}/diffusion_pytorch_model.safetensors"]
    hub.files[SD15] = held
    assert "has no unet/diffusion_pytorch_model.safetensors, no vae/diffusion_pytorch_model.safetensors" in refusal()
    assert hub.downloaded == set()


def test_a_download_larger_than_what_is_free_is_refused_before_it_begins(hub, monkeypatch):
    size = listed(repository()).left
    monkeypatch.setattr(module, "free_bytes", lambda folder: size - 1)
    said = refusal()
    assert "are to be downloaded" in said
    assert "HF_HOME" in said
    assert hub.downloaded == set()
    monkeypatch.setattr(module, "free_bytes", lambda folder: size)
    assert fetch(repository())


@pytest.mark.parametrize(
    ("number", "says"), [(errno.ENOSPC, "no space left in"), (errno.EACCES, "cannot be written; set HF_HOME")]
)
def test_a_cache_that_cannot_take_the_download_is_one_line(hub, monkeypatch, number, says):
    def refuse(*args, **kwargs):
        raise OSError(number, "as asked")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    assert says in refusal()


def test_the_free_space_of_a_folder_that_is_still_to_be_made(tmp_path):
    assert module.free_bytes(tmp_path / "a" / "b") == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
