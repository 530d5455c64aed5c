"""`scheduler=pbt`: population-based training (Jaderberg and others, 2017, arXiv 1711.09846), without waiting for anybody.

The population is the study's trials, which all train at a time. Each interval of its training a trial is compared with what
the others reported there. One of the worst stops; a new trial takes its place, which goes on from the newest checkpoint of
one of the best, with hyperparameters near that one's. What was decided is kept with the trials:

    marks     {interval: value}, the first report at or after each
    stopped   why it is to stop; mark: the interval that told; donor: whose state is to be gone on from
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from random import Random
from typing import Any

from optuna.trial import TrialState

from trainer.errors import UserError
from trainer.job.directory import Job, State
from trainer.process.format import figure
from trainer.tuning.samplers.default import DEFAULT
from trainer.tuning.samplers.sampler import seed_of
from trainer.tuning.schedulers import succession
from trainer.tuning.schedulers.perturb import perturbed
from trainer.tuning.schedulers.scheduler import STOPPED, Scheduler, is_at_end
from trainer.tuning.spaces.space import Space
from trainer.tuning.study import Study

INTERVALS = 10  # of a whole training, where none is given
ENOUGH = 7 / 8  # of the population must have come to an interval before anybody is among its worst
CHANGES = ("algorithm.", "train.gradient_clip", "train.ema")  # what a job that goes on may have another value of


class Population(Scheduler):
    """options: interval, quantile (the share that is worst, and best), resample (the chance that a value is drawn anew)."""

    def __init__(self, study: Study, options: Mapping[str, Any]) -> None:
        super().__init__(study, options)
        self._space = Space.from_yaml(study.facts["space"])
        self.population = study.facts["options"]["tune"]["trials"]
        refuse_unfit(self._space, self.population)
        if options["interval"] is None and (self._seconds is not None) != (self.unit == "seconds"):
            raise UserError(
                f"scheduler.interval: how many {self.unit} a whole training takes isn't known in advance; give a number"
            )

    def _decide(self, frozen: Any, at: Mapping[str, float], resource: int, value: float) -> dict[int, str]:
        self._refuse_other_shapes(frozen)
        interval = self._interval(at, resource)
        mark = 0 if interval is None else resource // interval
        marks = dict(self._known(frozen).user_attrs.get("marks") or {})
        if mark < 1 or str(mark) in marks:
            return {}
        self.study.note(frozen, marks={**marks, str(mark): value})
        return {} if is_at_end(at, self._seconds) else self._judge(mark, mark * (interval or 1))

    def _interval(self, at: Mapping[str, float], resource: int) -> int | None:
        """In parts of the unit; None as long as it isn't known."""
        given = self._ticks(self.options["interval"])
        if given is not None:
            return given
        known = self._whole(at, resource)
        return None if known is None else max(1, known // INTERVALS)

    def _judge(self, mark: int, resource: int) -> dict[int, str]:
        """Who stops of those that have come so far. Whenever one comes there, all are compared anew: one that came first may
        turn out to be among the worst, and stops unless it has become better than the best meanwhile.
        """
        known = self.study.trials()
        trials = {t.number: t for t in known if t.state is not TrialState.FAIL}
        losses = {n: self.sign * t.user_attrs["marks"][str(mark)] for n, t in trials.items() if _has(t, mark)}
        ranked = sorted(losses, key=lambda n: (losses[n], n))
        members = max(2, (self.population or 0) - (len(known) - len(trials)))
        if len(ranked) < max(2, ENOUGH * members):
            return {}
        count = max(1, math.floor(self.options["quantile"] * len(ranked) + 1e-9))
        best = [n for n in ranked[:count] if _trains(trials[n])]
        left = count - sum(t.user_attrs.get("mark") == mark for t in trials.values())
        orders: dict[int, str] = {}
        for number in ranked[: -count - 1 : -1]:
            if len(orders) >= left:
                break
            loss = self._loss(trials[number])
            donors = [
                n for n in best if self._loss(trials[n]) < loss and succession.newest(self.study, trials[n]) is not None
            ]
            if not _trains(trials[number]) or not donors or DEFAULT in trials[number].user_attrs:
                continue
            donor = Random(seed_of(self.study.facts["seed"], number)).choice(donors)
            reason = (
                f"pbt, after {self._shown(resource)} with {self.metric} {figure(self.sign * losses[number])}: "
                f"trial {donor} has {figure(self.sign * losses[donor])}"
            )
            self.study.note(trials[number], **{STOPPED: reason, "donor": donor, "mark": mark})
            orders[number] = reason
        return orders

    def successor(self) -> tuple[Any, dict[str, Any]] | None:
        due = self._due()
        if not due:
            return None
        donor = due[0].user_attrs["donor"]
        number = len(self.study.trials(own=False))
        known = next(t for t in self.study.trials() if t.number == donor).user_attrs["config"]
        rng = Random(seed_of(self.study.facts["seed"], number))
        values = perturbed(self._space, known, self.options["resample"], rng)
        return succession.begin(self.study, self._space, values, donor, due[0].number), values

    def _due(self) -> list[Any]:
        """Stopped trials in whose place nobody has come yet."""
        gone = succession.replaced(self.study)
        stopped = [t for t in self.study.trials() if t.state is TrialState.PRUNED and "donor" in t.user_attrs]
        return [trial for trial in stopped if trial.number not in gone]

    def goes_on(self) -> bool:
        return any(not t.state.is_finished() for t in self.study.trials()) or bool(self._due())

    def prepare(self, frozen: Any, job: Job) -> None:
        if "parent" in frozen.user_attrs:
            succession.take_over(self.study, frozen, job)

    def _loss(self, trial: Any) -> float:
        """Of a trial that has marks, at the newest of them."""
        marks = trial.user_attrs["marks"]
        return self.sign * float(marks[max(marks, key=int)])

    def _refuse_other_shapes(self, frozen: Any) -> None:
        """Raises UserError where the space changes the model itself: no trial could go on from another's weights."""
        if "weights" in self._known(frozen).user_attrs:
            return
        running = [e for e in self.study.job(frozen).events() if e["state"] == State.RUNNING.value]
        weights = running[-1].get("parameters") if running else None
        self.study.note(frozen, weights=weights)
        for other in self.study.trials():
            theirs = other.user_attrs.get("weights")
            if weights is not None and theirs is not None and weights != theirs:
                keys = ", ".join(key for key in self._space.keys if key.startswith("algorithm."))
                raise UserError(
                    f"scheduler=pbt: a model of {theirs:,} weights (trial {other.number}) can't go on as one of {weights:,} "
                    f"(trial {frozen.number}); leave out of the space what shapes the model, of {keys}"
                )


def refuse_unfit(space: Space, population: int | None) -> None:
    """Raises UserError for a study that can't be one of populations."""
    if population is None or population < 2:
        raise UserError("scheduler=pbt trains a population of tune.trials at a time; give tune.trials, 2 or more")
    for key in space.keys:
        if not key.startswith(CHANGES):
            raise UserError(
                f"scheduler=pbt changes a model's hyperparameters while it trains, and {key} can't change then; give it one "
                f"value, or choose another scheduler"
            )


def refuse_too_few(population: int, parallel: int, fits: int, ray: Mapping[str, Any]) -> None:
    """Raises UserError if a population can't train at a time. fits: trials that there is room for. ray: that node."""
    if parallel >= population:
        return
    if fits >= population:
        raise UserError(f"scheduler=pbt trains all {population} trials at a time, and tune.parallel is {parallel}")
    lower = math.floor(ray["cpus_per_worker"] * fits / population * 100) / 100
    raise UserError(
        f"scheduler=pbt trains all {population} trials at a time, and there is room for {fits}; lower tune.trials, or let "
        f"trials share: ray.cpus_per_worker={lower:g} (and ray.gpus_per_worker, where there are GPUs)"
    )


def _has(trial: Any, mark: int) -> bool:
    return str(mark) in (trial.user_attrs.get("marks") or {})


def _trains(trial: Any) -> bool:
    return trial.state is TrialState.RUNNING and STOPPED not in trial.user_attrs
