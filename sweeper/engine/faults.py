"""Faults of devices: what a worker says of its own, and which devices a sweep leaves out for that. Imports no torch.

A device is at fault where its context is dead, so that nothing more can be computed in the process; where other
programs hold its memory; or where it cannot be used at all. The worker then hands its job back and ends. Which error is
a device's is told by sweeper/engine/cards.py.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path

from trainers.files import read_json, write_json

DEAD, CROWDED, LOST = "dead", "crowded", "lost"
FORGIVEN = 600.0  # seconds after which a device is tried again that may have recovered: neighbours leave


@dataclass(frozen=True)
class Fault:
    device: str
    kind: str  # DEAD | CROWDED | LOST
    reason: str
    job: str = ""  # that met it


class Notes:
    """What a worker says of itself, where its engine finds it: beside its log."""

    def __init__(self, path: Path) -> None:
        """path: of the log, or a sibling of it."""
        self._fault = path.with_suffix(".fault.json")
        self._waits = path.with_suffix(".waits")
        self._said = ""

    def at_fault(self, fault: Fault) -> None:
        """Of several processes the first says it."""
        if not self._fault.exists():
            write_json(self._fault, asdict(fault))

    @property
    def fault(self) -> Fault | None:
        return Fault(**read_json(self._fault)) if self._fault.exists() else None

    def waits_for(self, reason: str) -> None:
        """What keeps it from taking a job; "" where nothing does."""
        if reason != self._said:
            self._waits.write_text(reason)
            self._said = reason

    @property
    def waits(self) -> str:
        return self._waits.read_text() if self._waits.exists() else ""


class Suspects:
    """Which devices are left out.

    One that is lost is left out for good, and so is one on which the contexts of two jobs died. One on which a single
    job met a fault is left out as long as there are others, but no longer than `FORGIVEN`: if that job ends other
    contexts too, it was the job.
    """

    def __init__(self) -> None:
        self._faults: dict[str, list[Fault]] = {}  # by device
        self._last: dict[str, float] = {}  # when
        self._acquitted: set[str] = set()

    def add(self, fault: Fault) -> None:
        self._faults.setdefault(fault.device, []).append(fault)
        self._last[fault.device] = time.monotonic()

    def acquit(self, job: str) -> None:
        """Nothing is held against devices for the only reason that they met this job."""
        self._acquitted.add(job)

    def unfit(self, device: str) -> bool:
        """For good."""
        faults = self._faults.get(device, [])
        died = {fault.job for fault in faults if fault.kind == DEAD}
        return len(died - self._acquitted) > 1 or any(fault.kind == LOST for fault in faults)

    def suspect(self, device: str) -> bool:
        if self.unfit(device):
            return True
        held = any(fault.job not in self._acquitted for fault in self._faults.get(device, []))
        return held and time.monotonic() - self._last[device] < FORGIVEN

    @property
    def reasons(self) -> dict[str, str]:
        """What was last held against each device."""
        return {device: faults[-1].reason for device, faults in self._faults.items()}
