"""`headway train -m hydra/sweeper=headway …`: the engine of `headway tune`, as a sweeper of Hydra's."""

from __future__ import annotations

from typing import Any, ClassVar

from hydra.plugins.sweeper import Sweeper as Base
from hydra.types import HydraContext, TaskFunction

from trainer.config.hydra_plugins import register as plug
from trainer.tuning.options import NODES, StudySchema


def register(codes: list[int]) -> None:
    """Makes the sweeper known to Hydra. `codes` gets the exit code of its study: Hydra drops what a sweeper returns."""
    Sweeper.codes = codes
    plug(Sweeper, "Sweeper")


class Sweeper(Base):
    """The nodes tune, search, scheduler, study and ray are those of `headway tune`, under hydra.sweeper."""

    codes: ClassVar[list[int]] = []

    def __init__(self, **nodes: Any) -> None:
        self._nodes = nodes
        self._context: HydraContext | None = None
        self._config: Any = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: Any) -> None:
        self._context, self._config = hydra_context, config

    def sweep(self, arguments: list[str]) -> None:
        """Drives one study; the arguments that span values are its space."""
        from omegaconf import open_dict

        from trainer.config.compose import plain
        from trainer.tuning.planning import begin
        from trainer.tuning.spaces.grammar import split

        assert self._context is not None
        fixed, spanned = split(arguments)
        groups = [f"{p.key}={p.choices[0]}" for p in spanned if "." not in p.key]
        composed = self._context.config_loader.load_sweep_config(self._config, [*fixed, *groups])
        overrides = [text for text in fixed if "=" in text]
        with open_dict(composed):
            del composed["hydra"]
        config = plain(composed, overrides, space=True)
        self.codes.append(begin({**config, **self._options()}, spanned, overrides))

    def _options(self) -> dict[str, Any]:
        """The nodes, of the schema's types. Raises what OmegaConf does for a value of another."""
        from omegaconf import OmegaConf

        schema = OmegaConf.structured(StudySchema)
        nodes = {noun: OmegaConf.merge(schema[noun], self._nodes[noun]) for noun in NODES}
        return {noun: OmegaConf.to_container(node, resolve=True) for noun, node in nodes.items()}
