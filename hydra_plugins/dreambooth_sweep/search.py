"""`hydra/sweeper=optuna`: a search instead of a grid. Imported at every start: nothing heavy here."""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from hydra_plugins.dreambooth_sweep.grid import GridConf, GridSweeper


@dataclass
class SearchConf(GridConf):
    _target_: str = "hydra_plugins.dreambooth_sweep.search.SearchSweeper"
    sampler: str = "tpe"  # tpe | nsga2 | gp | random | grid
    pruner: str = "none"  # none | halving | hyperband | median
    objective: str = "score"  # score | both: subject and prompt fidelity, with their Pareto front
    trials: int = 20  # trainings
    seed: int = 0  # of the sampler
    storage: str | None = None  # a database URL; default: a journal file in the sweep's folder


ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=SearchConf, provider="dreambooth_sweep")


class SearchSweeper(GridSweeper):
    def __init__(self, params: DictConfig, **settings: Any) -> None:
        super().__init__(params)
        self.settings = settings

    def sweep(self, arguments: list[str]) -> Any:
        from sweeper.search.run import run_search

        return run_search(self.composed, self.loader, self.typed(arguments), self.settings)
