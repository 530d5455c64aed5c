"""The default as a trial of its own: the config as it is without the search, so that the gain over it can be read off.

It is the first trial, or comes after the points of `tune.start_from`, and one of `tune.trials`. No scheduler stops it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trainer.errors import UserError
from trainer.tuning.samplers.choice import Choice
from trainer.tuning.spaces.placing import known_values
from trainer.tuning.spaces.space import Space

DEFAULT = "default"  # the attribute of that trial in the storage
WHOLE = ("cmaes", "nsga2")  # searches that a trial would mislead which has no place in the space


@dataclass(frozen=True)
class Start:
    """The points that a study begins with. default: the index of the one that is the default; None if there is none.

    words: what a person should know of it, in a line.
    """

    points: list[dict[str, Any]] = field(default_factory=list)
    default: int | None = None
    words: str = ""


def start(space: Space, base: Mapping[str, Any], given: Sequence[Any], search: Choice, trials: int | None) -> Start:
    """given: `tune.start_from`. trials: how many there are to be, if that is bounded."""
    points = [dict(point) for point in given]
    values, outside, unset = within(space, base)
    told = ", ".join(outside)
    if why := f"{', '.join(unset)} has no value" if unset else _refused(space, values, outside, search, trials):
        return Start(points, None, f"no trial of the default: {why}")
    if not outside:
        same = [i for i, point in enumerate(points) if _same(space, point, values)]
        if same:
            return Start(points, same[0], f"trial {same[0]} of tune.start_from is the default")
    if trials is not None and trials <= len(points):
        return Start(points, None, "no trial of the default: tune.start_from has a point for each trial")
    words = f"trial {len(points)} is the default, the config as it is"
    return Start([*points, values], len(points), f"{words}; outside of the space: {told}" if outside else words)


def gone_on_with(begun: Start, trials: Sequence[Any]) -> Start:
    """The same for a study that has trials already: one that a version without defaults began gets none. trials: its own."""
    count = sum("parent" not in trial.user_attrs for trial in trials)
    if begun.default is None or count <= begun.default or any(DEFAULT in trial.user_attrs for trial in trials):
        return begun
    return replace(begun, default=None, words="")


def _refused(
    space: Space, values: Mapping[str, Any], outside: Sequence[str], search: Choice, trials: int | None
) -> str:
    """Why the default is not tried; empty if it is."""
    if not space.feasible(values):
        return "it breaks tune.constraints"
    if not outside:
        return ""
    if search.name in WHOLE:
        return f"search={search.name} learns from points of the space alone, and outside of it is {', '.join(outside)}"
    count = space.points(trials + 1) if search.make is None and trials is not None else None
    if count is not None and trials is not None and trials <= count:
        return f"every trial is a point of the grid, and outside of it is {', '.join(outside)}"
    return ""


def within(space: Space, base: Mapping[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    """What a config says of a space's parameters: the values that lie in it, in words the others, which the config keeps, and
    the keys that have none."""
    known = known_values(base)
    point: dict[str, Any] = {}
    outside: list[str] = []
    unset: list[str] = []
    for parameter in space.parameters:
        key = parameter.key
        if not space.exists(parameter, point):
            continue
        if key not in known or known[key] == "???":
            unset.append(key)
            continue
        try:
            parameter.encode(known[key])
        except UserError:
            outside.append(f"{key}={'null' if known[key] is None else known[key]}")
        else:
            point[key] = known[key]
    return point, outside, unset


def is_whole(space: Space, values: Mapping[str, Any]) -> bool:
    """Whether a point has a value of every parameter that exists in it."""
    return all(p.key in values for p in space.parameters if space.exists(p, values))


def of_the_grid(space: Space, values: dict[str, Any], points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The point of a grid that is the same as another; that one, if none is."""
    return next((point for point in points if _same(space, point, values)), values)


def _same(space: Space, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    stored: Callable[[Mapping[str, Any]], dict[str, Any]] = space.stored
    return set(one) == set(other) and stored(one) == stored(other)
