"""How two parameters together decide a metric: what the page's contours are filled with.

Trials are known by their rank, and of those in one cell the best counts. Between them is an estimate by inverse distances,
which is exact at each and the mean far from all: no smoothing takes the best region away from the best trial. The best of
the shades is kept for the region around that trial; others that are as good have the next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.tuning.record import StudyRecord, Trial
from trainer.tuning.reports.importance import scaled, text
from trainer.tuning.reports.measures import Measure, curve, value

CELLS = 56  # along an axis of numbers; of a choice there is one for each level
MARGIN = 0.03  # of an axis, beyond the lowest and the highest value
SHADES, FAINT = "012345678", "abcdefghi"  # worst to best; the same where few trials are near
NONE = "."
THIN = 0.35  # below this sum of kernels few trials are near
PAIRS = ((0, 1), (0, 2), (1, 2))
LEAST, LEAST_BOTH = 5, 3  # trials, and those that have both parameters


def contours(
    record: StudyRecord, measure: Measure, parameters: Sequence[Mapping[str, Any]], shares: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Of the three most important parameters that vary, each two: {x, y: their indices, rows: a text for each row of
    cells, the lowest first}. shares: how important each is, by its key."""
    told = standing(record, measure)
    order = sorted(range(len(parameters)), key=lambda i: -shares.get(parameters[i]["key"], 0.0))
    top = [i for i in order if _varies(record, parameters[i]["key"])][:3]
    if len(told) < LEAST:
        return []
    found = []
    for x, y in ((top[a], top[b]) for a, b in PAIRS if b < len(top)):
        both = [t for t in told if parameters[x]["key"] in t.values and parameters[y]["key"] in t.values]
        if len(both) >= LEAST_BOTH:
            places = [tuple(place(parameters[i], t.values[parameters[i]["key"]]) for i in (x, y)) for t in both]
            levels = [len(parameters[i]["levels"]) if parameters[i]["levels"] else None for i in (x, y)]
            found.append({"x": x, "y": y, "rows": shades(places, levels)})
    return found


def standing(record: StudyRecord, measure: Measure) -> list[Trial]:
    """Trials with a value, the best first: completed ones, then those that came further before they were stopped, then by
    value. The study's best is first in its own metric, whatever earlier studies have seen."""
    sign = -1.0 if measure.goal == "max" else 1.0
    best = record.best() if measure.name == record.metrics[0] else None

    def rank(trial: Trial) -> tuple[Any, ...]:
        points = curve(record, trial, measure.name)
        whole = trial.state == "completed"
        far = 0.0 if whole or not points else -points[-1][0]
        return (trial is not best, not whole, far, sign * (value(record, trial, measure.name) or 0.0), trial.number)

    return sorted((t for t in record.trials if t.feasible and _is_finite(value(record, t, measure.name))), key=rank)


def _is_finite(number: float | None) -> bool:
    return number is not None and math.isfinite(number)


def _varies(record: StudyRecord, key: str) -> bool:
    return len({repr(trial.values[key]) for trial in record.trials if key in trial.values}) > 1


def place(parameter: Mapping[str, Any], item: Any) -> float:
    """Where a parameter's value lies on its axis, from 0 to 1."""
    if parameter["levels"]:
        return float((parameter["levels"].index(text(item)) + 0.5) / len(parameter["levels"]))
    low, high = (scaled(float(parameter[end]), parameter["scale"]) for end in ("low", "high"))
    margin = MARGIN * (high - low)
    return float((scaled(float(item), parameter["scale"]) - low + margin) / (high - low + 2 * margin))


def shades(places: Sequence[tuple[float, ...]], levels: Sequence[int | None]) -> list[str]:
    """A shade for each cell, as rows, the lowest first. places: of trials, the best first, in the unit square; levels: how
    many an axis of a choice has, between which nothing is estimated."""
    counts = [level or CELLS for level in levels]
    best: dict[tuple[int, ...], int] = {}
    for number, at in enumerate(places):
        cell = tuple(min(count - 1, max(0, int(share * count))) for share, count in zip(at, counts, strict=True))
        best.setdefault(cell, number)
    ranks = 1.0 - np.array(list(best.values()), dtype=float) / max(1, len(places) - 1)
    near = max(0.055, min(0.16, 0.42 * len(places) ** -0.25))
    columns, rows = np.meshgrid(np.arange(counts[0]), np.arange(counts[1]))
    tried = np.array(list(best), dtype=float)
    apart = sum(_apart(at, tried[:, i], counts[i], levels[i]) for i, at in enumerate((columns, rows)))
    kernel = np.exp(-apart / (2 * near**2))
    weights, weight, rest = kernel / (apart + 1e-9), kernel.sum(axis=-1), math.exp(-0.5) / near**2
    estimate = (weights @ ranks + rest * ranks.mean()) / (weights.sum(axis=-1) + rest)
    shade = np.clip(np.round(estimate * 9 - 0.5), 0, 8).astype(int)
    shade[(shade == 8) & ~_around((int(tried[0, 0]), int(tried[0, 1])), shade == 8, levels)] = 7
    signs = np.where(weight < THIN, np.array(list(FAINT))[shade], np.array(list(SHADES))[shade])
    return ["".join(row) for row in np.where(weight < 1e-9, NONE, signs)]


def _around(start: tuple[int, int], good: NDArray[Any], levels: Sequence[int | None]) -> NDArray[Any]:
    """Which good cells hang together with one; levels have no neighbours."""
    found, edge = np.zeros_like(good), [start]
    steps = [(dx, dy) for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)) if not levels[0 if dx else 1]]
    while edge:
        x, y = edge.pop()
        if 0 <= y < good.shape[0] and 0 <= x < good.shape[1] and good[y, x] and not found[y, x]:
            found[y, x] = True
            edge += [(x + dx, y + dy) for dx, dy in steps]
    return found


def _apart(cells: NDArray[Any], tried: NDArray[Any], count: int, levels: int | None) -> NDArray[Any]:
    """Squared distances, along one axis, of all cells to those that were tried; of levels, far if they are two."""
    steps = cells[..., None] - tried
    return np.where(steps != 0, 81.0, 0.0) if levels else (steps / count) ** 2
