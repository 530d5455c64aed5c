"""The median rule: a trial stops once it is worse than half of those before it were there."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import TrialState


class MedianPruner(BasePruner):
    """Stops a trial whose best value so far is worse than the median of the completed trials' best values up to there.

    As the median stopping rule of Google Vizier (Golovin and others, 2017), but by best values instead of running means,
    which lag behind where a curve falls fast. Unlike Optuna's, it needs no other trial's report at exactly the same place:
    steps an epoch differ with the batch size, and seconds always.

    startup: completed trials without which nobody stops. least: nobody stops before. interval: from one decision to the
    next; the first report at or after each multiple of it decides. Both as reports are counted in the storage.
    """

    def __init__(self, *, startup: int, least: int, interval: int) -> None:
        self._startup, self._least, self._interval = startup, least, interval

    def prune(self, study: Any, trial: Any) -> bool:
        last = trial.last_step
        before = max((step for step in trial.intermediate_values if step < last), default=0)
        if last < self._least or last // self._interval == before // self._interval:
            return False
        sign = -1.0 if study.direction is StudyDirection.MAXIMIZE else 1.0
        others = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        bests = [_best(t.intermediate_values, last, sign) for t in others]
        known = [best for best in bests if best < math.inf]
        return len(known) >= self._startup and _best(trial.intermediate_values, last, sign) > statistics.median(known)


def _best(values: Mapping[int, float], until: int, sign: float) -> float:
    """Less is better."""
    return min((sign * value for step, value in values.items() if step <= until), default=math.inf)
