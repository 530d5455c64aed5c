"""What a study came to in all: counts, time, cost, failures."""

from __future__ import annotations

import time
from dataclasses import dataclass

from trainer.tuning.record import JOURNAL, STATES, StudyRecord


@dataclass(frozen=True)
class Totals:
    """states: trials by state, those that occur, in a fixed order; prior observations don't count.

    seconds: wall time from the study's creation to its end, or to now. device_seconds: of all trials. lost_seconds: of
    training that interruptions made to be done again.
    """

    states: dict[str, int]
    prior: int
    seconds: float
    device_seconds: float
    lost_seconds: float
    interruptions: int

    @property
    def trials(self) -> int:
        return sum(self.states.values())


def totals(record: StudyRecord) -> Totals:
    """Sums over a study's trials."""
    own = [trial for trial in record.trials if trial.prior is None]
    counts = {state: sum(trial.state == state for trial in own) for state in STATES}
    return Totals(
        states={state: count for state, count in counts.items() if count},
        prior=len(record.trials) - len(own),
        seconds=max(0.0, _end(record) - _begin(record)),
        device_seconds=sum(trial.device_seconds for trial in own),
        lost_seconds=sum(trial.lost_seconds for trial in own),
        interruptions=sum(len(trial.interruptions) for trial in own),
    )


def _begin(record: StudyRecord) -> float:
    started = [trial.started for trial in record.trials if trial.started is not None and trial.prior is None]
    return record.created or min(started, default=0.0)


def _end(record: StudyRecord) -> float:
    if record.ended is not None:
        return record.ended
    if any(trial.state == "running" for trial in record.trials):
        return time.time()
    ended = [trial.ended for trial in record.trials if trial.ended is not None and trial.prior is None]
    return max(ended, default=_begin(record))


def failures(record: StudyRecord) -> list[tuple[str, list[int]]]:
    """Reasons of failure with the trials' numbers, the most frequent first."""
    found: dict[str, list[int]] = {}
    for trial in record.trials:
        if trial.state == "failed":
            lines = trial.reason.strip().splitlines()
            found.setdefault(lines[0] if lines else "no reason was left", []).append(trial.number)
    return sorted(found.items(), key=lambda pair: (-len(pair[1]), pair[1]))


def state(record: StudyRecord) -> str:
    """ended, running, or not ended: nobody works on it, and it may go on."""
    if record.ended is not None:
        return "ended"
    return "running" if any(trial.state == "running" for trial in record.trials) else "not ended"


def files(record: StudyRecord) -> dict[str, str | None]:
    """What the study's directory holds, by what it is; None for what isn't there."""
    names = {
        "folder": ".",
        "best": "best.yaml",
        "report": "report.html",
        "tables": "trials.parquet",
        "storage": JOURNAL,
    }
    paths = {name: record.dir / file for name, file in names.items()}
    return {name: str(path) if path.exists() else None for name, path in paths.items()}
