"""Which jobs of a folder are listed, in which order, and with which columns: `headway ls --where --sort --columns`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.config.overrides.dotted import settings
from trainer.errors import UserError, did_you_mean

_WHERE = re.compile(r"\s*([\w./@:-]+?)\s*(!=|<=|>=|==|=|<|>)\s*(.*?)\s*")
_HOLDS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}


@dataclass(frozen=True)
class Selection:
    """where: expressions such as `state=Failed`, `algorithm.lr<0.1`, all of which hold. sort: a key; `-KEY` has the largest
    first. columns: keys. A key is a field of the list, a config key or a metric, of which the best value counts."""

    where: Sequence[str] = ()
    sort: str | None = None
    columns: Sequence[str] = ()


def chosen(jobs: Sequence[Mapping[str, Any]], selection: Selection) -> list[int]:
    """The positions of the jobs that are listed, in order. jobs: of each what `facts` gives. Raises UserError for an expression
    that is none, and for a key that no job has."""
    kept = list(range(len(jobs)))
    for text in selection.where:
        key, holds = _expression(text)
        _check(key, jobs, "--where")
        kept = [i for i in kept if holds(jobs[i].get(key))]
    if selection.sort is not None:
        key = selection.sort.lstrip("-")
        _check(key, jobs, "--sort")
        there = [i for i in kept if _is_there(jobs[i].get(key))]
        there.sort(key=lambda i: _order(jobs[i][key]), reverse=selection.sort.startswith("-"))
        kept = [*there, *(i for i in kept if not _is_there(jobs[i].get(key)))]
    for key in selection.columns:
        _check(key, jobs, "--columns")
    return kept


def cell(value: Any) -> str:
    """A value as a column shows it."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def facts(fields: Mapping[str, Any], config: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """All that is known of a job by its key: the fields of the list, the config's leaves, and each metric's best value."""
    best = {name: of["best"]["value"] for name, of in metrics.items()}
    return {**dict(settings(config)), **best, **fields}


def _expression(text: str) -> tuple[str, Callable[[Any], bool]]:
    found = _WHERE.fullmatch(text)
    if not found:
        raise UserError(f"--where {text!r}: write KEY=VALUE, or another of != < > <= >=, such as 'algorithm.lr<0.1'")
    key, operator, given = found.groups()
    compare = _HOLDS[operator]
    wanted = _number(given)
    if wanted is None and operator not in ("=", "==", "!="):
        raise UserError(f"--where {text!r}: {given!r} is not a number to compare with")

    def holds(value: Any) -> bool:
        if not _is_there(value):
            return operator == "!=" or (given in ("null", "") and operator in ("=", "=="))
        mine = _number(value)
        if wanted is not None and mine is not None:
            return compare(mine, wanted)
        return operator in ("=", "==", "!=") and compare(str(value).lower(), given.strip("'\"").lower())

    return key, holds


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _is_there(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _order(value: Any) -> tuple[int, float, str]:
    number = _number(value)
    return (1, 0.0, str(value)) if number is None else (0, number, "")


def _check(key: str, jobs: Sequence[Mapping[str, Any]], option: str) -> None:
    known = {name for job in jobs for name in job}
    if known and key not in known:
        raise UserError(
            f"{option}: no job here has {key!r}; {did_you_mean(key, known, ['state, steps, a config key or a metric'])}"
        )
