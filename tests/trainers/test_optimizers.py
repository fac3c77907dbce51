"""Every optimizer learns and is resumed bit for bit."""

import pytest
import torch
from safetensors.torch import load_file

from tests.suites import some_of
from trainers.loop import train
from trainers.optimizers import make_optimizer, make_schedule
from trainers.spec import OPTIMIZERS

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def run(spec, steps, folder):
    return [load_file(c.folder / WEIGHTS) for c in train(spec, steps, folder)][-1]


@pytest.mark.parametrize("name", some_of(OPTIMIZERS, ["adamw8bit"]))
def test_resumed_equals_uninterrupted_and_learns(name, make_spec, tmp_path):
    spec = make_spec(trainer={"optimizer": name}, lr=1.0 if name == "prodigy" else 1e-3)
    start = run(spec, [0], tmp_path / "start")
    whole = run(spec, [4], tmp_path / "whole")
    run(spec, [2], tmp_path / "parts")
    resumed = run(spec, [4], tmp_path / "parts")
    assert all(torch.equal(whole[n], resumed[n]) for n in whole)
    assert sum((whole[n] - start[n]).norm() for n in whole) > 0


def test_8bit_keeps_its_state_in_8_bits_and_stays_near_adamw(make_spec):
    weights = {}
    for name in ("adamw", "adamw8bit"):
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(128, 64))
        goal = torch.randn(128, 64)
        optimizer = make_optimizer(make_spec(trainer={"optimizer": name}), [{"params": [weight], "lr": 1e-2}])
        start = weight.detach().clone()
        for _ in range(20):
            (weight - goal).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        weights[name] = weight.detach() - start
        if name == "adamw8bit":
            assert optimizer.state[weight]["state1"].dtype == torch.uint8
    apart = (weights["adamw"] - weights["adamw8bit"]).norm() / weights["adamw"].norm()
    assert 0 < apart < 0.05


def test_use_8bit_adam_is_the_optimizer_of_that_name(make_spec):
    group = [{"params": [torch.nn.Parameter(torch.zeros(2))], "lr": 1e-3}]
    assert type(make_optimizer(make_spec(use_8bit_adam=True), group)).__name__ == "AdamW8bit"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_polynomial_goes_down_from_the_rate_itself(name, make_spec):
    """As in diffusers' script: from lr to 1e-7, for each optimizer; the text encoder's rate by the same factors."""
    spec = make_spec(trainer={"optimizer": name, "lr_schedule": "polynomial", "lr_power": 2.0}, lr=2e-6, horizon=4)
    weights = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    other = 2e-6 if name == "prodigy" else 1e-6  # which has one rate for all
    groups = [{"params": [weight], "lr": lr} for weight, lr in zip(weights, (2e-6, other), strict=True)]
    optimizer = make_optimizer(spec, groups)
    schedule = make_schedule(spec, optimizer)
    seen = []
    for _ in range(6):
        seen.append(schedule.get_last_lr())
        optimizer.step()
        schedule.step()
    first = [1e-7 + 1.9e-6 * (1 - min(i, 4) / 4) ** 2 for i in range(6)]
    assert [a for a, _ in seen] == pytest.approx(first)
    assert [b for _, b in seen] == pytest.approx([rate * other / 2e-6 for rate in first])
