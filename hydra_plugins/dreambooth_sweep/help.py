"""`${axes_help:...}` in conf/hydra/help/sweep.yaml: the help on the axes, from their registry. Nothing heavy here."""

from omegaconf import DictConfig, OmegaConf


def axes_help(which: str, *, _root_: DictConfig) -> str:
    """`cell`: a line for each axis of a cell. `run`: the names of the settings of the whole sweep."""
    from sweeper.plan.axes import RUN, help_table

    return help_table(_root_) if which == "cell" else "  ".join(RUN)


OmegaConf.register_new_resolver("axes_help", axes_help, replace=True)
