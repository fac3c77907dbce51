"""The post's twelve claims as pure functions from an experiment's results to effects, intervals and verdicts.

A claim has one part or more, each with a verdict of its own. All parts supported: the claim is; one of them not
supported: it is not; otherwise it is inconclusive. What a part compares is a number with its bootstrap draws.
"""

from collections.abc import Callable
from dataclasses import dataclass

from evaluation.spec import show
from sweeper.blog.evidence import Condition, Drawn, Evidence, Missing, mean

SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE, NOT_JUDGED = "supported", "not supported", "inconclusive", "not judged"
MARGIN = 0.1  # of score, s and t (each 0 to 1): a difference below it makes no difference to a user
HALF = 0.5  # of the way: from the untuned model to the photographs (s), from a copy of them to the prompt (t)


@dataclass(frozen=True)
class Part:
    words: str  # of the effect: what minus what
    effect: float
    low: float  # 95 % interval
    high: float
    verdict: str


@dataclass(frozen=True)
class Finding:
    parts: tuple[Part, ...] = ()
    conditions: tuple[tuple[str, Condition], ...] = ()  # what is compared, by label
    missing: str = ""  # why there is no verdict

    @property
    def verdict(self) -> str:
        return NOT_JUDGED if self.missing else combined([part.verdict for part in self.parts])


def combined(verdicts: list[str]) -> str:
    if NOT_SUPPORTED in verdicts:
        return NOT_SUPPORTED
    return INCONCLUSIVE if INCONCLUSIVE in verdicts else SUPPORTED


def better(words: str, effect: Drawn) -> Part:
    """Claimed to be above 0: not so where it is below 0, or too small to matter at the most."""
    low, high = effect.interval
    return _part(words, effect, supported=low > 0, refuted=high < MARGIN)


def similar(words: str, effect: Drawn) -> Part:
    """Claimed to be no difference that matters: not so where the difference is clear and its estimate matters."""
    low, high = effect.interval
    clear = low > 0 or high < 0
    return _part(words, effect, supported=low > -MARGIN and high < MARGIN, refuted=clear and abs(effect.value) > MARGIN)


def above(words: str, effect: Drawn) -> Part:
    """Claimed to be above 0, a threshold of ours."""
    low, high = effect.interval
    return _part(words, effect, supported=low > 0, refuted=high < 0)


def no_worse(words: str, effect: Drawn) -> Part:
    """Claimed to be above 0, or not so far below that it matters."""
    low, high = effect.interval
    return _part(words, effect, supported=low > -MARGIN, refuted=high < 0)


def _part(words: str, effect: Drawn, supported: bool, refuted: bool) -> Part:
    verdict = SUPPORTED if supported else NOT_SUPPORTED if refuted else INCONCLUSIVE
    return Part(words, effect.value, *effect.interval, verdict)


def label(subject: str, *names: str, condition: Condition) -> str:
    values = (
        f"step {condition.params[n]}" if n == "steps" else f"{n.split('.')[-1]} {show(condition.params[n])}"
        for n in names
    )
    return " · ".join([subject, *values])


def lower_lr_is_better(runs: Evidence) -> Finding:
    *_, lower, highest = runs.values("lr")
    parts, shown = [], []
    for subject in runs.subjects():
        low, high = (runs.at(subject=subject, lr=lr, steps=runs.last(subject)) for lr in (lower, highest))
        words = f"{subject}: score at {show(lower)} minus at {show(highest)}, step {runs.last(subject)}"
        parts.append(better(words, low["score"] - high["score"]))
        shown += [(label(subject, "lr", condition=c), c) for c in (low, high)]
    return Finding(tuple(parts), tuple(shown))


def objects_at_400(runs: Evidence) -> Finding:
    lrs = runs.values("lr")
    parts, shown = [], []
    for subject in runs.subjects("object"):
        steps = runs.values("steps", subject)
        every = {(lr, n): runs.at(subject=subject, lr=lr, steps=n) for lr in lrs for n in steps}
        advised, best = (lrs[-2], steps[-1]), max(every, key=lambda place: every[place]["score"].value)
        words, score = f"{subject}: score at {show(advised[0])} and step {advised[1]}", every[advised]["score"]
        parts.append(no_worse(f"{words} minus the best of {len(every)}", score - every[best]["score"]))
        parts.append(above(f"{words} minus one half", score - HALF))
        places = dict.fromkeys([*((lr, steps[-1]) for lr in lrs), best])
        shown += [(label(subject, "lr", "steps", condition=every[p]), every[p]) for p in places]
    return Finding(tuple(parts), tuple(shown))


def faces_need_more(runs: Evidence) -> Finding:
    *lower, _ = runs.values("lr")
    parts, shown = [], []
    for subject in runs.subjects("face"):
        first, *later = runs.values("steps", subject)
        score = {(lr, n): runs.at(subject=subject, lr=lr, steps=n) for lr in runs.values("lr") for n in [first, *later]}
        advised = {place: c for place, c in score.items() if place[0] in lower and place[1] in later}
        best, other = (
            max(choice, key=lambda c: c["score"].value)
            for choice in (advised.values(), [c for place, c in score.items() if place not in advised])
        )
        gain = mean(mean(score[lr, n]["score"] for n in later) - score[lr, first]["score"] for lr in lower)
        steps, lrs = " and ".join(map(str, later)), " and ".join(map(show, lower))
        parts.append(better(f"{subject}: score at step {steps} minus at {first}, mean over {lrs}", gain))
        words = f"{subject}: best score at {lrs} and step {steps} minus the best of all others"
        parts.append(no_worse(words, best["score"] - other["score"]))
        shown += [(label(subject, "lr", "steps", condition=c), c) for c in score.values()]
    return Finding(tuple(parts), tuple(shown))


def too_much_overfits(runs: Evidence) -> Finding:
    lowest, *_, highest = runs.values("lr")
    gentle, harsh, early = [], [], []
    for subject in runs.subjects():
        last = runs.last(subject)
        gentle.append(runs.at(subject=subject, lr=lowest, steps=last))
        harsh.append(runs.at(subject=subject, lr=highest, steps=last))
        early.append(runs.at(subject=subject, lr=highest, steps=runs.values("steps", subject)[0]))

    def difference(name: str, a: list[Condition], b: list[Condition]) -> Drawn:
        return mean(x[name] - y[name] for x, y in zip(a, b, strict=True))

    parts = (
        better(
            f"t at {show(lowest)} minus at {show(highest)}, last step, mean of subjects", difference("t", gentle, harsh)
        ),
        better(f"copying at {show(highest)} minus at {show(lowest)}, last step", difference("copying", harsh, gentle)),
        better(f"t at the first step minus at the last, {show(highest)}", difference("t", early, harsh)),
        better(f"copying at the last step minus at the first, {show(highest)}", difference("copying", harsh, early)),
        above(f"one half minus t at {show(highest)}, last step", HALF - mean(c["t"] for c in harsh)),
    )
    every = [c for three in zip(gentle, early, harsh, strict=True) for c in three]
    return Finding(parts, tuple((label(c.params["subject"], "lr", "steps", condition=c), c) for c in every))


def too_little_underfits(runs: Evidence) -> Finding:
    lowest, middle = runs.values("lr")[0], runs.values("lr")[-2]
    early, late, shown = [], [], []
    for subject in runs.subjects():
        early.append(runs.at(subject=subject, lr=lowest, steps=runs.values("steps", subject)[0]))
        late.append(runs.at(subject=subject, lr=middle, steps=runs.last(subject)))
        shown += [(label(subject, "lr", "steps", condition=c), c) for c in (early[-1], late[-1])]
    grown = mean(b["s"] - a["s"] for a, b in zip(early, late, strict=True))
    parts = (
        above(f"one half minus s at {show(lowest)}, first step, mean of subjects", HALF - mean(c["s"] for c in early)),
        better(f"s at {show(middle)}, last step, minus at {show(lowest)}, first step", grown),
    )
    return Finding(parts, tuple(shown))


def prior_helps_faces(runs: Evidence) -> Finding:
    pairs = {
        subject: tuple(runs.at(subject=subject, prior_preservation=p, steps=runs.last(subject)) for p in (True, False))
        for subject in runs.subjects()
    }
    parts = []
    for subject in runs.subjects("face"):
        with_, without = pairs[subject]
        parts.append(better(f"{subject}: t with prior preservation minus without", with_["t"] - without["t"]))
        parts.append(better(f"{subject}: drift of the class without minus with", without["drift"] - with_["drift"]))
    for subject in runs.subjects("object"):
        with_, without = pairs[subject]
        words = f"{subject}: score with prior preservation minus without"
        parts.append(similar(words, with_["score"] - without["score"]))
    shown = [(label(subject, "prior_preservation", condition=c), c) for subject, pair in pairs.items() for c in pair]
    return Finding(tuple(parts), tuple(shown))


def ddim_is_cleaner(runs: Evidence) -> Finding:
    by = {name: [runs.at(subject=s, scheduler=name) for s in runs.subjects()] for name in ("pndm", "ddim", "lms")}
    noise = {name: mean(c["noise"] for c in conditions) for name, conditions in by.items()}
    untuned = mean(c.untuned["noise"] for c in by["pndm"])
    parts = (
        better("noise of the overfit models minus the untuned one's, PNDM", noise["pndm"] - untuned),
        better("noise with PNDM minus with DDIM", noise["pndm"] - noise["ddim"]),
        better("noise with LMSDiscrete minus with PNDM", noise["lms"] - noise["pndm"]),
    )
    shown = [
        (label(c.params["subject"], "scheduler", condition=c), c) for row in zip(*by.values(), strict=True) for c in row
    ]
    return Finding(parts, tuple(shown))


def more_inference_steps(runs: Evidence) -> Finding:
    *_, fewer, most = counts = runs.values("inference_steps")
    by = {n: [runs.at(subject=s, inference_steps=n) for s in runs.subjects()] for n in counts}

    def change(name: str) -> Drawn:
        return mean(c[name] for c in by[most]) - mean(c[name] for c in by[fewer])

    parts = (
        better(f"noise at {fewer} inference steps minus at {most}", -1 * change("noise")),
        no_worse(f"s at {most} inference steps minus at {fewer}", change("s")),
    )
    shown = [
        (label(c.params["subject"], "inference_steps", condition=c), c)
        for row in zip(*by.values(), strict=True)
        for c in row
    ]
    return Finding(parts, tuple(shown))


def text_encoder_is_best(runs: Evidence) -> Finding:
    faces, objects = runs.subjects("face"), runs.subjects("object")
    pairs = {
        subject: tuple(runs.at(subject=subject, train_text_encoder=t, steps=runs.last(subject)) for t in (True, False))
        for subject in faces + objects
    }

    def gain(subject: str, name: str) -> Drawn:
        trained, frozen = pairs[subject]
        return trained[name] - frozen[name]

    words = "with the text encoder trained minus frozen"
    parts = [better(f"{subject}: {name} {words}", gain(subject, name)) for subject in faces for name in ("s", "t")]
    parts += [better(f"{subject}: score {words}", gain(subject, "score")) for subject in objects]
    more = mean(gain(s, "score") for s in faces) - mean(gain(s, "score") for s in objects)
    parts.append(better("gain of the score on faces minus on objects", more))
    shown = [(label(s, "train_text_encoder", condition=c), c) for s, pair in pairs.items() for c in pair]
    return Finding(tuple(parts), tuple(shown))


def ema_makes_no_difference(runs: Evidence) -> Finding:
    return _alike(runs, "trainer.ema_decay", similar, ("s", "t"))


def natural_word_works(runs: Evidence) -> Finding:
    return _alike(runs, "subject.identifier", no_worse, ("score",), first="sks")


def _alike(runs: Evidence, axis: str, part: Callable, names: tuple[str, ...], first: object = None) -> Finding:
    """Every other value of an axis against the first."""
    values = sorted(runs.values(axis), key=lambda value: value != first)
    parts, shown = [], []
    for subject in runs.subjects():
        base, *others = (runs.at(subject=subject, steps=runs.last(subject), **{axis: value}) for value in values)
        for other in others:
            was, is_ = (f"{axis.split('.')[-1]} {show(c.params[axis])}" for c in (base, other))
            parts += [part(f"{subject}: {name} at {is_} minus at {was}", other[name] - base[name]) for name in names]
        shown += [(label(subject, axis, condition=c), c) for c in (base, *others)]
    return Finding(tuple(parts), tuple(shown))


def inversion_in_between(inversions: Evidence, plain: Evidence) -> Finding:
    parts, shown = [], []
    for subject in inversions.subjects():
        last = plain.last(subject)
        inverted = inversions.at(subject=subject, steps=inversions.last(subject))
        frozen, trained = (plain.at(subject=subject, train_text_encoder=t, steps=last) for t in (False, True))
        words = f"{subject}: score of inversion then DreamBooth minus plain DreamBooth"
        parts.append(better(words, inverted["score"] - frozen["score"]))
        words = f"{subject}: score with the text encoder trained minus inversion then DreamBooth"
        parts.append(better(words, trained["score"] - inverted["score"]))
        words = f"{subject}: copying of inversion then DreamBooth minus plain DreamBooth"
        parts.append(better(words, inverted["copying"] - frozen["copying"]))
        names = ("plain", "inversion first", "text encoder trained")
        shown += [(f"{subject} · {n}", c) for n, c in zip(names, (frozen, inverted, trained), strict=True)]
    return Finding(tuple(parts), tuple(shown))


def judge(claim: Callable[..., Finding], *evidence: Evidence) -> Finding:
    """The finding of a claim; without what it needs, which result that is."""
    if not all(runs.cells for runs in evidence):
        return Finding(missing="its experiment has no results yet.")
    try:
        finding = claim(*evidence)
        for _, condition in finding.conditions:
            _ = condition.measures  # that a condition is shown takes them all
        return finding
    except Missing as missing:
        return Finding(missing=str(missing))
