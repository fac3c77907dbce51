import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from evaluation.spec import show
from sweeper.plan.axes import AXES
from sweeper.plan.compile import compile_plan, cost
from sweeper.plan.grid import CONF, check_arguments, expand, parse
from sweeper.plan.types import Point
from sweeper.store import Store
from tests.trainers import tiny
from trainers.errors import SpecError
from trainers.spec import LR_SCHEDULES, TRAINERS, TrainerSpec

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def grid(planned):
    def expanded(*typed):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return expand(parse([*planned, *typed], None), lambda arguments: compose("sweep", arguments))

    return expanded


def test_axes_are_those_that_vary_in_the_order_typed(grid):
    result = grid("steps=400,800", "lr=1e-6,2e-6", "scheduler=ddim", "seed=range(0,1)")
    assert result.axes == {"steps": (400, 800), "lr": (1e-6, 2e-6)}
    assert [(cell.step, cell.train.lr) for cell in result.cells] == [(400, 1e-6), (400, 2e-6), (800, 1e-6), (800, 2e-6)]
    assert {cell.sample.scheduler for cell in result.cells} == {"ddim"}


def test_a_value_typed_twice_is_one(grid):
    assert [cell.train.lr for cell in grid("lr=5e-06,5e-6,0.000005").cells] == [5e-6]


def test_groups_and_nested_keys_are_axes_too(grid):
    result = grid("evaluation=quick,paper", "model.lr_scale=1,2")
    assert result.axes == {"evaluation": ("quick", "paper"), "model.lr_scale": (1, 2)}
    assert len(result.cells) == 4
    assert {cell.train.effective_lr for cell in result.cells} == {2e-6, 4e-6}


def test_an_adaptive_evaluation_begins_with_a_slice_and_takes_no_more_images_than_quick(grid):
    quick, adaptive = (grid(f"evaluation={name}").cells[0] for name in ("quick", "adaptive"))
    evaluation = adaptive.evaluation
    prompts = evaluation.adaptive.prompts
    assert evaluation.prompts == prompts[:4]
    assert (evaluation.images_per_prompt, evaluation.class_images) == (1, 0)
    assert len(set(prompts)) == len(set(evaluation.adaptive.fresh_prompts)) == 16
    assert Point.of(adaptive).planned_images == Point.of(quick).planned_images == Point.of(quick).images == 20
    assert Point.of(adaptive).images == 4


def test_with_prompts_of_ones_own_the_noise_alone_is_fresh(grid):
    own = "evaluation.prompts=['{} up','{} down']"
    evaluation = grid("evaluation=adaptive", own).cells[0].evaluation
    assert evaluation.prompts == ("{} up",)
    assert evaluation.adaptive.prompts == ("{} up", "{} down")
    assert evaluation.adaptive.fresh_prompts == ()
    both = grid("evaluation=adaptive", own, "evaluation.fresh_prompts=['{} there']").cells[0].evaluation
    assert both.adaptive.fresh_prompts == ("{} there",)
    assert both == evaluation  # the slice is the same one
    with pytest.raises(SpecError, match="'{} up' is among evaluation.prompts too"):
        grid("evaluation=adaptive", own, "evaluation.fresh_prompts=['{} there','{} up']")
    with pytest.raises(SpecError, match="needs exactly one {}"):
        grid("evaluation=adaptive", "evaluation.fresh_prompts=[there]")


def test_params_are_the_names_typed(grid):
    params = dict(grid("trainer.weight_decay=0.1", "lr=1e-6").cells[0].params)
    assert params["lr"] == 1e-6
    assert params["trainer.weight_decay"] == 0.1
    assert set(AXES) <= set(params)
    assert params["subject"] == "images"


def test_an_interpolation_of_an_axis_follows_it(grid):
    cells = grid("lr=1e-6,2e-6", "trainer.text_encoder_lr=${lr}", "train_text_encoder=true").cells
    assert [cell.train.trainer.text_encoder_lr for cell in cells] == [1e-6, 2e-6]


@pytest.mark.parametrize("schedule", LR_SCHEDULES)
def test_a_schedule_that_knows_its_horizon_is_not_shared(grid, schedule):
    plan = compile_plan(grid("steps=100,200", "eval_every=50", f"trainer.lr_schedule={schedule}").cells)
    shared = {"constant": [200], "constant_with_warmup": [200]}
    assert [training.last_step for training in plan.trainings] == shared.get(schedule, [100, 200])
    assert [training.spec.horizon for training in plan.trainings] == ([None] if schedule in shared else [100, 200])


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("lr=0", "lr=0: must be a number above 0"),
        ("lr=nan", "lr=nan: must be"),
        ("model.lr_scale=inf", "model.lr_scale=inf: must be a finite number above 0"),
        *(
            (f"trainer.{name}={value}", "must be a finite number")
            for name in ("weight_decay", "adam_beta1", "adam_epsilon", "max_grad_norm", "min_snr_gamma")
            for value in ("inf", "1e400", "nan", "true", "[1]")
        ),
        ("trainer.repeats=inf", "trainer.repeats=inf: must be a whole number"),
        ("steps=0", "steps=0: must be a whole number, 1 or more"),
        ("steps=1.5", "steps=1.5: must be a whole number"),
        ("prior_preservation=maybe", "prior_preservation=maybe: must be true or false"),
        ("scheduler=pndn", "scheduler=pndn: must be one of pndm, lms"),
        ("mixed_precision=fp8", "must be one of auto, no, fp16, bf16"),
        *(
            (f"{name}={value}", f"{name}={shown}: must be text")
            for name in (
                *("evaluation.clip", "evaluation.dino", "evaluation.name", "model.repo", "model.name"),
                *("subject.images", "subject.identifier", "subject.class_noun", "subject.instance_prompt"),
                "subject.class_prompt",
                "prior.folder",
            )
            for value, shown in (("true", "true"), ("[a]", "['a']"), ("nan", "nan"), ("1.5", "1.5"))
        ),
        *(
            (f"trainer.{name}={value}", f"trainer.{name}={shown}: must be a list of one or more names")
            for name in ("lora_targets", "lora_text_targets")
            for value, shown in (("5", "5"), ("null", "null"), ("[]", "[]"), ("to_q", "to_q"), ("[1]", "[1]"))
        ),
        ("evaluation.prompts=5", "evaluation.prompts=5: must be a list of one or more prompts"),
        ("evaluation.prompts=true", "evaluation.prompts=true: must be a list"),
        ("evaluation.prompts=[]", "evaluation.prompts=[]: must be a list"),
        ("evaluation.prompts_by_kind=abc", "evaluation.prompts_by_kind=abc: must be a list of prompts by kind"),
        ("evaluation.prompts_by_kind=null", "evaluation.prompts_by_kind=null: must be"),
        ("evaluation.prompts_by_kind.object=5", "evaluation.prompts_by_kind.object=5: must be a list"),
        ("model.family=sdxl", "model.family=sdxl: must be one of stable_diffusion"),
        ("model.family=true", "model.family=true: must be one of"),
        ("model.resolution=30", "model.resolution=30: must be a multiple of 8"),
        ("prior.folder=/nonexistent", "prior.folder=/nonexistent is no folder"),
        (
            "prior.folder=miniature/subjects/cat_toy",
            "images and prior.num_class_images=64; ask for",
        ),
        ("model.repo=docs", "model.repo=docs: no model there (no model_index.json)"),
        ("evaluation.clip=docs", "evaluation.clip=docs: no model there (no config.json)"),
        ("steps=1000000000", "steps=1000000000: must be a whole number, 1 or more and at most 1,000,000"),
        ("seed=range(0,1000000000)", "seed=range(0,1000000000): makes more than 100,000 cells"),
        ("seed=range(5,5)", "seed=range(5,5): no value"),
        ("seed=range(0,5,0)", "seed=range(0,5,0): range() arg 3 must not be zero"),
        ("model.repo=5", "model.repo=5: must be text"),
        ("evaluation.clip=null", "evaluation.clip=null: must be text"),
        ("subject.images=null", "subject.images=null: must be text"),
        ("subject.class_noun=null", "subject.class_noun is empty"),
        ("evaluation.prompts=[no_place]", "needs exactly one {}"),
        ("'lr=interval(1e-7,1e-5)'", "needs hydra/sweeper=optuna"),
    ],
)
def test_a_bad_value_is_one_clear_line(grid, typed, said):
    with pytest.raises(SpecError) as error:
        grid("trainer=dreambooth_lora", "prior_preservation=true", typed.strip("'"))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("lrr=1", "Did you mean lr"),
        ("model=sd99", "must be one of miniature"),
        ("subject.imags=x", r"mean subject\.images(?! or subject\.images)"),
        ("nonsense", "an argument is KEY=VALUE"),
        ("lr=1e-6,2e-6", "add -m"),
        ("~lr", "~lr: a setting cannot be left out"),
        ("~trainer.tf32", "cannot be left out"),
        ("tracking=abc", "tracking=abc: tracking is no setting; give tracking.uri, tracking.experiment"),
        ("+prior=-1", "give prior.num_class_images"),
        ("trainer=null", "trainer=null: must be one of dreambooth"),
        ("model=5", "model=5: must be one of"),
        ("subject=[1]", "must be one of cat_toy"),
        ("keep=true", "keep=true: must be all, best, or a number"),
        ("keep=0", "keep=0: must be all"),
        ("name=-1", "name=-1: must be text"),
        ("name=[1]", "must be text"),
        ("++tracking.uri=5", "tracking.uri=5: must be null, or text that starts with sqlite:"),
        ("tracking.uri=ftp://there", "must be null, or text"),
        ("tracking.experiment=''", "tracking.experiment=: must be text"),
        ("tracking.experiment=true", "tracking.experiment=true: must be text"),
    ],
)
def test_a_typo_is_answered_with_what_there_is(typed, said):
    with pytest.raises(SpecError, match=said):
        check_arguments([typed], multirun=False)


@pytest.mark.parametrize("typed", ["lr=glob(*)", "trainer=glob(*)", "+x=glob(a)"])
def test_a_pattern_is_answered(typed):
    with pytest.raises(SpecError, match="stands for no values"):
        check_arguments([typed], multirun=True)


@pytest.mark.parametrize("typed", ["cpu_trials=1,2", "keep=best,all", "tracking.uri=a,b", "gpus_per_trial=range(1,3)"])
def test_what_the_whole_sweep_has_takes_one_value(typed):
    with pytest.raises(SpecError, match="has one value"):
        check_arguments([typed], multirun=True)


def test_what_the_whole_sweep_has_is_taken():
    typed = ["keep=2", "name='5'", "name=null", "tracking.uri=sqlite:///x.db", "tracking.uri=null"]
    check_arguments([*typed, "tracking.uri=${oc.env:TRACKER}", "tracking.uri=http://localhost:5000"], multirun=False)


def test_what_a_cell_has_takes_several():
    typed = ["lr=1e-6,2e-6", "prior.weight=0.5,1", "trainer=dreambooth,dreambooth_lora", "model.lr_scale=1,2"]
    check_arguments(typed, multirun=True)


@pytest.mark.parametrize("trainer", ["textual_inversion", "ti_dreambooth"])
def test_a_caption_that_teaches_the_learned_word_nothing_is_refused(grid, tmp_path, trainer):
    images = tiny.make_images(tmp_path / "images", 2)
    file = sorted(images.iterdir())[0].with_suffix(".txt")
    typed = (f"subject.images={images}", "subject.class_noun=dog", f"trainer={trainer}")
    file.write_text("a tasks dog on the beach")
    with pytest.raises(SpecError) as error:
        grid(*typed)
    assert f"{file}: no sks in this caption" in str(error.value)
    grid(*typed, "trainer.captions=false")
    grid(*typed[:2])
    (images / file.name).write_text("a photo of SKS dog")
    grid(*typed, "subject.identifier=Sks")


def test_a_word_may_be_a_number(grid):
    (cell,) = grid("subject.identifier=123", "subject.class_noun=7").cells
    assert cell.train.subject.instance_prompt == "a photo of 123 7"


def test_precision_no_is_a_word(grid):
    assert [c.train.mixed_precision for c in grid("mixed_precision=no,bf16").cells] == ["no", "bf16"]


def test_numbers_are_shown_as_typed():
    assert [show(v) for v in (5e-6, 1e-06, 0.1, 400, True, "ddim", 1.5e-6)] == [
        "5e-6", "1e-6", "0.1", "400", "true", "ddim", "1.5e-6",
    ]  # fmt: skip


def test_the_plan_needs_no_torch(planned, tmp_path):
    code = "import sys, runpy; sys.argv = ['sweep.py', *sys.argv[1:]]\n"
    code += "try:\n    runpy.run_path('sweep.py', run_name='__main__')\n"
    code += (
        "finally:\n    print(*[m for m in ('torch', 'mlflow', 'diffusers', 'optuna', 'pandas') if m in sys.modules])"
    )
    arguments = ["-m", "plan_only=true", "lr=1e-6,2e-6", f"output_dir={tmp_path}", *planned]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=PROJECT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "trainings         2" in done.stdout
    assert done.stdout.splitlines()[-1] == ""


def test_ten_thousand_cells_are_planned_in_a_moment(grid, tmp_path):
    """Under a second on a quiet machine; the bound is for a busy one."""
    start = time.process_time()
    lrs = ",".join(f"{i}e-8" for i in range(1, 251))
    cells = grid(f"lr={lrs}", "steps=100,200,300,400", "scheduler=ddim,pndm", "seed=range(0,5)").cells
    plan, store = compile_plan(cells), Store(tmp_path)
    bill = cost([store.left(training) for training in plan.trainings], store)
    assert time.process_time() - start < 6
    assert (bill.cells, bill.trainings, bill.training_steps) == (10_000, 1_250, 500_000)


def test_help_shows_every_axis_with_its_default():
    done = subprocess.run(
        [sys.executable, "sweep.py", "--help"], capture_output=True, text=True, cwd=PROJECT, check=True
    )
    assert all(f"  {axis} " in done.stdout for axis in AXES)
    assert len(done.stdout.splitlines()) <= 40
    for group in ("model: miniature", "subject: cat_toy", "evaluation: adaptive, paper, quick"):
        assert group in done.stdout


def test_the_trainer_files_say_the_defaults(grid):
    cells = grid("model=sd15", "trainer=dreambooth,dreambooth_lora,textual_inversion,ti_dreambooth").cells
    assert [cell.train.trainer for cell in cells] == [TrainerSpec(name=name) for name in TRAINERS]
