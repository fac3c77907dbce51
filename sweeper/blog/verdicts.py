"""What a claim comes to: its parts with effects, intervals and verdicts.

All parts supported: the claim is supported; one of them not supported: it is not; otherwise it is inconclusive.
"""

from dataclasses import dataclass

from sweeper.blog.evidence import Bootstrapped, Condition

SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE, NOT_JUDGED = "supported", "not supported", "inconclusive", "not judged"
MARGIN = 0.1  # of score, s and t (each 0 to 1): a difference below it makes no difference to a user


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


def better(words: str, effect: Bootstrapped) -> Part:
    """Claimed to be above 0. Refuted where the interval ends below what matters."""
    low, high = effect.interval
    return _part(words, effect, supported=low > 0, refuted=high < MARGIN)


def similar(words: str, effect: Bootstrapped) -> Part:
    """Claimed to be no difference that matters. Refuted where the difference is clear and large enough to matter."""
    low, high = effect.interval
    clear = low > 0 or high < 0
    return _part(words, effect, supported=low > -MARGIN and high < MARGIN, refuted=clear and abs(effect.value) > MARGIN)


def above(words: str, effect: Bootstrapped) -> Part:
    """Claimed to be above 0, which stands for a threshold of ours. Refuted where the interval ends below 0."""
    low, high = effect.interval
    return _part(words, effect, supported=low > 0, refuted=high < 0)


def no_worse(words: str, effect: Bootstrapped) -> Part:
    """Claimed to be above 0, or below it by less than what matters. Refuted where the interval ends below 0."""
    low, high = effect.interval
    return _part(words, effect, supported=low > -MARGIN, refuted=high < 0)


def _part(words: str, effect: Bootstrapped, supported: bool, refuted: bool) -> Part:
    low, high = effect.interval
    verdict = INCONCLUSIVE
    if supported:
        verdict = SUPPORTED
    elif refuted:
        verdict = NOT_SUPPORTED
    return Part(words, effect.value, low, high, verdict)
