"""Which cases `make test` runs, and which only a suite of its own."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def some_of(cases: Iterable[Any], kept: Collection[Any]) -> list[Any]:
    """All cases to parametrize a test with; those that are not `kept` run with `make test-options`."""
    return [case if case in kept else pytest.param(case, marks=pytest.mark.options) for case in cases]
