"""The memory estimate against what a real step allocates."""

import os
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from torch.utils._pytree import tree_leaves

from trainers import memory
from trainers.errors import SpecError
from trainers.families import family_of
from trainers.families.base import Conditioning
from trainers.lighter import lighter
from trainers.live_bytes import IN_FP32, LiveBytes
from trainers.loop import LEARNERS
from trainers.loss import denoising_losses
from trainers.memory import HOLES, LIBRARIES, MOST_HOLES, Beside, capability, capacity, check_fits, estimate
from trainers.optimizers import make_optimizer
from trainers.sampling_memory import sampling_memory
from trainers.spec import SampleSpec, TrainerSpec
from trainers.validate import AMPERE, check_capability

WEIGHTS = {
    "plain": {},
    "prior": {"prior": True},
    "checkpointing": {"gradient_checkpointing": True},
    "text encoder": {"train_text_encoder": True},
    "bf16": {"mixed_precision": "bf16"},
    "LoRA": {"trainer": {"name": "dreambooth_lora"}},
    "textual inversion": {"trainer": {"name": "textual_inversion"}},
}


def test_live_bytes_counts_what_is_alive():
    with LiveBytes() as live:
        a = torch.ones(1000)
        b = a * 2
        view = b[:10]
        del a
        c = b + 1
        del b, c
        assert live.now == 4000  # of `view`
        assert live.operations == 4
        del view
    assert live.now == 0
    assert live.peak == 8000


@pytest.mark.parametrize("name", WEIGHTS)
def test_step_without_data_needs_what_a_real_one_needs(name, make_spec):
    spec = make_spec(batch_size=4, **WEIGHTS[name])
    family = family_of(spec.model)
    learner = LEARNERS[spec.trainer.name](family.load(spec.model), spec)
    size, prompts = (8, 2) if spec.prior else (4, 4 if spec.trainer.name == "textual_inversion" else 1)
    tokens = Conditioning({"ids": torch.zeros(prompts, 16, dtype=torch.long)})
    text = tokens if learner.held_encoders else Conditioning({"states": torch.zeros(prompts, 16, 32)})
    noisy, rows = torch.randn(size, 4, 8, 8), torch.zeros(size, dtype=torch.long)
    with LiveBytes() as live:
        with torch.autocast("cpu", torch.bfloat16, enabled=spec.mixed_precision == "bf16"):
            predicted = learner(noisy, rows, text, rows)
        denoising_losses(predicted, noisy).mean().backward()
    assert estimate(spec).step == pytest.approx(live.peak, rel=0.02)


def test_weights_and_states_are_counted(make_spec):
    spec = make_spec()
    components = family_of(spec.model).load(spec.model)
    count = {n: sum(w.numel() for w in components.parts[n].parameters()) for n in ("unet", "text_encoder", "vae")}
    assert estimate(spec, "cuda").weights == 4 * (count["unet"] + count["vae"])
    assert estimate(spec).weights == 4 * (2 * count["unet"] + count["text_encoder"] + count["vae"])
    assert estimate(spec).state == 8 * count["unet"]
    assert estimate(replace(spec, trainer=TrainerSpec(ema_decay=0.9))).state == 12 * count["unet"]
    assert estimate(replace(spec, use_8bit_adam=True)).state < 2.1 * count["unet"]
    assert estimate(replace(spec, gradient_accumulation_steps=2)).step > estimate(spec).step


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "prodigy"])
def test_the_state_is_that_of_the_real_optimizer(make_spec, optimizer):
    spec = make_spec(trainer={"optimizer": optimizer})
    learner = LEARNERS["dreambooth"](family_of(spec.model).load(spec.model), spec)
    made = make_optimizer(spec, learner.parameter_groups())
    for weight in learner.learned().values():
        weight.grad = torch.ones_like(weight)
    made.step()
    kept = sum(x.numel() * x.element_size() for x in tree_leaves(made.state) if isinstance(x, torch.Tensor))
    assert estimate(spec).state == pytest.approx(kept, rel=0.02)


def test_gradients_of_several_processes_lie_in_their_buckets(make_spec):
    """These are there all the time; an accumulated gradient lies beside them."""
    spec = make_spec(batch_size=2)
    gradients = estimate(spec).state // 2  # two moments
    alone, two = estimate(spec, processes=1), estimate(spec, processes=2)
    assert two.state == alone.state + gradients
    half = replace(spec, batch_size=1)
    assert 0 < two.tensors - estimate(half).tensors <= gradients
    accumulated = estimate(replace(spec, gradient_accumulation_steps=2), processes=2)
    assert accumulated.tensors == two.tensors + gradients


def test_normalisations_are_in_fp32_on_a_gpu_only(make_spec):
    spec = make_spec(batch_size=8)
    half = replace(spec, mixed_precision="bf16")
    assert estimate(spec, "cuda").step == estimate(spec).step
    assert estimate(half, "cuda").step > 1.02 * estimate(half).step
    checkpointed = replace(half, gradient_checkpointing=True)  # computed again in the backward pass, in fp32 too
    assert estimate(half, "cuda").step > estimate(checkpointed, "cuda").step > estimate(checkpointed).step


def test_every_operation_in_fp32_is_one_of_cudas_autocast():
    header = (Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h").read_text()
    listed = header[header.index("define AT_FORALL_FP32(") : header.index("AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE")]
    assert [name for name in IN_FP32 if f"_({name}" not in listed] == []


def test_the_most_that_is_alive_at_once_counts(make_spec):
    """The training, its checkpoint's evaluation beside it, or class images before it."""
    spec = make_spec(prior=True)
    beside = Beside((SampleSpec(),), encoders=1000)
    alone, evaluated = estimate(make_spec(), "cuda"), estimate(spec, "cuda", 1, beside)
    assert (alone.evaluation, alone.class_images) == (0, 0)
    assert alone.total == alone.libraries + alone.tensors
    sampling = sampling_memory(spec.model, "no", True)
    assert (evaluated.evaluation, evaluated.encoders) == (sampling.total, 1000)
    assert evaluated.class_images == sampling.total
    for part, named in (("evaluation", "evaluation"), ("class_images", "class images")):
        large = replace(evaluated, **{part: 10**9})
        resident = large.weights + large.state if part == "evaluation" else 0
        assert large.total == large.libraries + 1000 + resident + 10**9
        assert f"{named} 0.93, encoders 0.00, libraries 0.59" in str(large)
    trains = replace(evaluated, step=10**9)  # while the encoders that measured lie there
    assert trains.total == trains.libraries + 1000 + trains.tensors
    half = Beside((SampleSpec(precision="fp16"),))
    losses = sampling_memory(spec.model, "no", False).total
    assert estimate(spec, "cuda", 1, half).evaluation == losses  # which are in fp32, after the sampling in fp16
    assert estimate(replace(spec, prior=replace(spec.prior, folder="own")), "cuda").class_images == 0
    assert estimate(spec, "cpu", 1, beside).evaluation == 0


@pytest.mark.options
def test_what_does_not_fit_is_refused_with_what_would(make_spec):
    spec = make_spec(batch_size=4)
    needed = estimate(spec, "cuda").total
    assert check_fits(spec, needed) == ""
    assert "may run out of memory" in check_fits(spec, needed - 1)
    assert "may run out of memory" in check_fits(spec, int(needed / 1.14))
    with pytest.raises(SpecError, match="no option makes it fit") as caught:
        check_fits(spec, 1000)
    assert "\n" not in str(caught.value)


def test_what_would_fit_is_named(make_spec, monkeypatch):
    monkeypatch.setitem(memory.LIBRARIES, "cuda", 0)
    spec = make_spec(batch_size=64)
    lighter = estimate(replace(spec, gradient_checkpointing=True), "cuda").total
    assert lighter < estimate(spec, "cuda").total / memory.MARGIN
    with pytest.raises(SpecError, match="it fits with gradient_checkpointing=true"):
        check_fits(spec, lighter)


def test_what_is_advised_can_be_typed(make_spec):
    """No 8-bit Adam beside another optimizer, no bf16 in place of fp16, a batch that the processes can share."""
    spec = make_spec(batch_size=8, mixed_precision="fp16", trainer={"optimizer": "prodigy"})
    *_, (typed, last) = lighter(spec, processes=2)
    batch = "batch_size=2 gradient_accumulation_steps=4"
    assert typed == f"gradient_checkpointing=true {batch} trainer=dreambooth_lora"
    assert (last.batch_size, last.mixed_precision, last.use_8bit_adam) == (2, "fp16", False)


def test_nothing_is_advised_that_the_card_cannot_do(make_spec, monkeypatch):
    spec = make_spec(batch_size=2)
    for trainer in ("dreambooth", "dreambooth_lora"):
        asked = replace(spec, trainer=TrainerSpec(trainer))
        typed = [[text for text, _ in lighter(asked, bf16=bf16)][-1] for bf16 in (True, False)]
        assert "mixed_precision=bf16" in typed[0]
        assert "mixed_precision=fp16" in typed[1]
        assert "bf16" not in typed[1]
    monkeypatch.setitem(memory.LIBRARIES, "cuda", 0)
    large = make_spec(batch_size=64)
    *_, half = (other for text, other in lighter(large, bf16=False) if text.endswith("mixed_precision=fp16"))
    room = estimate(half, "cuda").total
    with pytest.raises(SpecError, match="it fits with .*mixed_precision=fp16$"):
        check_fits(large, room, bf16=False)


def test_what_the_card_cannot_do_is_refused(make_spec):
    turing, ampere = (7, 5), (8, 0)
    bf16, tf32 = make_spec(mixed_precision="bf16"), make_spec(trainer={"tf32": True})
    samples = [SampleSpec(precision="bf16")]
    for asked in ((bf16, []), (tf32, []), (make_spec(), samples)):
        check_capability(*asked, "RTX 3090", ampere)
        with pytest.raises(SpecError, match="RTX 2080 has compute capability 7.5.*fp16") as caught:
            check_capability(*asked, "RTX 2080", turing)
        assert "\n" not in str(caught.value)
    check_capability(make_spec(mixed_precision="fp16"), [SampleSpec(precision="fp16")], "RTX 2080", turing)


def test_capability_is_asked_of_nvidias_cards_only(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert capability(torch.device("cuda", 0)) == (7, 5)
    assert capability(torch.device("cpu")) >= AMPERE
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert capability(torch.device("cuda", 0)) >= AMPERE


def test_a_process_has_as_much_of_the_memory_as_of_the_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    whole = psutil.virtual_memory().total
    for threads, share in ((8, 1), (4, 1 / 2), (1, 1 / 8), (16, 1)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert capacity(torch.device("cpu")) == pytest.approx(whole * share)


def test_the_compiler_needs_memory_of_its_own_where_it_compiles_on_the_cpu(make_spec):
    plain, compiled = make_spec(), make_spec(trainer={"compile": True})
    needed = estimate(compiled).total - estimate(plain).total
    assert needed > 0
    assert estimate(compiled, "cuda").total == estimate(plain, "cuda").total
    accumulated = [replace(spec, gradient_accumulation_steps=4) for spec in (plain, compiled)]
    assert estimate(accumulated[1]).total - estimate(accumulated[0]).total == needed
    inversion = {"name": "textual_inversion"}  # has fewer operations: no gradients of weights
    fewer = estimate(make_spec(trainer={**inversion, "compile": True})).total
    assert 0 < fewer - estimate(make_spec(trainer=inversion)).total < needed


def test_holes_in_the_heap_are_counted_on_the_cpu_and_bounded(make_spec):
    """Half of a step's tensors; with checkpointing half of what would be kept without it."""
    spec = make_spec(batch_size=4)
    step = estimate(spec).step
    rest = LIBRARIES["cpu"]
    assert estimate(spec).libraries - rest == int(HOLES * step) < MOST_HOLES
    assert estimate(replace(spec, gradient_checkpointing=True)).libraries - rest == int(HOLES * step)
    assert estimate(replace(spec, batch_size=4000)).libraries - rest == MOST_HOLES
    assert estimate(spec, "cuda").libraries == LIBRARIES["cuda"]
