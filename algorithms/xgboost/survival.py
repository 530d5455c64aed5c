"""Times between two bounds, as the accelerated failure time model learns them: its metrics, and the bounds that it takes."""

from __future__ import annotations

import numpy as np

from trainer.errors import UserError

OBJECTIVE = "survival:aft"
METRICS = ("aft-nloglik", "interval-regression-accuracy")


def refuse_metrics(objective: str | None, metrics: list[str]) -> None:
    """Raises UserError for a metric of intervals beside an objective that knows none, and the other way round."""
    for metric in metrics:
        if objective == OBJECTIVE and metric not in METRICS:
            known = " and ".join(METRICS)
            raise UserError(
                f"algorithm.eval_metric={metric} is of single values, and {OBJECTIVE} learns intervals; use {known}"
            )
        if objective != OBJECTIVE and metric in METRICS:
            raise UserError(
                f"algorithm.eval_metric={metric} is of intervals, which algorithm.objective={OBJECTIVE} alone learns; choose another"
            )


def check_bounds(bounds: np.ndarray, column: str) -> None:
    """Raises UserError for bounds [n, 2] that are no times."""
    lower, upper = bounds[:, 0], bounds[:, 1]
    wrong = (lower < 0) | (upper <= 0)
    if wrong.any():
        low, high = bounds[int(wrong.argmax())].tolist()
        raise UserError(
            f"the label {column!r} holds {low:g}, up to {high:g}, and algorithm.objective={OBJECTIVE} takes times: "
            "a lower bound of 0 or more, an upper one above 0"
        )
