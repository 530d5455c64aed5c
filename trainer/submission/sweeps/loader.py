"""The configs of a sweep's jobs, which are alike but for some values.

Hydra composes each job's from its files, twice: its sweeper to see whether that can be done, the launcher to run it. Here what
the choices give is composed once, and values are set in a copy of it, as Hydra sets them.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import open_dict

VALUE = re.compile(r"[+~]{0,2}(?!hydra\.)[\w-]+\.[\w.-]+(=|$)")  # of a key in a group, added, set or deleted
CHOICE = re.compile(r"\w+=[\w.-]+$")


class SweepLoader:
    """Hydra's config loader, but for `load_sweep_config`, which gives configs without `hydra`."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._alike: dict[tuple[str, ...], Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def load_sweep_config(self, master_config: Any, sweep_overrides: Sequence[str]) -> Any:
        """Raises what Hydra raises."""
        values = [text for text in sweep_overrides if VALUE.match(text)]
        others = tuple(text for text in sweep_overrides if not VALUE.match(text))
        if not all(map(CHOICE.match, others)):  # their order may count
            return self._compose(master_config, sweep_overrides)
        if others not in self._alike:
            self._alike[others] = self._compose(master_config, others)
        config = copy.deepcopy(self._alike[others])
        self._loader._apply_overrides_to_config(OverridesParser.create().parse_overrides(values), config)
        return config

    def _compose(self, master: Any, overrides: Sequence[str]) -> Any:
        config = self._loader.load_sweep_config(master, list(overrides))
        with open_dict(config):
            del config["hydra"]
        return config
