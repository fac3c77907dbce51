"""What a metric is called where a person reads it. Programs read the short names: CSV, JSON, MLflow."""

from evaluation.metrics import METRICS

# What is computed from the metrics of all checkpoints (evaluation/sweetspot.py): title and description.
_SCORES = {
    "expected_score": (
        "expected score",
        "What a model of all checkpoints together expects of the true score. It chooses; what is ruled out has none.",
    ),
    "score": (
        "score, measured",
        "The harmonic mean of s and t: high where both are. Of many, the highest has had luck.",
    ),
    "fresh_score": ("score, fresh images", "The answer's score on images on which nothing was chosen."),
    "p_best": ("chance of being best", "That of the highest true score among all that are not ruled out."),
    "s": (
        "subject kept, s",
        "Subject fidelity, from the likeness in DINO features: 0 for the untuned model, 1 for the photographs.",
    ),
    "t": (
        "prompt obeyed, t",
        "Prompt fidelity, from the likeness in CLIP features: 1 for the untuned model, 0 for the photographs.",
    ),
}


# What a metric is measured by where the sweep names no encoder.
_SOURCES = {"clip": "CLIP", "dino": "DINO", "pixels": "the pixels", "unet": "the trained U-Net itself"}


def title(name: str) -> str:
    """A few words; an unknown name is its own title."""
    if name in _SCORES:
        return _SCORES[name][0]
    return METRICS[name].title if name in METRICS else name


def description(name: str, backbone: str = "") -> str:
    """What it is, its unit, which direction is better and, where `backbone` is known, what measured it. Empty for an
    unknown name."""
    if name in _SCORES:
        return f"{_SCORES[name][1]} Higher is better."
    if name not in METRICS:
        return ""
    metric = METRICS[name]
    better = "higher" if metric.higher_is_better else "lower"
    encoder = backbone if metric.backbone in ("clip", "dino") else ""
    measured = f" Measured by {encoder or _SOURCES[metric.backbone]}."
    return f"{metric.description} Unit: {metric.unit}; {better} is better.{measured}"
