"""Two processes with gloo are one process: the same loss, weights and schedule."""

import json
import os
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from trainers.errors import SpecError
from trainers.files import read_json
from trainers.loop import train
from trainers.spec import ModelSpec, PriorSpec, SampleSpec, SubjectSpec, TrainerSpec, TrainSpec

WARM = {"lr_schedule": "constant_with_warmup", "lr_warmup_steps": 3}
FIELDS = {
    "dreambooth": {
        "prior": True,
        "train_text_encoder": True,
        "gradient_accumulation_steps": 2,
        "trainer": {**WARM, "text_encoder_stop_step": 3},
    },
    "dreambooth_lora": {
        "prior": True,
        "train_text_encoder": True,
        "trainer": {**WARM, "name": "dreambooth_lora", "min_snr_gamma": 5.0},
    },
    "textual_inversion": {"gradient_accumulation_steps": 2, "trainer": {**WARM, "name": "textual_inversion"}},
    "ti_dreambooth": {"trainer": {"name": "ti_dreambooth", "inversion_steps": 2}},
}
FILES = {
    "dreambooth": ["unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"],
    "dreambooth_lora": ["pytorch_lora_weights.safetensors"],
    "textual_inversion": ["learned_embeds.safetensors"],
    "ti_dreambooth": ["unet/diffusion_pytorch_model.safetensors"],
}
SCRIPT = """
import json, sys
from pathlib import Path
import torch
from tests.trainers.test_processes import spec_from
from trainers.loop import train
torch.set_num_threads(1)
given = json.loads(sys.argv[1])
for name, spec in given["specs"].items():
    for checkpoint in train(spec_from(spec), [2, 5], Path(given["folder"]) / name, class_images=given["classes"]):
        assert checkpoint.complete
"""


def spec_from(plain):
    prior = plain["prior"] and PriorSpec(**{**plain["prior"], "sample": SampleSpec(**plain["prior"]["sample"])})
    trainer = {k: tuple(v) if isinstance(v, list) else v for k, v in plain["trainer"].items()}
    parts = {
        "model": ModelSpec(**plain["model"]),
        "subject": SubjectSpec(**plain["subject"]),
        "trainer": TrainerSpec(**trainer),
        "prior": prior,
    }
    return TrainSpec(**{**plain, **parts})


def in_two_processes(specs, folder, class_folder):
    given = {
        "specs": {n: asdict(spec) for n, spec in specs.items()},
        "folder": str(folder),
        "classes": str(class_folder),
    }
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--no-python"]
    return subprocess.run(
        [*launcher, sys.executable, "-c", SCRIPT, json.dumps(given)],
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def specs(make_spec):
    return {name: make_spec(batch_size=4, **fields) for name, fields in FIELDS.items()}


@pytest.fixture(scope="module")
def both(specs, class_folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("processes")
    run = in_two_processes(specs, root / "two", class_folder)
    for name, spec in specs.items():
        assert (root / "two" / name / "checkpoints" / "000005" / "manifest.json").exists(), run.stderr[-3000:]
        list(train(spec, [2, 5], root / "one" / name, class_images=class_folder))
    return root / "one", root / "two"


@pytest.mark.faults
@pytest.mark.parametrize("name", FIELDS)
def test_losses(name, both):
    one, two = (read_json(folder / name / "loss.json")["loss"] for folder in both)
    assert len(one) == 5
    assert two == pytest.approx(one, rel=1e-5)


@pytest.mark.faults
@pytest.mark.parametrize(("name", "file"), [(name, file) for name, files in FILES.items() for file in files])
def test_weights(name, file, both):
    early, one = (load_file(both[0] / name / "checkpoints" / step / file) for step in ("000002", "000005"))
    two = load_file(both[1] / name / "checkpoints" / "000005" / file)
    moved = sum((one[n] - early[n]).norm() ** 2 for n in one) ** 0.5
    apart = sum((one[n] - two[n]).norm() ** 2 for n in one) ** 0.5
    assert apart < 1e-3 * moved


def test_a_batch_that_cannot_be_shared_is_refused(make_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(Accelerator, "num_processes", 2)
    with pytest.raises(SpecError, match="batch_size=3 cannot be shared by 2 processes"):
        next(train(make_spec(batch_size=3), [1], tmp_path))


@pytest.mark.faults
def test_state_of_two_processes_continues_in_one(both, specs, class_folder):
    spec = specs["dreambooth"]
    one, two = (list(train(spec, [6], folder / "dreambooth", class_images=class_folder))[0] for folder in both)
    a, b = one.components().network.state_dict(), two.components().network.state_dict()
    assert all(torch.allclose(a[name], b[name], atol=1e-4) for name in a)
