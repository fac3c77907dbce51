"""Checkpoints that are kept in half precision: what is stored is what is sampled, scored and exported."""

import pytest
import torch

from tests.trainers.test_resume import assert_equal, weights
from trainers.families.base import _placed
from trainers.files import read_json
from trainers.loop import train

FIELDS = {
    "plain": {},
    "text encoder, average": {"train_text_encoder": True, "trainer": {"ema_decay": 0.9}},
    "learned word": {"trainer": {"name": "ti_dreambooth", "inversion_steps": 1}},
}


@pytest.fixture(params=FIELDS)
def spec(request, make_spec):
    return make_spec(**FIELDS[request.param])


def parts(checkpoint, **kwargs):
    components = checkpoint.components(**kwargs)
    return {f"{name}/{key}": w for name, part in components.parts.items() for key, w in part.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_half_is_what_full_is_rounded_to(spec, tmp_path):
    full = list(train(spec, [1, 3], tmp_path / "full"))
    half = list(train(spec, [1, 3], tmp_path / "half", precision="fp16"))
    for one, other in zip(full, half, strict=True):  # the second shows that what learns was not rounded
        for ema in (False, True) if spec.trainer.ema_decay else (False,):
            rounded = parts(one, ema=ema, precision="fp16")
            assert same(parts(other, ema=ema), rounded) or spec.trainer.name == "ti_dreambooth"  # its words are fp32
            assert same(parts(other, ema=ema, precision="fp16"), rounded)
            assert not same(parts(one, ema=ema), rounded)
            assert {w.dtype for w in rounded.values() if w.is_floating_point()} == {torch.float32}
    networks = {n: w for n, w in weights(half[1]).items() if n.startswith(("unet", "text_encoder"))}
    assert {w.dtype for w in networks.values()} == {torch.float16}
    assert read_json(half[1].folder / "manifest.json")["precision"] == "fp16"
    assert "precision" not in read_json(full[1].folder / "manifest.json")
    size = [sum(f.stat().st_size for f in c.folder.rglob("unet/*.safetensors")) for c in (full[1], half[1])]
    assert size[1] < 0.6 * size[0]


def test_a_checkpoint_serves_what_it_has_the_bits_for(make_spec, tmp_path):
    (full,) = train(make_spec(), [1], tmp_path / "full")
    (half,) = train(make_spec(), [1], tmp_path / "half", precision="fp16")
    assert [full.serves("no"), full.serves("fp16")] == [True, True]
    assert [half.serves("no"), half.serves("fp16")] == [False, True]
    assert list(train(make_spec(), [1], tmp_path / "full", precision="fp16"))[0].serves("no")  # as it was
    (again,) = train(make_spec(), [1], tmp_path / "half")
    assert again.serves("no")
    assert_equal(again, full)


def test_the_untuned_networks_are_not_rounded(make_spec, tmp_path):
    (half,) = train(make_spec(), [1], tmp_path, precision="fp16")
    tuned, untuned = half.components(precision="fp16"), half.components().model
    assert tuned.model == untuned
    vae = tuned.autoencoder.state_dict()
    assert any(not torch.equal(w, w.half().float()) for w in vae.values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_copy_on_a_device_is_a_copy(dtype):
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)).eval()
    module[0].bias = module[1].bias  # shared
    placed = _placed(module, torch.device("meta"), dtype)
    assert {w.device.type for w in placed.state_dict().values()} == {"meta"}
    assert placed[0].bias is placed[1].bias
    half = _placed(module, torch.device("cpu"), torch.float16)
    assert torch.equal(half[0].weight, module[0].weight.half())
    assert half[1].num_batches_tracked.dtype == torch.long
    assert half[1].num_batches_tracked is not module[1].num_batches_tracked
    assert module[0].weight.dtype == torch.float32
    assert _placed(module, torch.device("cpu"), torch.float32) is module
