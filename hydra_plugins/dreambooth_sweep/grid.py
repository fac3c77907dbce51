"""`hydra/sweeper=grid`: hands what was typed after -m to the sweeper. Imported at every start: nothing heavy here."""

from dataclasses import dataclass, field
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


@dataclass
class GridConf:
    _target_: str = "hydra_plugins.dreambooth_sweep.grid.GridSweeper"
    params: dict[str, Any] = field(default_factory=dict)  # axes of an experiment file; what is typed wins


ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=GridConf, provider="dreambooth_sweep")


class GridSweeper(Sweeper):
    loader: ConfigLoader
    composed: DictConfig  # the configuration with Hydra's own part

    def __init__(self, params: DictConfig) -> None:
        self.params = cast(dict[str, Any], OmegaConf.to_container(params))

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.loader = hydra_context.config_loader
        self.composed = config

    def sweep(self, arguments: list[str]) -> Any:
        from sweeper.main import run_grid

        return run_grid(self.composed, self.loader, self.typed(arguments))

    def typed(self, arguments: list[str]) -> list[str]:
        """The axes of the experiment's file, then what was typed."""
        return [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
