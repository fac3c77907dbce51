"""What MLflow should show and what it has been sent, on disk: nothing is lost, nothing is sent twice."""

import json
import math
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS item (
    tracker TEXT, key TEXT, created INTEGER, wanted TEXT, sent TEXT NOT NULL DEFAULT '{}', run TEXT,
    refused TEXT, PRIMARY KEY (tracker, key)
);
CREATE TABLE IF NOT EXISTS fact (tracker TEXT, name TEXT, value TEXT, PRIMARY KEY (tracker, name));
"""


@dataclass(frozen=True)
class Pending:
    """One run of MLflow that is not yet what it should be."""

    key: str
    created: int  # ms since the epoch, when it began or was first wanted: the timestamp of everything in it
    wanted: dict[str, Any]  # sweeper.tracking.runs.Item as JSON, its metrics with a revision
    sent: dict[str, Any]  # the last state that arrived whole
    run: str | None


def _revised(item: Mapping[str, Any], before: str | None) -> dict[str, Any]:
    """The item with metrics (name, value, step, revision). A value that has changed gets a newer revision. One that is
    gone, such as the score of a former answer, becomes NaN: MLflow takes no metric back, and sorts NaN last.

    The revision becomes part of the time: of two values at the same time MLflow shows the larger one, and of a
    checkpoint's two values at the same time it refuses the second.
    """
    # Outboxes of earlier versions have no revisions.
    old = [(*metric, 0)[:4] for metric in json.loads(before)["metrics"]] if before else []
    known = {(name, step): (value, revision) for name, value, step, revision in old}
    metrics = {(name, step): value for name, value, step in item["metrics"]}
    metrics |= dict.fromkeys(known.keys() - metrics.keys(), math.nan)
    newest = 1 + max((metric[3] for metric in old), default=-1)

    def revision(name: str, value: float, step: int) -> int:
        was, number = known.get((name, step), (None, newest))
        return number if repr(was) == repr(value) else newest  # NaN is unequal to itself

    return {**item, "metrics": [(n, value, s, revision(n, value, s)) for (n, s), value in metrics.items()]}


def _began(item: Mapping[str, Any], now: int) -> int:
    began = item.get("began")
    return int(began * 1000) if began else now


class Outbox:
    """A small sqlite file, which several processes may use. `tracker` names the MLflow that the items are for."""

    def __init__(self, path: Path, tracker: str) -> None:
        self.path = path
        self.tracker = tracker
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as database:
            database.executescript(_SCHEMA)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self.path, timeout=60)
        try:
            with database:
                yield database
        finally:
            database.close()

    def want(self, items: Mapping[str, Mapping[str, Any]]) -> None:
        """Notes what MLflow should show. An item that is as before is not sent again."""
        now = int(time.time() * 1000)
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            before = dict(database.execute("SELECT key, wanted FROM item WHERE tracker = ?", (self.tracker,)))
            revised = ((key, _revised(item, before.get(key))) for key, item in items.items())
            rows = [(self.tracker, key, _began(item, now), json.dumps(item, sort_keys=True)) for key, item in revised]
            database.executemany(
                "INSERT INTO item (tracker, key, created, wanted) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE "
                "SET refused = CASE WHEN wanted = excluded.wanted THEN refused END, wanted = excluded.wanted",
                rows,
            )

    def pending(self) -> list[str]:
        """Keys of what is still to be sent, in the order in which it was first wanted."""
        with self._open() as database:
            found = database.execute(
                "SELECT key FROM item WHERE tracker = ? AND wanted != sent AND refused IS NULL ORDER BY rowid",
                (self.tracker,),
            )
            return [key for (key,) in found]

    def item(self, key: str) -> Pending | None:
        """What to send for `key`; None where another process has sent it meanwhile."""
        with self._open() as database:
            found = database.execute(
                "SELECT created, wanted, sent, run FROM item WHERE tracker = ? AND key = ? AND wanted != sent",
                (self.tracker, key),
            ).fetchone()
        if found is None:
            return None
        created, wanted, sent, run = found
        return Pending(key, created, json.loads(wanted), json.loads(sent), run)

    def found(self, item: Pending) -> None:
        """Notes the run, and the time of its creation, where MLflow knew it."""
        self._set("run = ?, created = ?", (item.run, item.created), item.key)

    def arrived(self, item: Pending) -> None:
        self._set("sent = ?", (json.dumps(item.wanted, sort_keys=True),), item.key)

    def refuse(self, key: str, reason: str) -> None:
        """Gives up an item that MLflow will not take, until it changes."""
        self._set("refused = ?", (reason,), key)

    def refused(self) -> list[str]:
        with self._open() as database:
            found = database.execute("SELECT refused FROM item WHERE tracker = ? AND refused NOT NULL", (self.tracker,))
            return [reason for (reason,) in found]

    def forget(self) -> None:
        """MLflow's database is a new, empty one: everything is to be sent again."""
        with self._open() as database:
            database.execute(
                "UPDATE item SET sent = '{}', run = NULL, refused = NULL WHERE tracker = ?", (self.tracker,)
            )

    def fact(self, name: str) -> str | None:
        with self._open() as database:
            found = database.execute("SELECT value FROM fact WHERE tracker = ? AND name = ?", (self.tracker, name))
            return next((value for (value,) in found), None)

    def note(self, name: str, value: str) -> None:
        with self._open() as database:
            database.execute("INSERT OR REPLACE INTO fact VALUES (?, ?, ?)", (self.tracker, name, value))

    def _set(self, what: str, values: tuple[Any, ...], key: str) -> None:
        with self._open() as database:
            database.execute(f"UPDATE item SET {what} WHERE tracker = ? AND key = ?", (*values, self.tracker, key))
