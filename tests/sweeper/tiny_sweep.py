"""The whole command as a process, on random models of some thousand weights."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hydra import compose, initialize_config_dir
from transformers import CLIPConfig, CLIPModel, ViTConfig, ViTModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from sweeper.plan.compile import compile_plan
from sweeper.plan.grid import CONF, expand, parse
from sweeper.plan.types import Training
from tests.trainers import tiny

PROJECT = Path(__file__).parents[2]
GRID = ("-m", "lr=1e-4,2e-4", "prior_preservation=true")


def make_models(root: Path) -> list[str]:
    """Saves a pipeline, a CLIP, a DINO and instance images under `root`; the arguments that choose them."""
    tiny.make_pipeline(root / "pipeline")
    tiny.make_images(root / "images", 3)
    tokenizer = tiny.make_tokenizer(root / "vocabulary")
    side = tiny.RESOLUTION
    layers = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**layers, "image_size": side, "patch_size": 4}
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    text = {**layers, **ids, "vocab_size": len(tokenizer), "max_position_embeddings": 16}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(root / "clip")
    tokenizer.save_pretrained(root / "clip")
    ViTModel(ViTConfig(**vision), add_pooling_layer=False).save_pretrained(root / "dino")
    for name in ("clip", "dino"):
        CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side}).save_pretrained(
            root / name
        )
    return [
        f"model.repo={root / 'pipeline'}",
        f"model.clip={root / 'clip'}",
        f"model.dino={root / 'dino'}",
        f"model.resolution={side}",
        f"subject.images={root / 'images'}",
        "subject.class_noun=dog",
        "evaluation.prompts=['a photo of {} in the beach','{} in the style']",
        "inference_steps=2",
        "batch_size=2",
        "steps=4",
        "eval_every=2",
        "prior.num_class_images=3",
        "prior.inference_steps=2",
    ]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def start(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "sweep.py", *arguments],
        cwd=PROJECT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def sweep(*arguments: str) -> tuple[int, str]:
    """Exit code and everything printed."""
    with start(*arguments) as process:
        try:
            output, _ = process.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            process.terminate()
            raise
    return process.returncode, output


def wait_for(condition: Callable[[], object], process: subprocess.Popen, seconds: float = 200) -> None:
    """Until the condition holds; the process must not end before."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def trainings(*arguments: str) -> tuple[Training, ...]:
    """Of the plan of the arguments."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        grid = expand(parse(arguments, None), lambda typed: compose("sweep", typed))
    return compile_plan(grid.cells).trainings


def read(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def numbers(folder: Path) -> list:
    """Everything that a run must give again bit for bit."""
    return [(row["params"], row["metrics"], row["state"]) for row in read(folder)["cells"]]
