"""What a metric is called where a person reads it. Programs read the short names: CSV, JSON, MLflow."""

from evaluation.metrics import METRICS

# The three that are computed from the metrics of all checkpoints (evaluation/fidelity.py): title and description.
_SCORES = {
    "score": ("score", "The harmonic mean of s and t: high where both are."),
    "s": ("subject kept, s", "0 for the untuned model, 1 for the photographs among themselves."),
    "t": ("prompt obeyed, t", "1 for the untuned model, 0 for copies of the photographs."),
}


def title(name: str) -> str:
    """A few words; an unknown name is its own title."""
    if name in _SCORES:
        return _SCORES[name][0]
    return METRICS[name].title if name in METRICS else name


def description(name: str) -> str:
    """A sentence with the unit and the better direction; empty for an unknown name."""
    if name in _SCORES:
        return _SCORES[name][1]
    if name not in METRICS:
        return ""
    metric = METRICS[name]
    better = "higher" if metric.higher_is_better else "lower"
    return f"{metric.description} Unit: {metric.unit}; {better} is better."
