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

FIELDS = {
    "prior": True,
    "train_text_encoder": True,
    "gradient_accumulation_steps": 2,
    "trainer": {"lr_schedule": "constant_with_warmup", "lr_warmup_steps": 3, "text_encoder_stop_step": 3},
}
SCRIPT = """
import json, sys
from pathlib import Path
import torch
from tests.trainers.test_processes import spec_from
from trainers.loop import train
torch.set_num_threads(1)
given = json.loads(sys.argv[1])
for checkpoint in train(spec_from(given["spec"]), [2, 5], Path(given["folder"]), class_images=given["classes"]):
    assert checkpoint.complete
"""


def spec_from(plain):
    prior = {**plain["prior"], "sample": SampleSpec(**plain["prior"]["sample"])}
    trainer = {k: tuple(v) if isinstance(v, list) else v for k, v in plain["trainer"].items()}
    parts = {
        "model": ModelSpec(**plain["model"]),
        "subject": SubjectSpec(**plain["subject"]),
        "trainer": TrainerSpec(**trainer),
        "prior": PriorSpec(**prior),
    }
    return TrainSpec(**{**plain, **parts})


def in_two_processes(spec, folder, class_folder):
    given = {"spec": asdict(spec), "folder": str(folder), "classes": str(class_folder)}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--no-python"]
    return subprocess.run(
        [*launcher, sys.executable, "-c", SCRIPT, json.dumps(given)],
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.fixture(scope="module")
def both(make_spec, class_folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("processes")
    spec = make_spec(batch_size=4, **FIELDS)
    run = in_two_processes(spec, root / "two", class_folder)
    assert (root / "two" / "checkpoints" / "000005" / "manifest.json").exists(), run.stderr[-3000:]
    list(train(spec, [2, 5], root / "one", class_images=class_folder))
    return root / "one", root / "two"


def test_losses(both):
    one, two = (read_json(folder / "loss.json")["loss"] for folder in both)
    assert len(one) == 5
    assert two == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize("file", ["unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"])
def test_weights(both, file):
    early, one = (load_file(both[0] / "checkpoints" / step / file) for step in ("000002", "000005"))
    two = load_file(both[1] / "checkpoints" / "000005" / file)
    moved = sum((one[name] - early[name]).norm() ** 2 for name in one) ** 0.5
    apart = sum((one[name] - two[name]).norm() ** 2 for name in one) ** 0.5
    assert apart < 1e-3 * moved


def test_a_batch_that_cannot_be_shared_is_refused(make_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(Accelerator, "num_processes", 2)
    with pytest.raises(SpecError, match="batch_size=3 cannot be shared by 2 processes"):
        next(train(make_spec(batch_size=3), [1], tmp_path))


def test_state_of_two_processes_continues_in_one(both, make_spec, class_folder):
    spec = make_spec(batch_size=4, **FIELDS)
    one, two = (list(train(spec, [6], folder, class_images=class_folder))[0] for folder in both)
    a, b = one.components().unet.state_dict(), two.components().unet.state_dict()
    assert all(torch.allclose(a[name], b[name], atol=1e-4) for name in a)
