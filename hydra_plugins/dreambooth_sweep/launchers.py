"""`hydra/launcher=local` and its siblings: the engine that a sweep runs on. Imported at every start: nothing heavy.

The names are those of sweeper/engine/engines.py, where the engines are.
"""

from dataclasses import dataclass

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore

NAMES = ("local", "inline")


@dataclass
class EngineConf:
    _target_: str = "hydra_plugins.dreambooth_sweep.launchers.EngineLauncher"


for name in NAMES:
    ConfigStore.instance().store(group="hydra/launcher", name=name, node=EngineConf, provider="dreambooth_sweep")


class EngineLauncher(BasicLauncher):
    """Our sweepers run a whole plan on the engine of this name. Under a sweeper of Hydra's it runs each job in turn."""
