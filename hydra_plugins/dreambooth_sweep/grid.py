"""`hydra/sweeper=grid`: hands what was typed after -m to the sweeper. Imported at every start: nothing heavy here."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


@dataclass
class GridConf:
    _target_: str = "hydra_plugins.dreambooth_sweep.grid.GridSweeper"
    params: dict[str, Any] = field(default_factory=dict)  # axes of an experiment file; what is typed wins


ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=GridConf, provider="dreambooth_sweep")


class GridSweeper(Sweeper):
    def __init__(self, params: DictConfig) -> None:
        self.params = OmegaConf.to_container(params)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config_loader, self.config = hydra_context.config_loader, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from sweeper.main import run_grid

        return run_grid(self.config, self.config_loader, self.typed(arguments), self.launcher)

    def typed(self, arguments: list[str]) -> list[str]:
        return [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
