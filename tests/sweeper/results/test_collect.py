import itertools
from dataclasses import replace

import numpy as np
import pytest

from evaluation.scorecard import Baselines, Scorecard
from sweeper.plan.compile import compile_plan
from sweeper.plan.grid import Grid
from sweeper.results.collect import collect, params_of
from sweeper.results.ordering import ranked
from sweeper.store import Store
from tests.evaluation.synthetic import baselines, scorecard
from trainers.spec import SampleSpec


def test_a_training_tells_what_sets_it_apart_and_what_all_of_its_cells_share(make_cell):
    shared = {"lr": 2e-6, "trainer.ema_decay": 0.9, "evaluation.images_per_prompt": 1}
    cells = [
        replace(make_cell(step=step, scheduler=scheduler), params=tuple((shared | own).items()))
        for step, scheduler, own in (
            (100, "pndm", {"steps": 100, "scheduler": "pndm", "evaluation.seed": 0}),
            (200, "ddim", {"steps": 200, "scheduler": "ddim", "evaluation.seed": 1}),
        )
    ]
    (training,) = compile_plan(cells).trainings
    assert params_of(training) == shared


class Scored(Store):
    """A store of scorecards by what a cell says, not by how it is called."""

    def __init__(self, root, cards):
        super().__init__(root)
        self.cards = cards

    def scorecard(self, spec, point):
        values = self.cards[spec.lr, spec.prior is not None, point.sample.scheduler, point.step]
        return Scorecard.from_json(values)

    def baseline_values(self, spec, point):
        return Baselines.from_json(baselines(prompts=4))

    def missing(self, training):
        return ()


def collected(cells, cards, tmp_path, axes):
    cells = [replace(cell, params=tuple(params_of_cell(cell).items())) for cell in cells]
    grid = Grid(tuple(cells), axes)
    about = {"name": "a", "folder": tmp_path, "command": "", "plan": {}}
    return collect(grid, compile_plan(cells), Scored(tmp_path, cards), {}, **about)


def params_of_cell(cell):
    prior = cell.train.prior is not None
    return {"lr": cell.train.lr, "steps": cell.step, "prior_preservation": prior, "scheduler": cell.sample.scheduler}


@pytest.mark.parametrize("seed", range(6))
def test_names_order_and_hashes_never_decide(seed, make_cell, tmp_path, monkeypatch):
    """The same sweep with other signatures, its cells and axes in another order, one scheduler called as the other."""
    monkeypatch.setattr("sweeper.results.collect.instance_images", lambda _: ())
    rng = np.random.default_rng(seed)
    axes = {"lr": (1e-6, 2e-6), "steps": (100, 200, 300), "prior_preservation": (True, False)}
    axes |= {"scheduler": ("pndm", "ddim")}
    cells = [
        make_cell(lr=lr, step=step, prior=prior, scheduler=way)
        for lr, step, prior, way in itertools.product(*axes.values())
    ]
    keys = [tuple(params_of_cell(cell)[name] for name in axes) for cell in cells]
    levels = rng.choice([0.4, 0.5, 0.6], size=(len(cells), 2))
    cards = {
        (lr, prior, way, step): scorecard(s, t, rng, 0.05, prompts=4) | {"metrics": {}, "images": {}}
        for (lr, step, prior, way), (s, t) in zip(keys, levels, strict=True)
    }
    one = collected(cells, cards, tmp_path, axes)
    swapped = {"pndm": "ddim", "ddim": "pndm"}
    others = []
    subject = replace(cells[0].train.subject, fingerprint=str(rng.random()))  # changes every signature
    for i in rng.permutation(len(cells)):
        others.append(
            replace(
                cells[i],
                train=replace(cells[i].train, subject=subject),
                sample=SampleSpec(swapped[cells[i].sample.scheduler]),
            )
        )
    again = {(lr, prior, swapped[way], step): card for (lr, prior, way, step), card in cards.items()}
    other = collected(others, again, tmp_path, dict(reversed(axes.items())))
    ours, theirs = one.rows[one.best].params, other.rows[other.best].params
    assert ours | {"scheduler": swapped[ours["scheduler"]]} == theirs
    assert one.sweet_spot.verdict == other.sweet_spot.verdict
    for results in (one, other):
        chosen = results.rows[results.best].metrics["expected_score"]
        assert chosen == max(row.metrics.get("expected_score", 0) for row in results.rows)
        assert ranked(results)[0] == results.best
