"""Configurations as points of a unit cube, and back. What a step is in the cube is a step in the parameter's own scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Scale = CategoricalDistribution | FloatDistribution | IntDistribution  # all that Optuna has
ABSENT = 0.5  # where a point without a parameter lies: the middle is nearest to all of its values


@dataclass(frozen=True)
class Axis:
    """One parameter. levels: how many values it has, 0 if any number; unordered: none lies between two others."""

    name: str
    distribution: Scale
    low: float
    high: float
    levels: int
    unordered: bool = False

    def number(self, value: Any) -> float:
        """Where a value lies, within 0 and 1 (its index if unordered), or nan where the parameter can't take it."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            index = next((i for i, choice in enumerate(d.choices) if choice is value or choice == value), None)
            if index is None:
                return math.nan
            return float(index) if self.unordered else (index + 0.5) / self.levels
        if value < d.low or value > d.high:
            return math.nan
        scaled = math.log(value) if d.log else float(value)
        return (scaled - self.low) / (self.high - self.low)

    def value(self, number: float) -> Any:
        """The value nearest to a place."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return d.choices[max(int(number), 0) if self.unordered else min(int(number * self.levels), self.levels - 1)]
        scaled = self.low + number * (self.high - self.low)
        plain = math.exp(scaled) if d.log else scaled
        if isinstance(d, IntDistribution):
            return min(max(d.low + round((plain - d.low) / d.step) * d.step, d.low), d.high)
        assert isinstance(d, FloatDistribution)
        if d.step is not None:
            plain = d.low + round((plain - d.low) / d.step) * d.step
        return min(max(plain, d.low), d.high)


def axis(name: str, d: BaseDistribution) -> Axis:
    """An axis for a distribution. Values of a grid own equal shares of it (of its logarithm); choices that are numbers
    in order are a grid, others are unordered."""
    if isinstance(d, CategoricalDistribution):
        numbers = [c for c in d.choices if isinstance(c, (int, float)) and not isinstance(c, bool)]
        ordered = len(numbers) == len(d.choices) and numbers in (sorted(numbers), sorted(numbers, reverse=True))
        return Axis(name, d, 0.0, float(len(d.choices)), len(d.choices), unordered=not ordered and len(d.choices) > 2)
    assert isinstance(d, (FloatDistribution, IntDistribution))
    if d.step is None:
        low, high, levels = d.low, d.high, 0
    else:
        low, high, levels = d.low - d.step / 2, d.high + d.step / 2, round((d.high - d.low) / d.step) + 1
    return Axis(name, d, math.log(low) if d.log else low, math.log(high) if d.log else high, levels)


class Encoding:
    """Points of a space as rows of numbers, a column per parameter, in the order of their names.

    A column is within 0 and 1, but for unordered choices, which are their index.
    """

    def __init__(self, space: Mapping[str, BaseDistribution]) -> None:
        self.axes = [axis(name, space[name]) for name in sorted(space)]
        self.unordered = np.array([a.unordered for a in self.axes], dtype=bool)
        self.levels = np.array([a.levels for a in self.axes])
        self.absent = np.where(self.unordered, -1.0, ABSENT)  # where a row lies that lacks a parameter

    @property
    def size(self) -> int:
        return len(self.axes)

    def row(self, config: Mapping[str, Any]) -> list[float]:
        """A configuration's row; nan where a value is not in this space."""
        pairs = zip(self.axes, self.absent, strict=True)
        return [a.number(config[a.name]) if a.name in config else float(place) for a, place in pairs]

    def config(self, row: np.ndarray) -> dict[str, Any]:
        """A row's configuration; where a choice is absent, its first."""
        return {a.name: a.value(float(x)) for a, x in zip(self.axes, row, strict=True)}

    def snapped(self, rows: np.ndarray) -> np.ndarray:
        """Rows (n, parameters) moved to where their values truly are."""
        rows = rows.copy()
        for i, a in enumerate(self.axes):
            if a.unordered:
                continue
            column = np.clip(rows[:, i], 0.0, 1.0)
            if a.levels and getattr(a.distribution, "log", False):
                column = _on_log_grid(a, column)
            elif a.levels:
                column = (np.minimum(np.floor(column * a.levels), a.levels - 1) + 0.5) / a.levels
            rows[:, i] = column
        return rows

    def stepped(self, i: int, column: np.ndarray, step: int) -> np.ndarray:
        """Values of a parameter with ordered levels so many levels further."""
        a = self.axes[i]
        if getattr(a.distribution, "log", False):
            return _on_log_grid(a, column, step)
        return np.clip(column + step / a.levels, 0.5 / a.levels, 1 - 0.5 / a.levels)

    def spread(self, cube: np.ndarray) -> np.ndarray:
        """Points of the unit cube (n, parameters) as rows: unordered columns become indices."""
        rows = cube.copy()
        for i in np.flatnonzero(self.unordered):
            rows[:, i] = np.minimum(np.floor(cube[:, i] * self.levels[i]), self.levels[i] - 1)
        return self.snapped(rows)


def _on_log_grid(a: Axis, column: np.ndarray, step: int = 0) -> np.ndarray:
    d = a.distribution
    assert isinstance(d, IntDistribution)  # Optuna has no floats with both a log scale and a step
    plain = np.exp(a.low + column * (a.high - a.low))
    whole = np.clip(d.low + (np.round((plain - d.low) / d.step) + step) * d.step, d.low, d.high)
    return np.asarray((np.log(whole) - a.low) / (a.high - a.low))
