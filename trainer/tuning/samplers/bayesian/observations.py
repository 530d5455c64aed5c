"""What a study's trials tell a sampler: which points, with what values, which are under way, which failed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from trainer.tuning.samplers.bayesian.encoding import Encoding

CONSTRAINTS = "constraints"  # the user attribute with a trial's constraints: numbers, > 0 where violated


@dataclass
class Observations:
    """values (n) at rows (n, parameters), less being better. constraints: (n, constraints), > 0 where violated; nan
    where unknown. pending and failed are rows. absent: whether a row, of those with values, lacks a parameter."""

    rows: np.ndarray
    values: np.ndarray
    constraints: np.ndarray
    pending: np.ndarray
    failed: np.ndarray
    absent: np.ndarray

    @property
    def taken(self) -> np.ndarray:
        return np.vstack([self.rows, self.pending, self.failed])

    def best_first(self) -> np.ndarray:
        """Indices: those that violate nothing, by value, then the others by how much they violate."""
        violation = np.nan_to_num(np.maximum(self.constraints, 0.0)).sum(1)
        return np.lexsort((self.values, violation))


def last_step(trial: FrozenTrial) -> tuple[int, float] | None:
    """The last intermediate value that is a number, and its step."""
    known = [(step, value) for step, value in trial.intermediate_values.items() if math.isfinite(value)]
    return max(known) if known else None


class Stopped:
    """What trials that were stopped early would have come to, by what complete ones did from the same step on."""

    def __init__(self, complete: Sequence[FrozenTrial], sign: float) -> None:
        self.complete, self.sign = complete, sign
        self.from_step: dict[int, tuple[float, float] | None] = {}

    def value(self, trial: FrozenTrial) -> float | None:
        """Its last value, and the median of what complete trials made good from that step to their end; no better than
        the best of these, as it was stopped for being worse. None if it has reported nothing."""
        last = last_step(trial)
        if last is None:
            return None
        step, value = last
        if step not in self.from_step:
            self.from_step[step] = self._made_good(step)
        known = self.from_step[step]
        value *= self.sign
        return value if known is None else max(value + known[0], known[1])

    def _made_good(self, step: int) -> tuple[float, float] | None:
        """The median difference between end and step, and the best end."""
        seen = [(t.values[0], t.intermediate_values[step]) for t in self.complete if step in t.intermediate_values]
        ends = np.array([pair for pair in seen if all(map(math.isfinite, pair))]) * self.sign
        return (float(np.median(ends[:, 0] - ends[:, 1])), float(ends[:, 0].min())) if len(ends) else None


def observe(
    trials: Sequence[FrozenTrial],
    encoding: Encoding,
    *,
    maximize: bool,
    constraints_of: Callable[[FrozenTrial], Sequence[float]] | None = None,
) -> Observations:
    """All of them but those outside the space. A value that is no number (nan, or infinite for the worse) is a failure."""
    sign = -1.0 if maximize else 1.0
    stopped = Stopped([t for t in trials if t.state == TrialState.COMPLETE], sign)
    rows: list[list[float]] = []
    values: list[float] = []
    limits: list[Sequence[float]] = []
    absent: list[list[bool]] = []
    pending: list[list[float]] = []
    failed: list[list[float]] = []
    for trial in trials:
        if not trial.params:
            continue
        row = encoding.row(trial.params)
        if any(map(math.isnan, row)):
            continue
        if trial.state in (TrialState.RUNNING, TrialState.WAITING):
            pending.append(row)
            continue
        value: float | None = math.nan
        if trial.state == TrialState.COMPLETE:
            value = sign * trial.values[0]
        elif trial.state == TrialState.PRUNED:
            value = stopped.value(trial)
        if value is None:
            continue
        if math.isfinite(value):
            rows.append(row)
            values.append(value)
            absent.append([a.name not in trial.params for a in encoding.axes])
            limits.append(constraints_of(trial) if constraints_of else trial.user_attrs.get(CONSTRAINTS) or ())
        else:
            failed.append(row)
    size = encoding.size
    width = max(map(len, limits), default=0)
    constraints = np.full((len(rows), width), math.nan)
    for i, limit in enumerate(limits):
        constraints[i, : len(limit)] = limit
    return Observations(
        np.array(rows).reshape(-1, size),
        np.array(values),
        constraints,
        np.array(pending).reshape(-1, size),
        np.array(failed).reshape(-1, size),
        np.array(absent, dtype=bool).reshape(-1, size),
    )
