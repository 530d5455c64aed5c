"""From a point of the space to a job's config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trainer import config as schema
from trainer.tuning.space import placed

Recompose = Callable[[Mapping[str, str]], Mapping[str, Any]]


class Configs:
    """groups: config groups that the space chooses from. recompose: the base config with other choices of them."""

    def __init__(self, base: Mapping[str, Any], groups: frozenset[str], recompose: Recompose) -> None:
        self._groups, self._recompose = groups, recompose
        self._composed: dict[tuple[str, ...], Mapping[str, Any]] = {}
        self._base: Mapping[str, Any] = base

    def of(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The config of a trial, checked. Raises UserError if these values don't go together."""
        chosen = {group: str(values[group]) for group in sorted(self._groups) if group in values}
        key = tuple(chosen.values())
        if chosen and key not in self._composed:
            self._composed[key] = self._recompose(chosen)
        base = self._composed[key] if chosen else self._base
        return schema.check(placed(base, {key: v for key, v in values.items() if key not in self._groups}))
