"""In which settings jobs differ: what a sweep's table has columns for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.config.overrides.dotted import settings

MOST = 4  # columns
PLACES = ("job.name", "job.dir", "job.tags")


def varying(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The values, in the jobs' order, of the few keys in which their configs differ, under short names: `lr` for
    `algorithm.lr`, unless two would be called so. Empty text where a job has no such key."""
    leaves = [{key: _text(value) for key, value in settings(config)} for config in configs]
    keys = [key for key in dict.fromkeys(key for of in leaves for key in of) if key not in PLACES]
    found = [key for key in keys if len({of.get(key, "") for of in leaves}) > 1][:MOST]
    lasts = [key.rpartition(".")[2] for key in found]
    names = [last if lasts.count(last) == 1 else key for key, last in zip(found, lasts, strict=True)]
    return {name: [of.get(key, "") for of in leaves] for name, key in zip(names, found, strict=True)}


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
