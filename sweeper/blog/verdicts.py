"""What a claim comes to: its parts with effects, intervals and verdicts.

An interval lies above its margin (supported), below it (not supported), or holds it (inconclusive): one margin, so that
more prompts never turn a verdict round. All parts supported: the claim is supported; one of them not supported: it is
not; otherwise it is inconclusive. Under SEEDS training seeds results suggest, and are no verdict.
"""

from dataclasses import dataclass

from sweeper.blog.evidence import Bootstrapped, Condition

SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE, NOT_JUDGED = "supported", "not supported", "inconclusive", "not judged"
SUGGESTS = {SUPPORTED: "suggests yes", NOT_SUPPORTED: "suggests no"}
MARGIN = 0.05  # of score, s and t (each 0 to 1): a difference below it makes no difference to a user
SEEDS = 3  # of training, from which on there is a verdict


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
        return NOT_JUDGED if self.missing else self.said(combined([part.verdict for part in self.parts]))

    @property
    def seeds(self) -> int:
        """Training seeds of the setting that has the fewest."""
        return min((len(condition.observations) for _, condition in self.conditions), default=0)

    def said(self, verdict: str) -> str:
        """A verdict as so many training seeds allow it."""
        return verdict if self.seeds >= SEEDS else SUGGESTS.get(verdict, verdict)


def combined(verdicts: list[str]) -> str:
    if NOT_SUPPORTED in verdicts:
        return NOT_SUPPORTED
    return INCONCLUSIVE if INCONCLUSIVE in verdicts else SUPPORTED


def better(words: str, effect: Bootstrapped) -> Part:
    """Claimed to be above 0 by what matters."""
    return above(words, effect, MARGIN)


def no_worse(words: str, effect: Bootstrapped) -> Part:
    """Claimed to be above 0, or below it by less than what matters."""
    return above(words, effect, -MARGIN)


def above(words: str, effect: Bootstrapped, margin: float = 0.0) -> Part:
    """Claimed to be above `margin`; above 0 where 0 stands for a threshold of ours."""
    low, high = effect.interval
    return _part(words, effect, supported=low > margin, refuted=high < margin)


def similar(words: str, effect: Bootstrapped) -> Part:
    """Claimed to be no difference that matters, in either direction."""
    low, high = effect.interval
    within = low > -MARGIN and high < MARGIN
    return _part(words, effect, supported=within, refuted=low > MARGIN or high < -MARGIN)


def _part(words: str, effect: Bootstrapped, supported: bool, refuted: bool) -> Part:
    low, high = effect.interval
    verdict = INCONCLUSIVE
    if supported:
        verdict = SUPPORTED
    elif refuted:
        verdict = NOT_SUPPORTED
    return Part(words, effect.value, low, high, verdict)
