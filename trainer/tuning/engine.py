"""A study's decisions: what runs next, what a report means, how a trial ends, when all ends. Knows nothing of Ray.

Everything it decides is written down before it is acted on, in the storage or in a job's directory, so that whoever drives the
study after this process has died goes on where it was.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import TrialState

from trainer.config import schema
from trainer.errors import HeadwayError, UserError, did_you_mean
from trainer.job.account import busy_seconds
from trainer.job.directory import Job, State, lines_of, read_hint, write_json
from trainer.job.records import wrong_event
from trainer.process import clock
from trainer.submission import bundle
from trainer.submission.submit import write
from trainer.tuning.record import EVENTS, TRIALS
from trainer.tuning.samplers.sampler import Asker, Exhausted
from trainer.tuning.schedulers.scheduler import Scheduler
from trainer.tuning.schedulers.succession import total_of
from trainer.tuning.spaces.expression import Expression
from trainer.tuning.stopping import End, Ends
from trainer.tuning.study import Study, folder_of
from trainer.tuning.trial_run import ORDER
from trainer.tuning.trials import Configs, workers_of

TRAINING_SECONDS = "training_seconds"


@dataclass
class Live:
    """A trial that is under way, as the table shows it.

    since: the unix time of its first start. taken: the monotonic time of when this driver began to follow it; held: for how many seconds it
    had had workers before. workers: of its job.
    """

    frozen: Any
    values: dict[str, Any]
    job: Job
    since: float
    taken: float = field(default_factory=time.monotonic)
    held: float = 0.0
    workers: int = 1
    asked: str = ""  # what was wanted of it last
    metrics: dict[str, float] = field(default_factory=dict)
    ordered: str = ""


@dataclass(frozen=True)
class News:
    """What a person should hear: a trial that has ended, or words."""

    frozen: Any = None
    words: str = ""


@dataclass
class Engine:
    study: Study
    asker: Asker
    configs: Configs
    scheduler: Scheduler
    ends: Ends
    outcomes: list[Expression]  # constraints on metrics
    start_from: list[dict[str, Any]]
    at_end: str
    live: dict[int, Live] = field(default_factory=dict)
    news: deque[News] = field(default_factory=deque)
    end: End | None = None
    failure: HeadwayError | None = None  # that ends the study: the user's mistake
    leaving: str = ""  # why the driver leaves before the study's end
    began: float = 0.0  # monotonic time since which it is driven, less what drivers before this one took
    default: int | None = None  # the index in start_from of the default
    default_words: str = ""  # what a person should know of it

    def __post_init__(self) -> None:
        self.metrics: list[str] = self.study.facts["metrics"]
        self._waiting = [t for t in self.study.trials() if not t.state.is_finished() and "config" in t.user_attrs]
        driven = _driven_seconds(self.study)
        self.began = time.monotonic() - driven
        self._device_seconds = sum(float(t.user_attrs.get("seconds") or 0.0) for t in self.study.trials())
        self._looked: tuple[int, End | None] = (-1, None)
        self._leaving_now = False
        self._changes = 0  # of what the storage says of trials, but for their reports
        for frozen in self._waiting:  # what the driver before wanted of them is over, but for what a scheduler decided
            if "job" in frozen.user_attrs:
                order = read_hint(self.study.job(frozen).dir / ORDER)
                if order and order.get("what") != "stop":
                    self._give(self.study.job(frozen), "go on", "the study goes on")

    # what runs next

    def next(self) -> Live | None:
        """The trial to start now, or to go on with; None if there is none now or, if it `is_over`, any more."""
        while self._may_begin():
            if self._waiting:
                live = self._taken()
            else:
                self._changes += 1
                try:
                    with self.study.journal.together():
                        found = self.scheduler.successor() or self._ask()
                        if found is None:
                            return None
                        live = self._prepare(*found)
                        parent = found[0].user_attrs.get("parent")
                        if live is not None and parent is not None:
                            self.news.append(News(words=f"trial {found[0].number} goes on from trial {parent}"))
                except Exhausted as exhausted:
                    if self.scheduler.goes_on():
                        return None
                    self.end = End(str(exhausted), leaves_running=True)
                    return None
                except HeadwayError as error:
                    self.failure = error
                    return None
            if live is not None:
                self.live[live.frozen.number] = live
                self.look()  # what was under way when the study ended may live on: it is taken to be stopped, or finished
                return live
        return None

    def _taken(self) -> Live | None:
        """A trial that was under way before."""
        frozen = self._waiting.pop(0)
        told = frozen.user_attrs
        # `job` alone: the driver died before the job began, at a time when the two were written one after the other
        job = self.study.job(frozen) if "job" in told and "started" in told else None
        try:
            config = schema.load_job(job.config_path) if job else None
        except UserError:
            config = None  # there is none, or it was lost with the machine's power: it is written anew
        if job is None or config is None:
            return self._prepare(frozen, dict(told["config"]))
        since = float(told["started"])
        held = busy_seconds(job.events(), clock.now())
        workers = workers_of(config)
        return Live(frozen, dict(frozen.user_attrs["config"]), job, since, held=held, workers=workers)

    @property
    def is_over(self) -> bool:
        """Whether no new trial begins any more."""
        return bool(self.leaving or self.failure or self.end)

    @property
    def has_waiting(self) -> bool:
        """Whether there are trials that a driver before this one left under way."""
        return bool(self._waiting)

    def _may_begin(self) -> bool:
        self.look()
        if self.leaving or self.failure:
            return False
        return self._waiting != [] or self.end is None

    def _ask(self) -> tuple[Any, dict[str, Any]] | None:
        """A new point; None if there are to be no more, but some that were stopped may go on yet."""
        number = len([t for t in self.study.trials() if "config" in t.user_attrs and "parent" not in t.user_attrs])
        if self.ends.trials is not None and number >= self.ends.trials:
            return None
        given = self.start_from[number] if number < len(self.start_from) else None
        return self.asker.ask(given, default=number == self.default)

    def _prepare(self, frozen: Any, values: dict[str, Any]) -> Live | None:
        """The trial's job, written; None if its configuration is refused.

        A directory of which the storage never heard, because the machine died in between, is nobody's: another point has
        another name, and the same point has the same job, which may be done.
        """
        try:
            config = self.configs.of(values)
            workers = workers_of(config)
            folder = folder_of(frozen.number, config)
            config["job"]["name"] = f"{self.study.name}-{folder}"
            config["job"]["dir"] = str(self.study.dir / TRIALS / folder)
            job = Job(self.study.dir / TRIALS / folder)
            if not _is_done(job, config):
                write(job, config, is_new=True)
            bundle.point(job.dir, self.study.dir)
            self.scheduler.prepare(frozen, job)
        except UserError as error:
            self._fail(frozen, str(error), "refused")
            return None
        now = time.time()
        self.study.note(frozen, job=folder, started=now)
        return Live(frozen, values, job, now, workers=workers)

    # what is heard of a trial

    def heard(self, number: int, report: Mapping[str, Any]) -> None:
        """A report of `trainer.tuning.trial_run.Run.wait`."""
        with self.study.journal.together():
            self._heard(number, report)
        self.look()

    def _heard(self, number: int, report: Mapping[str, Any]) -> None:
        live = self.live[number]
        for step, epoch, seconds, values in report["points"]:
            live.metrics |= values
            self._refuse_missing(live, values)
            metric = live.metrics.get(self.metrics[0]) if self.metrics[0] in values else None
            if metric is not None:
                at = {"steps": step, "epochs": epoch, "seconds": seconds, "total": total_of(live.job) or math.inf}
                self._decide(live, at, metric)
        if report["ended"] is not None:
            del self.live[number]
            self._ended(live, report)

    def _decide(self, live: Live, at: Mapping[str, float], metric: float) -> None:
        try:
            orders = self.scheduler.decide(live.frozen, at, metric)
        except UserError as error:
            self.failure = self.failure or error
            return
        for number, reason in orders.items():
            if number in self.live:
                self._order(self.live[number], "stop", reason)

    def lost(self, number: int) -> None:
        """What followed a trial is gone; its job may live on, or go on, with the next that follows it."""
        live = self.live.pop(number, None)
        if live is not None and not self.leaving:
            self._waiting.append(self.study.storage.get_trial(live.frozen._trial_id))

    def _refuse_missing(self, live: Live, values: Mapping[str, float]) -> None:
        """A validation that lacks the metric: no later one will have it."""
        metric = self.metrics[0]
        validated = any(name.startswith("validation_") for name in values)
        if validated and metric.startswith("validation_") and metric not in live.metrics:
            self._no_metric(metric, live)

    def _no_metric(self, metric: str, live: Live) -> None:
        known = [name for name in (*live.metrics, TRAINING_SECONDS) if name != "lr"]
        self.failure = self.failure or UserError(
            f"tune.metric: no report carries {metric!r}; {did_you_mean(metric, known)} "
            f"(reports carry {', '.join(sorted(known))})"
        )

    def _ended(self, live: Live, report: Mapping[str, Any]) -> None:
        ended, frozen = report["ended"], live.frozen
        if ended == "paused":
            return
        seconds = busy_seconds(live.job.events(), clock.now()) * live.workers
        self._device_seconds += seconds
        result = live.job.result() or {}
        known = {name: m["last"]["value"] for name, m in (result.get("metrics") or {}).items()}
        values = {**live.metrics, **known, TRAINING_SECONDS: (result.get("seconds") or {}).get("training")}
        values = {name: value for name, value in values.items() if value is not None}
        told = {"values": values, "ended": time.time(), "seconds": seconds}
        last = live.metrics.get(self.metrics[0], 0.0)
        if ended == "out_of_time":  # of a script or a loop; it is whole where seconds are what trials are given
            live.ordered = live.ordered or "MaxRuntimeExceeded: train.max_time is over"
            ended = "completed" if self.scheduler.unit == "seconds" else "stopped"
            if ended == "stopped" and self.metrics[0] not in live.metrics:
                self._fail(frozen, f"{live.ordered}, without a report of {self.metrics[0]}", "no metric", **told)
                return
        if ended == "stopped" and not math.isfinite(last):
            self._fail(frozen, f"{self.metrics[0]} is {last}", "not finite", **told)
            return
        if ended == "stopped":
            self.study.note(frozen, **told, kind="stopped_early", reason=live.ordered or _order_reason(live.job))
            self._tell(frozen, TrialState.PRUNED)
            return
        if ended != "completed":
            self._fail(frozen, report["reason"], report["kind"], **told)
            return
        missing = [metric for metric in self.metrics if metric not in values]
        if missing:
            self._no_metric(missing[0], live)
            self._fail(frozen, f"no report carried {missing[0]}", "no metric", **told)
            return
        objective = [float(values[metric]) for metric in self.metrics]
        bad = [f"{m} is {v}" for m, v in zip(self.metrics, objective, strict=True) if not math.isfinite(v)]
        if bad:
            self._fail(frozen, ", ".join(bad), "not finite", **told)
            return
        margins = [constraint.margin({**live.values, **values}) for constraint in self.outcomes]
        self.study.note(frozen, **told, **({"constraints": margins} if margins else {}))
        self._tell(frozen, TrialState.COMPLETE, objective)

    def _fail(self, frozen: Any, reason: str, kind: str, **told: Any) -> None:
        with self.study.journal.together():
            self.study.note(frozen, **{"ended": time.time(), **told}, reason=reason, kind=kind)
            self._tell(frozen, TrialState.FAIL)

    def _tell(self, frozen: Any, state: TrialState, values: list[float] | None = None) -> None:
        """Ends a trial in the storage; it is no error if it has been told before."""
        self._changes += 1
        make = self.asker.choice.make
        if make is not None:
            self.study.optuna.sampler = make(self.study.facts["seed"], frozen.number)
        self.study.optuna.tell(frozen.number, values, state=state, skip_if_finished=True)
        self.news.append(News(self.study.storage.get_trial(frozen._trial_id)))

    # how it ends

    def look(self) -> None:
        """Whether the study ends now, and what becomes of the trials that run."""
        if not self.failure and not self.leaving and (self.end is None or (self.end.leaves_running and self.live)):
            found = self._found_end()
            if self.end is None or (found and not found.leaves_running):
                self.end = found
        wanted = self._wanted()
        if wanted:
            for live in list(self.live.values()):
                self._order(live, *wanted)

    def _wanted(self) -> tuple[str, str] | None:
        """What all that runs is to do, and why."""
        if self.leaving:  # also what was just about to begin when the signal came
            return "kill" if self._leaving_now else "pause", self.leaving
        if self.failure:
            return "pause", "the study stops"
        if self.end and not self.end.leaves_running and self.at_end == "stop":
            return "pause", self.end.reason
        return None

    def _found_end(self) -> End | None:
        if self._looked[0] != self._changes:  # trials are many, and seldom change
            self._looked = (self._changes, self.ends.by_trials(self.study.trials(), self.scheduler.goes_on))
        end = self._looked[1]
        return end if end and not end.leaves_running else self.ends.by_time(self.began, self.device_seconds()) or end

    def leave(self, reason: str, *, now: bool = False) -> None:
        """The driver has to go: what runs is interrupted in order, to go on when the study does; `now`: at once."""
        self.leaving, self._leaving_now = reason, now
        how = "ending them now" if now else "they save their state; again ends them at once"
        if self.live:
            self.news.append(News(words=f"{reason}: {len(self.live)} trials stop, {how}"))
        self.look()

    def device_seconds(self) -> float:
        now = time.monotonic()
        return self._device_seconds + sum((live.held + now - live.taken) * live.workers for live in self.live.values())

    def _order(self, live: Live, what: str, reason: str) -> None:
        if live.asked in (what, "kill"):
            return
        live.asked = what
        known = read_hint(live.job.dir / ORDER)
        if known.get("what") == "stop" and what != "kill":
            return
        self._give(live.job, what, reason)
        live.ordered = live.ordered or (reason if what == "stop" else "")

    @staticmethod
    def _give(job: Job, what: str, reason: str) -> None:
        write_json(job.dir / ORDER, {"what": what, "reason": reason, "time": time.time()}, durable=True)


def _is_done(job: Job, config: Mapping[str, Any]) -> bool:
    try:
        return job.state() is State.COMPLETED and not schema.differing_keys(schema.load_job(job.config_path), config)
    except UserError:  # its files were lost with the machine's power
        return False


def _order_reason(job: Job) -> str:
    return str(read_hint(job.dir / ORDER).get("reason", ""))


def _driven_seconds(study: Study) -> float:
    """For how long drivers before this one have driven the study: as far as its events and its trials tell."""
    total, since = 0.0, None
    ends = [float(t.user_attrs["ended"]) for t in study.trials() if "ended" in t.user_attrs]
    for event in lines_of(study.dir / EVENTS, wrong_event).records:
        if event["state"] in ("started", "resumed"):
            if since is not None:  # the driver died: it was there at least until its last trial ended
                total += max([0.0, *(e - since["time"] for e in ends if since["time"] <= e <= event["time"])])
            since = event
        elif since is not None:
            total, since = total + clock.seconds(since, event), None
    if since is not None:
        total += max([0.0, *(e - since["time"] for e in ends if e >= since["time"])])
    return total
