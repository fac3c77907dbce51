"""Where a checkpoint is exported to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def target(sweep: Path, training: str, params: Mapping[str, Any]) -> Path:
    """The folder of a checkpoint as it was sampled, in the sweep's own folder."""
    average = "" if params["use_ema"] else "-no-ema"
    precision = "-fp16" if params["sample_precision"] == "fp16" else ""
    return sweep / "export" / f"{training}-{params['steps']:06d}-{params['scheduler']}{average}{precision}"
