"""`hydra/launcher=local`: leases this machine's devices to trials. Imported at every start: nothing heavy here."""

from dataclasses import dataclass

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore


@dataclass
class LocalConf:
    _target_: str = "hydra_plugins.dreambooth_sweep.local.LocalLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="local", node=LocalConf, provider="dreambooth_sweep")


class LocalLauncher(BasicLauncher):
    """Under another sweeper it runs each job in turn; our own asks it for `engine` and places a whole plan."""

    engine = "local"
