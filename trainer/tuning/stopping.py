"""When a study ends: by trials, time, a target, no improvement, a budget of device-hours, or failures in a row."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState

from trainer.config.schema import seconds
from trainer.process.format import figure, plural

DEFAULT_TRIALS = 50
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class End:
    """Why a study ends. `leaves_running`: what runs is finished, however the study was asked to end."""

    reason: str
    leaves_running: bool = False
    failed: bool = False


@dataclass(frozen=True)
class Ends:
    """The bounds of a study. target and patience look at the first metric."""

    trials: int | None
    max_time: float | None
    max_device_hours: float | None
    target: float | None
    patience: int | None
    max_failures: int
    goal: str

    def by_trials(self, trials: Sequence[Any], goes_on: Callable[[], bool] = lambda: False) -> End | None:
        """Whether it ends by what its trials say. trials: Optuna's, of this study alone. goes_on: whether some that were
        stopped may yet go on when all have begun."""
        if (failures := _failures_in_row(trials)) and len(failures) >= self.max_failures:
            reason = failures[-1].user_attrs.get("reason") or "no reason was left"
            return End(f"{len(failures)} trials in a row failed alike: {reason}", failed=True)
        values = [t.values[0] for t in trials if t.state is TrialState.COMPLETE and _counts(t)]
        better = max if self.goal == "max" else min
        if self.target is not None and values and better([*values, self.target]) == better(values):
            return End(f"the target of {figure(self.target)} is reached: {figure(better(values))}")
        if self.patience is not None and self._stale(trials) >= self.patience:
            return End(f"no improvement in {plural(self.patience, 'trial')}")
        begun = sum("parent" not in t.user_attrs for t in trials)
        if self.trials is not None and begun >= self.trials and not goes_on():
            return End(f"{plural(self.trials, 'trial')} done", leaves_running=True)
        return None

    def by_time(self, started: float, device_seconds: float) -> End | None:
        """Whether its time is over. started: the monotonic time since which it is driven, less what drivers before took;
        device_seconds: of all trials, those that run included."""
        if self.max_time is not None and time.monotonic() - started >= self.max_time:
            return End("tune.max_time is over")
        if self.max_device_hours is not None and device_seconds >= self.max_device_hours * 3600:
            return End(f"{self.max_device_hours:g} device-hours are used up")
        return None

    def _stale(self, trials: Sequence[Any]) -> int:
        """Finished trials since the best one."""
        replaced = {t.user_attrs.get("replaces") for t in trials}
        done = [t for t in trials if t.state in FINISHED and t.number not in replaced]
        done.sort(key=lambda t: t.datetime_complete)
        sign = -1.0 if self.goal == "max" else 1.0
        best, stale = math.inf, 0
        for trial in done:
            if trial.state is TrialState.COMPLETE and _counts(trial) and sign * trial.values[0] < best:
                best, stale = sign * trial.values[0], 0
            else:
                stale += 1
        return stale if best < math.inf else 0


def ends_of(tune: Mapping[str, Any], goal: str) -> Ends:
    """From a study's options; 50 trials if they bound nothing."""
    bounds = ("trials", "max_time", "max_device_hours", "target", "patience")
    unbounded = all(tune[key] is None for key in bounds)
    return Ends(
        trials=DEFAULT_TRIALS if unbounded else tune["trials"],
        max_time=seconds(tune["max_time"], "tune.max_time"),
        max_device_hours=tune["max_device_hours"],
        target=tune["target"],
        patience=tune["patience"],
        max_failures=tune["max_failures"],
        goal=goal,
    )


def _counts(trial: Any) -> bool:
    feasible = all(value <= 0 for value in trial.user_attrs.get("constraints") or ())
    return feasible and all(math.isfinite(value) for value in trial.values)


def _failures_in_row(trials: Sequence[Any]) -> list[Any]:
    """The newest finished trials, as far as they failed in one way."""
    done = sorted((t for t in trials if t.state in FINISHED), key=lambda t: t.datetime_complete)
    row: list[Any] = []
    for trial in reversed(done):
        if trial.state is not TrialState.FAIL or (row and _kind(trial) != _kind(row[0])):
            break
        row.insert(0, trial)
    return row


def _kind(trial: Any) -> str:
    return str(trial.user_attrs.get("kind") or "failed")
