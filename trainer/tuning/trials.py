"""From a point of the space to a job's config."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trainer.config import schema
from trainer.config.compose import compose
from trainer.config.conf_files import added
from trainer.config.instantiate import build
from trainer.job import code_path
from trainer.tuning.spaces.space import Space, placed

Recompose = Callable[[Mapping[str, str]], dict[str, Any]]


def recomposer(overrides: Sequence[str], config_dir: str | None = None) -> Recompose:
    """Composes the jobs' config with other choices of groups."""
    code_path.last(*added([*overrides, "--config-dir", config_dir or ""]))

    def recompose(chosen: Mapping[str, str]) -> dict[str, Any]:
        kept = [o for o in overrides if o.partition("=")[0] not in chosen]
        return compose([*kept, *(f"{group}={choice}" for group, choice in chosen.items())], config_dir=config_dir)

    return recompose


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
        config = placed(base, {key: v for key, v in values.items() if key not in self._groups})
        return schema.check(config, known=self._base)


def workers_of(config: Mapping[str, Any]) -> int:
    """Workers that a config's job has. Raises UserError if its launcher can't have them."""
    return build(config["launcher"], "launcher").world_size() or 1


def workers_within(space: Space, base: Mapping[str, Any]) -> tuple[int, int]:
    """The fewest and the most workers that a trial of a space has, as far as its bounds on `launcher` tell."""
    few: list[int] = []
    many: list[int] = []
    for parameter in (p for p in space.parameters if p.key.startswith("launcher.")):
        ends = parameter.choices if parameter.kind == "choice" else (parameter.low, parameter.high)
        counts = [workers_of(placed(base, {parameter.key: end})) for end in ends]
        few.append(min(counts))
        many.append(max(counts))
    usual = workers_of(base)
    return min(few, default=usual), max(many, default=usual)
