"""The post's twelve claims as pure functions from an experiment's results to effects, intervals and verdicts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from evaluation.spec import show
from sweeper.blog.evidence import Bootstrapped, Condition, Evidence, Missing, mean
from sweeper.blog.verdicts import Finding, Part, above, better, no_worse, similar

HALF = 0.5  # of the way: from the untuned model to the photographs (s), from a copy of them to the prompt (t)


def label(subject: str, *names: str, condition: Condition) -> str:
    """What a condition is called in a figure: "cat_toy · lr 2e-6 · step 400"."""
    words = [subject]
    for name in names:
        value = show(condition.params[name])
        words.append(f"step {value}" if name == "steps" else f"{name.split('.')[-1]} {value}")
    return " · ".join(words)


def lower_lr_is_better(evidence: Evidence) -> Finding:
    *_, lower, highest = evidence.values("lr")
    parts = []
    shown = []
    for subject in evidence.subjects():
        low = evidence.at_last_step(subject, lr=lower)
        high = evidence.at_last_step(subject, lr=highest)
        words = f"{subject}: score at {show(lower)} minus at {show(highest)}, step {evidence.last(subject)}"
        parts.append(better(words, low["score"] - high["score"]))
        shown += [(label(subject, "lr", condition=c), c) for c in (low, high)]
    return Finding(tuple(parts), tuple(shown))


def objects_at_400(evidence: Evidence) -> Finding:
    lrs = evidence.values("lr")
    parts = []
    shown = []
    for subject in evidence.subjects("object"):
        every = _by_lr_and_step(evidence, subject)
        last = evidence.last(subject)
        advised = (lrs[-2], last)
        best = max(every, key=lambda place: every[place]["score"].value)
        score = every[advised]["score"]
        words = f"{subject}: score at {show(lrs[-2])} and step {last}"
        parts.append(no_worse(f"{words} minus the best of {len(every)}", score - every[best]["score"]))
        parts.append(above(f"{words} minus one half", score - HALF))
        places = dict.fromkeys([*((lr, last) for lr in lrs), best])
        shown += [(label(subject, "lr", "steps", condition=every[place]), every[place]) for place in places]
    return Finding(tuple(parts), tuple(shown))


def faces_need_more(evidence: Evidence) -> Finding:
    *lower, _ = evidence.values("lr")
    parts = []
    shown = []
    for subject in evidence.subjects("face"):
        first, *later = evidence.values("steps", subject)
        every = _by_lr_and_step(evidence, subject)
        advised = [c for (lr, step), c in every.items() if lr in lower and step in later]
        others = [c for (lr, step), c in every.items() if not (lr in lower and step in later)]
        gains = [mean(every[lr, step]["score"] for step in later) - every[lr, first]["score"] for lr in lower]
        steps = " and ".join(map(str, later))
        lrs = " and ".join(map(show, lower))
        parts.append(better(f"{subject}: score at step {steps} minus at {first}, mean over {lrs}", mean(gains)))
        words = f"{subject}: best score at {lrs} and step {steps} minus the best of all others"
        parts.append(no_worse(words, _best_score(advised) - _best_score(others)))
        shown += [(label(subject, "lr", "steps", condition=c), c) for c in every.values()]
    return Finding(tuple(parts), tuple(shown))


def _by_lr_and_step(evidence: Evidence, subject: str) -> dict[tuple[float, int], Condition]:
    found = {}
    for lr in evidence.values("lr"):
        for step in evidence.values("steps", subject):
            found[lr, step] = evidence.at(subject=subject, lr=lr, steps=step)
    return found


def _best_score(conditions: Iterable[Condition]) -> Bootstrapped:
    return max((condition["score"] for condition in conditions), key=lambda score: score.value)


def too_much_overfits(evidence: Evidence) -> Finding:
    lowest, *_, highest = evidence.values("lr")
    gentle = []
    early = []
    harsh = []
    shown = []
    for subject in evidence.subjects():
        first = evidence.values("steps", subject)[0]
        gentle.append(evidence.at_last_step(subject, lr=lowest))
        early.append(evidence.at(subject=subject, lr=highest, steps=first))
        harsh.append(evidence.at_last_step(subject, lr=highest))
        shown += [(label(subject, "lr", "steps", condition=c), c) for c in (gentle[-1], early[-1], harsh[-1])]
    low = show(lowest)
    high = show(highest)
    parts = (
        better(f"t at {low} minus at {high}, last step, mean of subjects", _difference("t", gentle, harsh)),
        better(f"copying at {high} minus at {low}, last step", _difference("copying", harsh, gentle)),
        better(f"t at the first step minus at the last, {high}", _difference("t", early, harsh)),
        better(f"copying at the last step minus at the first, {high}", _difference("copying", harsh, early)),
        above(f"one half minus t at {high}, last step", HALF - mean(c["t"] for c in harsh)),
    )
    return Finding(parts, tuple(shown))


def _difference(name: str, conditions: Sequence[Condition], others: Sequence[Condition]) -> Bootstrapped:
    """The mean over subjects of a measure minus that of the other condition of the same subject."""
    return mean(a[name] - b[name] for a, b in zip(conditions, others, strict=True))


def too_little_underfits(evidence: Evidence) -> Finding:
    lrs = evidence.values("lr")
    lowest = lrs[0]
    middle = lrs[-2]
    early = []
    late = []
    shown = []
    for subject in evidence.subjects():
        first = evidence.values("steps", subject)[0]
        early.append(evidence.at(subject=subject, lr=lowest, steps=first))
        late.append(evidence.at_last_step(subject, lr=middle))
        shown += [(label(subject, "lr", "steps", condition=c), c) for c in (early[-1], late[-1])]
    grown = _difference("s", late, early)
    parts = (
        above(f"one half minus s at {show(lowest)}, first step, mean of subjects", HALF - mean(c["s"] for c in early)),
        better(f"s at {show(middle)}, last step, minus at {show(lowest)}, first step", grown),
    )
    return Finding(parts, tuple(shown))


def prior_helps_faces(evidence: Evidence) -> Finding:
    preserved = {subject: evidence.at_last_step(subject, prior_preservation=True) for subject in evidence.subjects()}
    plain = {subject: evidence.at_last_step(subject, prior_preservation=False) for subject in evidence.subjects()}
    parts = []
    for subject in evidence.subjects("face"):
        gain = preserved[subject]["t"] - plain[subject]["t"]
        parts.append(better(f"{subject}: t with prior preservation minus without", gain))
        less_drift = plain[subject]["drift"] - preserved[subject]["drift"]
        parts.append(better(f"{subject}: drift of the class without minus with", less_drift))
    for subject in evidence.subjects("object"):
        gain = preserved[subject]["score"] - plain[subject]["score"]
        parts.append(similar(f"{subject}: score with prior preservation minus without", gain))
    shown = []
    for subject in preserved:
        both = (preserved[subject], plain[subject])
        shown += [(label(subject, "prior_preservation", condition=c), c) for c in both]
    return Finding(tuple(parts), tuple(shown))


def ddim_is_cleaner(evidence: Evidence) -> Finding:
    by_scheduler = {name: _every_subject(evidence, "scheduler", name) for name in ("pndm", "ddim", "lms")}
    noise = {name: mean(c["noise"] for c in conditions) for name, conditions in by_scheduler.items()}
    untuned = mean(c.untuned["noise"] for c in by_scheduler["pndm"])
    parts = (
        better("noise of the overfit models minus the untuned one's, PNDM", noise["pndm"] - untuned),
        better("noise with PNDM minus with DDIM", noise["pndm"] - noise["ddim"]),
        better("noise with LMSDiscrete minus with PNDM", noise["lms"] - noise["pndm"]),
    )
    return Finding(parts, _by_subject("scheduler", by_scheduler))


def more_inference_steps(evidence: Evidence) -> Finding:
    counts = evidence.values("inference_steps")
    by_count = {count: _every_subject(evidence, "inference_steps", count) for count in counts}
    fewer = counts[-2]
    most = counts[-1]
    less_noise = -1 * (mean(c["noise"] for c in by_count[most]) - mean(c["noise"] for c in by_count[fewer]))
    more_subject = mean(c["s"] for c in by_count[most]) - mean(c["s"] for c in by_count[fewer])
    parts = (
        better(f"noise at {fewer} inference steps minus at {most}", less_noise),
        no_worse(f"s at {most} inference steps minus at {fewer}", more_subject),
    )
    return Finding(parts, _by_subject("inference_steps", by_count))


def _every_subject(evidence: Evidence, axis: str, value: object) -> list[Condition]:
    return [evidence.at(subject=subject, **{axis: value}) for subject in evidence.subjects()]


def _by_subject(axis: str, conditions: Mapping[Any, Sequence[Condition]]) -> tuple[tuple[str, Condition], ...]:
    """The conditions of each value of an axis, with labels: all of the first subject, then of the next."""
    of_subjects = zip(*conditions.values(), strict=True)
    return tuple((label(c.params["subject"], axis, condition=c), c) for same in of_subjects for c in same)


def text_encoder_is_best(evidence: Evidence) -> Finding:
    faces = evidence.subjects("face")
    objects = evidence.subjects("object")
    trained = {s: evidence.at_last_step(s, train_text_encoder=True) for s in (*faces, *objects)}
    frozen = {s: evidence.at_last_step(s, train_text_encoder=False) for s in (*faces, *objects)}

    def gain(subject: str, name: str) -> Bootstrapped:
        return trained[subject][name] - frozen[subject][name]

    words = "with the text encoder trained minus frozen"
    parts = [better(f"{subject}: {name} {words}", gain(subject, name)) for subject in faces for name in ("s", "t")]
    parts += [better(f"{subject}: score {words}", gain(subject, "score")) for subject in objects]
    more = mean(gain(subject, "score") for subject in faces) - mean(gain(subject, "score") for subject in objects)
    parts.append(better("gain of the score on faces minus on objects", more))
    shown = []
    for subject in trained:
        both = (trained[subject], frozen[subject])
        shown += [(label(subject, "train_text_encoder", condition=c), c) for c in both]
    return Finding(tuple(parts), tuple(shown))


def ema_makes_no_difference(evidence: Evidence) -> Finding:
    return _against_first(evidence, "trainer.ema_decay", similar, ("s", "t"))


def natural_word_works(evidence: Evidence) -> Finding:
    return _against_first(evidence, "subject.identifier", no_worse, ("score",), first="sks")


def _against_first(
    evidence: Evidence,
    axis: str,
    part: Callable[[str, Bootstrapped], Part],
    names: tuple[str, ...],
    first: object = None,
) -> Finding:
    """Every other value of an axis against `first`, or against the lowest."""
    values = sorted(evidence.values(axis), key=lambda value: value != first)
    parts = []
    shown = []
    for subject in evidence.subjects():
        base, *others = (evidence.at_last_step(subject, **{axis: value}) for value in values)
        for other in others:
            was, is_ = (f"{axis.split('.')[-1]} {show(c.params[axis])}" for c in (base, other))
            parts += [part(f"{subject}: {name} at {is_} minus at {was}", other[name] - base[name]) for name in names]
        shown += [(label(subject, axis, condition=c), c) for c in (base, *others)]
    return Finding(tuple(parts), tuple(shown))


def inversion_in_between(inversions: Evidence, without: Evidence) -> Finding:
    parts = []
    shown = []
    for subject in inversions.subjects():
        plain = without.at_last_step(subject, train_text_encoder=False)
        inverted = inversions.at_last_step(subject)
        trained = without.at_last_step(subject, train_text_encoder=True)
        words = f"{subject}: score of inversion then DreamBooth minus plain DreamBooth"
        parts.append(better(words, inverted["score"] - plain["score"]))
        words = f"{subject}: score with the text encoder trained minus inversion then DreamBooth"
        parts.append(better(words, trained["score"] - inverted["score"]))
        words = f"{subject}: copying of inversion then DreamBooth minus plain DreamBooth"
        parts.append(better(words, inverted["copying"] - plain["copying"]))
        shown += [
            (f"{subject} · plain", plain),
            (f"{subject} · inversion first", inverted),
            (f"{subject} · text encoder trained", trained),
        ]
    return Finding(tuple(parts), tuple(shown))


def assess(claim: Callable[..., Finding], *evidence: Evidence) -> Finding:
    """The finding of a claim; without what it needs, which result that is."""
    if not all(found.observations for found in evidence):
        return Finding(missing="its experiment has no results yet.")
    try:
        finding = claim(*evidence)
        for _, condition in finding.conditions:
            _ = condition.measures  # raises Missing: the figure needs all of them
        return finding
    except Missing as missing:
        return Finding(missing=str(missing))
