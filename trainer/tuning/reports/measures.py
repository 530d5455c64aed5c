"""The metrics that one may look at: those that the study is about, and all else that its trials reported."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trainer.job.directory import State
from trainer.job.result import NOT_METRICS, is_of_the_run, more_is_better
from trainer.process.format import prominence
from trainer.tuning.curves import Point
from trainer.tuning.record import StudyRecord, Trial


@dataclass(frozen=True)
class Measure:
    """A metric, and whether less ("min") or more ("max") of it is better."""

    name: str
    goal: str


def measures(record: StudyRecord) -> list[Measure]:
    """The study's own metrics first, in its order."""
    reported = {name for trial in record.trials for name in trial.metrics}
    others = [n for n in reported if n not in record.metrics and n not in NOT_METRICS and not is_of_the_run(n)]
    running = (event for trial in record.trials for event in trial.events if event["state"] == State.RUNNING)
    maximize = {str(name) for event in running for name in event.get("maximize") or ()}
    return [
        *(Measure(name, goal) for name, goal in zip(record.metrics, record.goals, strict=True)),
        *(Measure(name, direction(name, maximize)) for name in sorted(others, key=prominence)),
    ]


def direction(name: str, maximize: Iterable[str]) -> str:
    """Of a metric; `maximize` are the names that the algorithm maximizes."""
    return "max" if more_is_better(name, maximize) else "min"


def value(record: StudyRecord, trial: Trial, name: str) -> float | None:
    """What a trial came to in a metric; None if it failed or never told."""
    if name in record.metrics:
        return trial.objective[record.metrics.index(name)] if trial.objective else None
    return None if trial.state == "failed" else trial.metrics.get(name)


def curve(record: StudyRecord, trial: Trial, name: str) -> list[Point]:
    """A metric while a trial learned; of one that went on from another, since it did."""
    return trial.curve if name == record.metrics[0] else trial.curves.get(name, [])
