"""A study as plain data: what its directory holds, for tables, reports and people. Reads, never writes.

study.yaml       name, metrics, goals, space, search, scheduler, unit, seed, base, created
study.journal    the Optuna storage: one trial a job
trials/NAME/     the jobs
events.jsonl     one line a change of the study: time, state, reason
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainer.config.schema import load
from trainer.errors import DamagedFile, HeadwayError, UserError, did_you_mean
from trainer.job.account import in_order, interruptions, total_seconds
from trainer.job.directory import Job, State, lines_of
from trainer.job.records import Kind, list_of, mapping, maybe, number, text, wrong, wrong_event
from trainer.process import clock
from trainer.process.escape import shown
from trainer.process.format import short_path
from trainer.process.safe_path import below
from trainer.tuning.curves import Point, curves, reached

JOURNAL = "study.journal"
DESCRIPTION = "study.yaml"
EVENTS = "events.jsonl"
TRIALS = "trials"
STATES = ("running", "interrupted", "completed", "stopped_early", "failed", "stopped")


@dataclass(frozen=True)
class Trial:
    """One point of the search, and what its job came to.

    values: config key to value, of the parameters that exist in this trial. params: as the storage has them.
    metrics: the last value of each that was reported. objective: a value a metric of the study; None if it never
    reported them all. curve: the study's first metric while it learned; curves: every metric that it reported itself.
    job: the name of its folder under `trials/`; None for an observation of an earlier study (`prior`: that study's name).
    started, ended: unix times. events: its job's state changes. device_seconds: wall time × devices. lost_seconds: of
    training that had to be done again. feasible: whether it keeps the study's constraints.
    parent: the trial from whose state it went on, by its number; branch: the resource that that one had come to.
    default: whether it is the config as it is without the search; values are then those that lie in the space.
    """

    number: int
    state: str
    values: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    objective: tuple[float, ...] | None = None
    curve: list[Point] = field(default_factory=list)
    curves: dict[str, list[Point]] = field(default_factory=dict)
    reason: str = ""
    job: str | None = None
    started: float | None = None
    ended: float | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    device_seconds: float = 0.0
    lost_seconds: float = 0.0
    feasible: bool = True
    prior: str | None = None
    parent: int | None = None
    branch: float | None = None
    default: bool = False

    @property
    def seconds(self) -> float | None:
        """Wall time from its start to its end; None while it is under way."""
        return self.ended - self.started if self.started is not None and self.ended is not None else None

    @property
    def interruptions(self) -> list[dict[str, Any]]:
        """As `trainer.job.account.interruptions` tells them."""
        return interruptions(self.events)

    @property
    def counts(self) -> bool:
        """Whether it may be the best: its job ran to its end, within the constraints, to finite values."""
        values = self.objective or ()
        return self.state == "completed" and self.feasible and self.prior is None and _finite(values)


@dataclass(frozen=True)
class StudyRecord:
    """A study. `goals` says of each of `metrics` whether less ("min") or more ("max") is better.

    space: a dict a parameter, with key, kind (float, int or choice), low, high, scale, choices, when. unit: what the
    curves' resource is counted in: steps, epochs or seconds. base: the composed config without the space. command: what
    began it, secrets as references. created, ended: unix times. ends: why it ended. notes: what else a reader should know, a line each.
    """

    name: str
    dir: Path
    metrics: list[str]
    goals: list[str]
    space: list[dict[str, Any]] = field(default_factory=list)
    search: str = "bayes"
    scheduler: str = "none"
    unit: str = "steps"
    seed: int = 0
    trials: list[Trial] = field(default_factory=list)
    base: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    created: float = 0.0
    ended: float | None = None
    ends: str = ""
    notes: list[str] = field(default_factory=list)

    def best(self) -> Trial | None:
        """The completed trial with the best first metric; the earliest of equal ones."""
        ranked = self.ranked()
        return ranked[0] if ranked else None

    def ranked(self) -> list[Trial]:
        """The trials that count, the best first metric first."""
        return sorted((t for t in self.trials if t.counts), key=lambda t: (self.loss(t)[0], t.number))

    def front(self) -> list[Trial]:
        """The trials that no other beats in every metric, by the first metric; of one metric, the best alone."""
        front: list[Trial] = []
        least = math.inf
        if len(self.metrics) == 1:
            return self.ranked()[:1]
        for trial in sorted(self.ranked(), key=lambda t: (self.loss(t), t.number)):
            if len(self.metrics) == 2:  # in the order of the first metric, the second must fall
                if self.loss(trial)[1] < least:
                    front.append(trial)
                    least = self.loss(trial)[1]
            elif not any(_dominates(self.loss(other), self.loss(trial)) for other in front):
                front.append(trial)
        return front

    def loss(self, trial: Trial) -> tuple[float, ...]:
        """A trial's objective with every sign such that less is better."""
        signs = (-1.0 if goal == "max" else 1.0 for goal in self.goals)
        return tuple(sign * value for sign, value in zip(signs, trial.objective or (), strict=False))

    def job(self, trial: Trial) -> Job | None:
        """A trial's job; None if it has none here."""
        return Job(below(self.dir / TRIALS, trial.job)) if trial.job else None

    @property
    def keys(self) -> list[str]:
        """The parameters' config keys, those of the space first, in its order."""
        keys = dict.fromkeys(str(parameter["key"]) for parameter in self.space)
        for trial in self.trials:
            keys.update(dict.fromkeys(trial.values))
        return list(keys)


def readable(record: StudyRecord) -> StudyRecord:
    """The same for a person's eyes: no text in it is one that a terminal would obey."""
    texts = ("name", "metrics", "space", "search", "scheduler", "base", "command", "ends", "notes")
    return replace(
        record,
        trials=[
            replace(t, **{n: shown(getattr(t, n)) for n in ("values", "metrics", "reason")}) for t in record.trials
        ],
        **{name: shown(getattr(record, name)) for name in texts},
    )


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """What to call parameters where room is scarce: `lr` for `algorithm.lr`, unless two would be called so."""
    keys = list(keys)
    lasts = [key.rpartition(".")[2] for key in keys]
    return {key: last if lasts.count(last) == 1 else key for key, last in zip(keys, lasts, strict=True)}


def _dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Whether `a` is nowhere worse; of equal ones the earlier stays."""
    return all(x <= y for x, y in zip(a, b, strict=True))


def _finite(values: tuple[float, ...]) -> bool:
    return bool(values) and all(math.isfinite(value) for value in values)


_NAMED: dict[str, Kind] = {"name": text, "metrics": list_of(text)}
_DRIVEN: dict[str, Kind] = {
    **dict.fromkeys(("goals", "overrides", "outcomes"), list_of(text)),
    **dict.fromkeys(("space", "base", "options"), mapping),
    **dict.fromkeys(("search", "scheduler", "unit"), text),
    "seed": number,
}


def described(directory: Path, *, to_drive: bool = False) -> dict[str, Any]:
    """What a study.yaml says; all that a study goes on by, if it is `to_drive`. Raises UserError if it is damaged."""
    path = directory / DESCRIPTION
    about = load(path)
    needed, rest = ({**_NAMED, **_DRIVEN}, {}) if to_drive else (_NAMED, {k: maybe(v) for k, v in _DRIVEN.items()})
    problem = wrong(
        about, needed, {**rest, "created": maybe(number), "config_dir": maybe(text), "command": maybe(text)}
    )
    if problem or not about["metrics"]:
        raise DamagedFile(short_path(path), problem or "it names no metric")
    return about


def read(directory: Path, state_of: Callable[[Job], State] = Job.state) -> StudyRecord:
    """The study in a directory. `state_of` tells a job that runs from one whose directory says so but nobody works on.

    Raises UserError if there is none, or one that can't be read.
    """
    directory = directory.expanduser().absolute()
    if not (directory / DESCRIPTION).is_file():
        raise UserError(f"{short_path(directory)} is not a study's directory: it has no {DESCRIPTION}")
    about = described(directory)
    notes = [str(note) for note in about.get("notes") or []]
    events = _whole(lambda: lines_of(directory / EVENTS, wrong_event).records, notes)
    over = events[-1] if events and events[-1].get("state") == "ended" else None
    metrics = [str(metric) for metric in about["metrics"]]
    unit = str(about.get("unit") or "steps")
    stored = _frozen(directory, str(about["name"]))
    if not stored and (jobs := sum(1 for _ in (directory / TRIALS).glob("*/config.yaml"))):
        notes.append(f"{JOURNAL} holds no trial, and {TRIALS}/ holds {jobs}: restore it from a copy")
    return StudyRecord(
        name=str(about["name"]),
        dir=directory,
        metrics=metrics,
        goals=[str(goal) for goal in about.get("goals") or ["min"] * len(metrics)],
        space=[{"key": key, **node} for key, node in ((about.get("space") or {}).get("parameters") or {}).items()],
        search=str(about.get("search") or "-"),
        scheduler=str(about.get("scheduler") or "none"),
        unit=unit,
        seed=int(about.get("seed") or 0),
        trials=_branched(
            [_trial(directory, frozen, metrics, unit, state_of, notes) for frozen in stored], directory, unit
        ),
        base=dict(about.get("base") or {}),
        command=str(about.get("command") or ""),
        created=float(about.get("created") or (events[0]["time"] if events else 0.0)),
        ended=float(over["time"]) if over else None,
        ends=str(over.get("reason") or "") if over else "",
        notes=notes,
    )


def _frozen(directory: Path, name: str) -> list[Any]:
    """The storage's trials that were begun, in order."""
    journal = directory / JOURNAL
    if not journal.exists():
        return []
    from optuna.storages import JournalStorage
    from optuna.study import get_all_study_names
    from optuna.trial import TrialState

    from trainer.tuning.journal import DamagedLine, Snapshot

    try:
        storage = JournalStorage(Snapshot(journal))
        names = get_all_study_names(storage)
    except (ValueError, KeyError, TypeError, AssertionError, OSError) as error:
        what = "it holds what is no change of a storage"
        if isinstance(error, DamagedLine | OSError):
            what = str(getattr(error, "strerror", None) or error)
        raise UserError(f"{short_path(journal)} can't be read: {what}; restore it from a copy") from None
    if name not in names:
        if names:
            raise UserError(f"{short_path(journal)} holds no study {name!r}; {did_you_mean(name, names)}")
        return []
    trials = storage.get_all_trials(storage.get_study_id_from_name(name), deepcopy=False)
    return [trial for trial in trials if trial.state != TrialState.WAITING]


def _whole(read: Callable[[], list[dict[str, Any]]], notes: list[str]) -> list[dict[str, Any]]:
    """What a file holds; nothing if it is damaged, which becomes a note."""
    try:
        return read()
    except DamagedFile as error:
        notes.append(str(error))
        return []


def _trial(
    directory: Path,
    frozen: Any,
    metrics: list[str],
    unit: str,
    state_of: Callable[[Job], State],
    notes: list[str],
) -> Trial:
    told: Mapping[str, Any] = frozen.user_attrs
    job = Job(directory / TRIALS / told["job"]) if told.get("job") else None
    if job is not None and not job.exists():
        job = None  # its folder is gone; the storage still tells
    events = _whole(job.events, notes) if job else []
    lines = _whole(job.metrics, notes) if job else []
    values = {name: float(value) for name, value in (told.get("values") or {}).items() if value is not None}
    for line in lines if not values else ():
        values.update({name: float(v) for name, v in line["values"].items() if v is not None})
    began, completed = (None, None) if told.get("prior") else (frozen.datetime_start, frozen.datetime_complete)
    started = told.get("started") or (began.timestamp() if began else None)
    ended = told.get("ended") or (completed.timestamp() if completed else None)
    lost = sum(line["seconds_lost"] or 0.0 for line in interruptions(events))
    seconds = told.get("seconds")
    if seconds is None:  # it is under way
        until = {"time": 0.0}
        for seen in (*events[-1:], *lines[-1:]):
            until = seen if clock.earlier(until, seen) else until
        workers = next((event["world_size"] for event in reversed(events) if event.get("world_size")), 1)
        seconds = total_seconds(events, until) * workers
    state = _state(frozen, told, job, state_of)
    found = curves(lines, unit, started)
    curve = found.get(metrics[0]) or _intermediate(frozen)
    objective = None if state == "failed" else _objective(frozen, values, metrics)  # no failure has a value
    if state == "stopped_early" and curve:  # it may have reported once more after its end was decided: the last counts
        values[metrics[0]] = curve[-1][2]
        objective = (values[metrics[0]], *objective[1:]) if objective else None
    return Trial(
        number=frozen.number,
        state=state,
        values=dict(told.get("config") or frozen.params),
        params=dict(frozen.params),
        metrics=values,
        objective=objective,
        curve=curve,
        curves=found,
        reason=str(told.get("reason") or ""),
        job=told.get("job"),
        started=started,
        ended=ended,
        events=in_order(events),
        device_seconds=float(seconds),
        lost_seconds=float(lost),
        feasible=all(value <= 0 for value in told.get("constraints") or ()),
        prior=told.get("prior"),
        parent=told.get("parent"),
        default=bool(told.get("default")),
    )


def _branched(trials: list[Trial], directory: Path, unit: str) -> list[Trial]:
    """The same, with where those left their parents that went on from one."""
    by_number = {trial.number: trial for trial in trials}
    reports: dict[int, list[dict[str, Any]]] = {}

    def branch(trial: Trial) -> float | None:
        parent = by_number.get(trial.parent) if trial.parent is not None else None
        step = next(
            (e["step"] for e in trial.events if e["state"] == State.RUNNING and e.get("step") is not None), None
        )
        if parent is None or parent.job is None or step is None:
            return None
        if parent.number not in reports:
            job = Job(below(directory / TRIALS, parent.job))
            reports[parent.number] = _whole(job.metrics, []) if job.exists() else []
        return reached(reports[parent.number], unit, parent.started, step)

    return [replace(trial, branch=branch(trial)) if trial.parent is not None else trial for trial in trials]


def _state(frozen: Any, told: Mapping[str, Any], job: Job | None, state_of: Callable[[Job], State]) -> str:
    name = frozen.state.name
    if name == "RUNNING":
        try:
            return "running" if job is None or state_of(job).is_active else "interrupted"
        except HeadwayError:  # its files are damaged, or its launcher isn't installed here
            return "interrupted"
    if name == "FAIL":
        return "stopped" if told.get("kind") == "stopped" else "failed"
    return "stopped_early" if name == "PRUNED" else "completed"


def _objective(frozen: Any, values: Mapping[str, float], metrics: list[str]) -> tuple[float, ...] | None:
    if frozen.values is not None:
        return tuple(float(value) for value in frozen.values)
    if all(metric in values for metric in metrics):
        return tuple(values[metric] for metric in metrics)
    if len(metrics) == 1 and frozen.intermediate_values:
        return (float(frozen.intermediate_values[max(frozen.intermediate_values)]),)
    return None


def _intermediate(frozen: Any) -> list[Point]:
    return [(float(step), math.nan, float(value)) for step, value in sorted(frozen.intermediate_values.items())]
