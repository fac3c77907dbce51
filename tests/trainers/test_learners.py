"""Each trainer: what moves, what gets gradients, what is stored."""

import copy
import gc
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from trainers.data import make_streams
from trainers.errors import SpecError, TrainingDiverged
from trainers.families import family_of
from trainers.learner import Learner
from trainers.loop import LEARNERS, train
from trainers.lora import Lora
from trainers.loss import denoising_losses
from trainers.schedulers import make_scheduler
from trainers.spec import TRAINERS, SampleSpec

# name -> (fields, what moves). "unet" and "text" are whole networks, "tokens" the vectors of new words.
CASES = {
    "dreambooth": ({}, {"unet"}),
    "dreambooth, text encoder": ({"train_text_encoder": True}, {"unet", "text"}),
    "dreambooth, text encoder stopped": (
        {"train_text_encoder": True, "trainer": {"text_encoder_stop_step": 0}},
        {"unet"},
    ),
    "dreambooth_lora": ({"trainer": {"name": "dreambooth_lora", "lora_alpha": 16.0}}, {"unet"}),
    "dreambooth_lora, text encoder": (
        {"train_text_encoder": True, "trainer": {"name": "dreambooth_lora", "lora_alpha": 16.0}},
        {"unet", "text"},
    ),
    "textual_inversion": ({"trainer": {"name": "textual_inversion", "vectors": 2}}, {"tokens"}),
    "ti_dreambooth": ({"trainer": {"name": "ti_dreambooth", "inversion_steps": 2}}, {"unet", "tokens"}),
}


def test_every_trainer_is_asked():
    assert {name.split(",")[0] for name in CASES} == set(TRAINERS) == set(LEARNERS)


@pytest.fixture(params=CASES)
def case(request, make_spec):
    fields, moves = CASES[request.param]
    return make_spec(**fields), moves


def images(components, words="sks dog"):
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    family = family_of(components.model)
    return family.sample(components, [f"a photo of {words}"], latents, SampleSpec("ddim", 2, 4.0), [torch.Generator()])


def test_what_should_move_moves_and_nothing_else(case, tmp_path):
    spec, moves = case
    family = family_of(spec.model)
    untuned = family.load(spec.model)
    before = copy.deepcopy([untuned.parts["unet"].state_dict(), untuned.parts["text_encoder"].state_dict()])
    (checkpoint,) = train(spec, [3], tmp_path)
    tuned = checkpoint.components()
    for old, name in zip(before, ("unet", "text_encoder"), strict=True):
        assert all(torch.equal(old[key], weight) for key, weight in untuned.parts[name].state_dict().items())
    table = "embeddings.token_embedding.weight"
    tokens = len(tuned.parts["text_encoder"].state_dict()[table]) - len(before[1][table])
    moved = {"tokens"} if tokens else set()
    for name, old, new in (
        ("unet", before[0], tuned.parts["unet"].state_dict()),
        ("text", before[1], tuned.parts["text_encoder"].state_dict()),
    ):
        new = {key: w[: len(old[key])] if key == table else w for key, w in new.items()}
        assert old.keys() == new.keys()
        if any(not torch.equal(old[key], new[key]) for key in old):
            moved.add(name)
    assert moved == moves
    assert not torch.equal(torch.tensor(images(untuned)), torch.tensor(images(tuned)))


def test_gradients_only_where_promised(case, class_folder):
    spec, moves = case
    family = family_of(spec.model)
    if spec.trainer.name == "ti_dreambooth":
        pytest.skip("is dreambooth from other components")
    learner = LEARNERS[spec.trainer.name](family.load(spec.model), spec)
    learner.text_stopped = spec.trainer.text_encoder_stop_step == 0
    words = family.tokenize if learner.held_encoders else family.condition
    text = words(learner.components, ["a photo of sks dog"])
    rows = torch.tensor([0, 0])
    learner(torch.randn(2, 4, 8, 8), torch.tensor([5, 500]), text, rows).square().mean().backward()
    promised = {id(w) for group in learner.parameter_groups() for w in group["params"]}
    stopped = learner.text_stopped
    for name, weight in learner.named_parameters():
        if id(weight) not in promised or (stopped and name.startswith("text_encoder")):
            assert weight.grad is None, name
        else:
            assert weight.grad is not None, name
            assert weight.dtype == torch.float32
    expected = {"unet": "unet", "text": "text_encoder", "tokens": "vectors"}
    reached = {name.split(".")[0] for name, w in learner.named_parameters() if w.grad is not None and w.grad.any()}
    assert reached == {expected[part] for part in moves}


def test_stored_and_loaded_predicts_the_same(case, tmp_path):
    """What the learner computes in its last step is what the checkpoint before it computes as a plain pipeline."""
    spec, _ = case
    family = family_of(spec.model)
    losses = []
    before, _ = train(spec, [3, 4], tmp_path, progress=lambda step, loss: losses.append(loss))
    tuned = before.components()
    process = family.forward_process(tuned)
    (stream,) = make_streams(spec, tuned, process, None, tmp_path / "cache", torch.device("cpu"))
    batch = stream.batch(3, spec.batch_size, slice(None), torch.device("cpu"))
    noisy = process.noised(batch.latents, batch.noise, batch.timesteps)
    text = family.condition(tuned, batch.prompts)
    predicted = family.predict(tuned.network, noisy, batch.timesteps, text)
    loss = denoising_losses(predicted, process.target(batch.latents, batch.noise, batch.timesteps)).mean()
    assert float(loss.detach()) == pytest.approx(losses[-1], rel=1e-5)


def own_pipeline(spec):
    pipeline = StableDiffusionPipeline.from_pretrained(spec.model.repo)
    pipeline.scheduler = make_scheduler("ddim", dict(pipeline.scheduler.config))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def own_image(pipeline, prompt):
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    sizes = {"height": 16, "width": 16, "num_inference_steps": 2, "guidance_scale": 4.0}
    return np.asarray(pipeline(prompt, latents=latents, **sizes).images[0])


def test_diffusers_loads_the_adapters(make_spec, tmp_path):
    spec = make_spec(train_text_encoder=True, lr=1e-2, trainer={"name": "dreambooth_lora", "lora_alpha": 16.0})
    (checkpoint,) = train(spec, [3], tmp_path)
    pipeline = own_pipeline(spec)
    untuned = own_image(pipeline, "a photo of sks dog")
    pipeline.load_lora_weights(checkpoint.folder)
    tuned = own_image(pipeline, "a photo of sks dog")
    assert np.abs(tuned.astype(int) - untuned).max() > 3
    assert np.abs(tuned.astype(int) - images(checkpoint.components())[0]).max() <= 1


def test_adapters_sit_on_the_targets_with_the_rank(make_spec):
    trainer = {"name": "dreambooth_lora", "lora_rank": 3, "lora_targets": ("to_v",), "lora_text_targets": ("v_proj",)}
    spec = make_spec(train_text_encoder=True, trainer=trainer)
    learned = Lora(family_of(spec.model).load(spec.model), spec).learned()
    layers = {name.split(".lora_")[0] for name in learned}
    assert {layer.rsplit(".", 1)[1] for layer in layers if layer.startswith("unet")} == {"to_v"}
    assert {layer.rsplit(".", 1)[1] for layer in layers if layer.startswith("text_encoder")} == {"v_proj"}
    assert {min(weight.shape) for weight in learned.values()} == {3}


def test_adapters_on_nothing_are_refused(make_spec, tmp_path):
    spec = make_spec(trainer={"name": "dreambooth_lora", "lora_targets": ("to_z",)})
    with pytest.raises(SpecError, match="LoRA targets to_z: no layer of UNet2DConditionModel is called so"):
        next(train(spec, [1], tmp_path))


@pytest.mark.parametrize("identifier", ["TOK", "sks"])
def test_every_vector_learns_whatever_the_letters(identifier, make_spec, tmp_path):
    spec = make_spec(trainer={"name": "textual_inversion", "vectors": 3, "weight_decay": 0.0})
    spec = replace(spec, subject=replace(spec.subject, identifier=identifier))
    before, after = (
        load_file(checkpoint.folder / "learned_embeds.safetensors")[f"<{identifier.lower()}>"]
        for checkpoint in train(spec, [0, 2], tmp_path)
    )
    assert ((after - before).norm(dim=1) > 0).all()
    components = next(train(spec, [2], tmp_path)).components()
    tokenizer = components.tokenizers["text_encoder"]
    ids = tokenizer.convert_tokens_to_ids([f"<{identifier.lower()}>" + end for end in ("", "_1", "_2")])
    tokens = family_of(spec.model).tokenize(components, [f"a photo of {identifier} dog"])
    assert set(ids) <= set(tokens.tensors["ids"][0].tolist())


def test_a_word_that_the_model_knows_is_refused(make_spec, tmp_path):
    spec = make_spec(trainer={"name": "textual_inversion"})
    (checkpoint,) = train(spec, [1], tmp_path / "first")
    with pytest.raises(SpecError, match="knows the word <sks> already"):
        next(train(spec, [1], tmp_path / "second", components=checkpoint.components()))


@pytest.mark.parametrize("vectors", [1, 3])
def test_diffusers_loads_the_word(vectors, make_spec, tmp_path):
    spec = make_spec(lr=1.0, trainer={"name": "textual_inversion", "vectors": vectors})
    (checkpoint,) = train(spec, [3], tmp_path)
    pipeline = own_pipeline(spec)
    pipeline.load_textual_inversion(str(checkpoint.folder / "learned_embeds.safetensors"))
    tuned = own_image(pipeline, "a photo of <sks> dog")
    assert np.abs(tuned.astype(int) - images(checkpoint.components())[0]).max() <= 1
    assert np.abs(tuned.astype(int) - own_image(own_pipeline(spec), "a photo of sks dog")).max() > 3


@pytest.mark.options
def test_inversion_is_shared_by_the_trainings_that_start_from_it(make_spec, tmp_path, class_folder):
    trainer = {"name": "ti_dreambooth", "inversion_steps": 2}
    seen = []
    for i, fields in enumerate([{"lr": 1e-3}, {"lr": 2e-3}, {"prior": True}, {"train_text_encoder": True}]):
        spec = make_spec(trainer=trainer, **fields)
        steps = []
        list(train(spec, [1], tmp_path / str(i), class_images=class_folder, cache=tmp_path / "cache",
                   progress=lambda step, loss, steps=steps: steps.append(step)))  # fmt: skip
        seen.append(steps)
    assert seen == [[-1, 0, 1], [1], [1], [1]]


def test_an_inversion_serves_after_the_batch_was_halved(make_spec, tmp_path):
    spec = make_spec(trainer={"name": "ti_dreambooth", "inversion_steps": 2}, batch_size=2)
    smaller = replace(spec, batch_size=1, gradient_accumulation_steps=2)
    seen = []
    for given, original, steps in ((spec, None, [1]), (smaller, spec, [2])):
        list(train(given, steps, tmp_path, original=original, progress=lambda step, loss: seen.append(step)))
    assert seen == [-1, 0, 1, 2]


def test_moving_average_is_evaluated_beside_the_weights(make_spec, tmp_path):
    spec = make_spec(lr=1e-2, trainer={"ema_decay": 0.99})
    (checkpoint,) = train(spec, [3], tmp_path)
    live, average = checkpoint.components(), checkpoint.components(ema=True)
    assert not torch.equal(live.network.conv_in.weight, average.network.conv_in.weight)


def test_divergence_ends_the_training(make_spec, tmp_path):
    with pytest.raises(TrainingDiverged, match="lr=1e\\+30") as caught:
        list(train(make_spec(lr=1e30), [1, 50], tmp_path))
    assert 1 < caught.value.step < 10
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["000001"]


def test_fp16_needs_a_gpu(make_spec, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SpecError, match="mixed_precision=fp16 needs a GPU"):
        next(train(make_spec(mixed_precision="fp16"), [1], tmp_path))


@pytest.mark.parametrize("trainer", ["dreambooth", "dreambooth_lora", "textual_inversion"])
def test_bf16_keeps_fp32_weights_and_is_near_fp32(trainer, make_spec, tmp_path):
    losses = {}
    for precision in ("no", "bf16", "no again"):  # one process may change its precision, and back
        shown = losses.setdefault(precision, [])
        spec = make_spec(mixed_precision=precision.split()[0], trainer={"name": trainer})
        (checkpoint,) = train(spec, [3], tmp_path / precision, progress=lambda step, loss, to=shown: to.append(loss))
    assert losses["no"] == losses["no again"]
    assert losses["bf16"] != losses["no"]
    assert losses["bf16"] == pytest.approx(losses["no"], rel=0.02)
    for file in (tmp_path / "bf16").rglob("*.safetensors"):
        assert all(w.dtype == torch.float32 for w in load_file(file).values())


@pytest.mark.parametrize(
    "option",
    ["channels_last", "tf32", pytest.param("compile", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("trainer", ["dreambooth", "dreambooth_lora", "textual_inversion"])
def test_options_of_speed_change_rounding_only(trainer, option, make_spec, tmp_path):
    losses = []
    for on in (True, False):
        spec, shown = make_spec(trainer={"name": trainer, option: on}), []
        (checkpoint,) = train(spec, [3], tmp_path / str(on), progress=lambda step, loss, to=shown: to.append(loss))
        losses.append(shown)
        assert checkpoint.components().network.conv_in.weight.is_contiguous()
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_finished_training_lets_go_of_its_memory(make_spec, tmp_path):
    def learners():
        return [thing for thing in gc.get_objects() if isinstance(thing, Learner)]

    gc.collect()
    before = len(learners())
    training = train(make_spec(), [1, 2], tmp_path)
    next(training)
    assert len(learners()) == before + 1
    training.close()
    assert len(learners()) == before
