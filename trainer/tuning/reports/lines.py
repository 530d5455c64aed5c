"""Curves as they are drawn: a trial that went on from another's state as one line with its ancestors', in few points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

from trainer.tuning.curves import Point
from trainer.tuning.record import StudyRecord, Trial
from trainer.tuning.reports.measures import curve

Item = TypeVar("Item")


def joined(record: StudyRecord, trial: Trial, name: str, trials: Mapping[int, Trial]) -> tuple[list[Point], int]:
    """A metric's curve since a trial's first ancestor began, up to where each was left, and how many points of it are the
    ancestors'. trials: all of them, by number."""
    points, _ = _life(record, trial, name, trials)
    return points, len(points) - len(_finite(curve(record, trial, name)))


def _life(record: StudyRecord, trial: Trial, name: str, trials: Mapping[int, Trial]) -> tuple[list[Point], float]:
    """The points, and the resource at which the trial itself began: its clock starts anew where seconds are counted."""
    own = _finite(curve(record, trial, name))
    parent = trials.get(trial.parent) if trial.parent is not None and trial.parent < trial.number else None
    if parent is None or trial.branch is None:
        return own, 0.0
    before, start = _life(record, parent, name, trials)
    branch = trial.branch + start
    since = branch if record.unit == "seconds" else 0.0
    kept = [point for point in before if point[0] <= branch]
    return [*kept, *((resource + since, seconds, told) for resource, seconds, told in own)], since


def _finite(points: Sequence[Point]) -> list[Point]:
    return [point for point in points if math.isfinite(point[0])]


def thinned(points: Sequence[Item], most: int) -> list[Item]:
    """At most so many points of a curve, evenly over it, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]
