"""Another point near a point, as population-based training explores (Jaderberg and others, 2017, arXiv 1711.09846)."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from trainer.tuning.spaces.parameter import Parameter
from trainer.tuning.spaces.space import Space

FACTORS = (0.8, 1.25)
TRIES = 100  # points until one keeps the constraints and is another


def perturbed(space: Space, values: Mapping[str, Any], resample: float, rng: Random) -> dict[str, Any]:
    """A point near `values`, config values by key: each is 0.8 or 1.25 times as much, within its bounds, or, with the chance
    `resample`, drawn anew; of choices it is the one before or after.

    A parameter that exists only now is drawn. The same point where no other one keeps the constraints.
    """
    for _ in range(TRIES):
        point: dict[str, Any] = {}
        for parameter in space.parameters:
            if space.exists(parameter, point):
                key = parameter.key
                anew = key not in values or rng.random() < resample
                point[key] = parameter.random(rng) if anew else _near(parameter, values[key], rng)
        if space.feasible(point) and point != values:
            return point
    return dict(values)


def _near(parameter: Parameter, value: Any, rng: Random) -> Any:
    up = rng.random() < 0.5
    if parameter.count is not None:  # choices, whole numbers, steps: to the next one at least
        index, last = _index(parameter, value), parameter.count - 1
        if parameter.kind == "choice":
            return parameter.at(min(max(index + (1 if up else -1), 0), last))
        assert parameter.low is not None
        moved = round((value * FACTORS[up] - parameter.low) / (parameter.step or 1))
        return parameter.at(min(max(moved if moved != index else index + (1 if up else -1), 0), last))
    assert parameter.low is not None
    assert parameter.high is not None
    if parameter.scale == "reverse_log":
        moved = 1 - (1 - value) * FACTORS[up]
    elif value == 0:
        return parameter.random(rng)  # no factor leads away from there
    else:
        moved = value * FACTORS[up]
    return min(max(moved, float(parameter.low)), float(parameter.high))


def _index(parameter: Parameter, value: Any) -> int:
    if parameter.kind != "choice":
        return round((value - parameter.low) / (parameter.step or 1))
    known = [parameter.encode(choice) for choice in parameter.choices]
    return known.index(parameter.encode(value))
