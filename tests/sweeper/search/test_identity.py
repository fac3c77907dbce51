"""The identity of a search: the same command goes on with the same search, also one that 6044e38 began."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from sweeper.search.run import identity
from sweeper.search.study import SearchSettings
from sweeper.settings import Settings
from trainers.spec import signature

SEARCH = SearchSettings("tpe", "none", "score", 4, 0, None)
SETTINGS = Settings(Path("out"), None, True, 1, 1, "all", None, None, "", "local")


def identified(*cells):
    return identity(
        SimpleNamespace(dearest=SimpleNamespace(cells=cells), axes=("lr=[1e-6, 1e-5] log",)), SEARCH, SETTINGS
    )


def test_a_search_that_uses_the_average_has_the_identity_of_before(make_cell):
    cells = [make_cell(step=200), make_cell(step=400, eval_every=100)]
    parts = sorted(signature(c.train, c.step, c.sample, c.evaluation, c.eval_every) for c in cells)
    lasting = {"sampler": "tpe", "pruner": "none", "objective": "score", "trials": 0, "seed": 0, "storage": None}
    assert identified(*cells) == signature(parts, ["lr=[1e-6, 1e-5] log"], lasting, None)


def test_a_search_without_the_average_is_another(make_cell):
    cell = make_cell()
    assert identified(cell) != identified(replace(cell, use_ema=False))
    assert identified(cell) != identified(cell, replace(cell, use_ema=False))
