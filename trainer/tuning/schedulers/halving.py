"""`scheduler=asha`: asynchronous successive halving (Li and others, 2018, arXiv 1810.05934)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from optuna.trial import TrialState

from trainer.job.directory import Job
from trainer.process.format import figure
from trainer.tuning.schedulers import succession
from trainer.tuning.schedulers.scheduler import RUNG, STOPPED, Scheduler
from trainer.tuning.spaces.space import Space
from trainer.tuning.stopping import ends_of
from trainer.tuning.study import Study


class Halving(Scheduler):
    """At rungs of min · reduction^k a trial goes on if its value is among the best 1 / reduction of those that came so far.

    One that isn't stops; but as others come it may be found among the best later, and then goes on before any new point is
    tried. That is what the paper does, and Optuna's pruner, for which a stopped trial is lost, can't (on 27 curves of gpt
    it missed the best one in half of the orders in which they came: scripts/bench/schedulers.py). Shares are rounded down, so that the
    first to come are no exception; once all points of a study have begun, up, as the last rungs see few. A study that may
    end before that, by time, lets the best of each rung go on at once: it must have a whole training to show.
    """

    def __init__(self, study: Study, options: Mapping[str, Any]) -> None:
        super().__init__(study, options)
        self._space = Space.from_yaml(study.facts["space"])
        tune = study.facts["options"].get("tune")
        ends = ends_of(tune, study.facts["goals"][0]) if tune else None
        timed = ends is None or ends.max_time is not None or ends.max_device_hours is not None
        self._trials = None if ends is None else ends.trials
        self._least = 1 if timed or self._trials is None else 0

    def _decide(self, frozen: Any, at: Mapping[str, float], resource: int, value: float) -> dict[int, str]:
        told = frozen.user_attrs
        rungs: dict[str, float] = dict(told.get("rungs") or {})
        rung = max([told.get("first", 0) - 1, *map(int, rungs)]) + 1
        least = self._ticks(self.options["min"]) or self._agreed(RUNG, resource)
        stops = False
        while resource >= least * self.options["reduction"] ** rung and not stops:
            rungs[str(rung)] = value
            self.study.note(frozen, rungs=rungs)
            stops = not self._is_good(rung, value)
            rung += 1
        if not stops or self.spares(frozen, at):
            return {}
        reason = f"asha, after {self._shown(resource)} with {self.metric} {figure(value)}"
        self.study.note(frozen, **{STOPPED: reason})
        return {frozen.number: reason}

    def _is_good(self, rung: int, value: float) -> bool:
        trials = self.study.trials()
        losses = [self.sign * trial.user_attrs["rungs"][str(rung)] for trial in trials if _has(trial, rung)]
        return self.sign * value <= self._bound(losses, self._have_begun(trials))

    def _bound(self, losses: list[float], all_begun: bool) -> float:
        """Of those that came to a rung, the worst that goes on."""
        share = len(losses) / self.options["reduction"]
        count = math.ceil(share) if all_begun else max(self._least, math.floor(share))
        return sorted(losses)[count - 1] if count else -math.inf

    def _have_begun(self, trials: list[Any]) -> bool:
        return self._trials is not None and sum("parent" not in t.user_attrs for t in trials) >= self._trials

    def successor(self) -> tuple[Any, dict[str, Any]] | None:
        parent = self._due()
        if parent is None:
            return None
        values, number = dict(parent.user_attrs["config"]), parent.number
        first = max(map(int, parent.user_attrs["rungs"])) + 1
        return succession.begin(self.study, self._space, values, number, number, first=first), values

    def _due(self) -> Any:
        """The stopped trial that is among the best of its rung by now, of the highest rung, the best there."""
        losses: dict[int, list[float]] = {}
        stopped: list[tuple[int, float, int, Any]] = []
        trials = self.study.trials()
        for trial in trials:
            rungs = trial.user_attrs.get("rungs") or {}
            for rung, value in rungs.items():
                losses.setdefault(int(rung), []).append(self.sign * value)
            if rungs and trial.state is TrialState.PRUNED:
                last = max(map(int, rungs))
                stopped.append((-last, self.sign * rungs[str(last)], trial.number, trial))
        all_begun = self._have_begun(trials)
        bounds = {rung: self._bound(known, all_begun) for rung, known in losses.items()}
        gone_on = succession.replaced(self.study)
        for rung, loss, number, trial in sorted(stopped, key=lambda found: found[:3]):
            if loss <= bounds[-rung] and number not in gone_on and succession.newest(self.study, trial) is not None:
                return trial
        return None

    def goes_on(self) -> bool:
        return any(not t.state.is_finished() for t in self.study.trials()) or self._due() is not None

    def prepare(self, frozen: Any, job: Job) -> None:
        if "parent" in frozen.user_attrs:
            succession.take_over(self.study, frozen, job)


def _has(trial: Any, rung: int) -> bool:
    return str(rung) in (trial.user_attrs.get("rungs") or {})
