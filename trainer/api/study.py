"""What a study came to, as Python works with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainer.api.result import frame

if TYPE_CHECKING:
    import pandas

    from trainer.tuning.record import StudyRecord, Trial


@dataclass(frozen=True)
class Best:
    """The best trial of a study, by its first metric.

    overrides: what the search chose, to be trained again: `train({**settings, **best.overrides})`. model, dir: where its model
    and its job's directory are.
    """

    number: int
    metric: str
    value: float
    overrides: dict[str, Any]
    model: str | None
    dir: str


@dataclass(frozen=True, repr=False)
class StudyResult:
    """How a study ended. status: Completed, or Stopped where it can go on. reason: why it ended. best: None where no trial
    was completed before it was stopped."""

    name: str
    dir: str
    status: str
    reason: str
    best: Best | None
    record: StudyRecord = field(compare=False)

    @property
    def trials(self) -> list[Trial]:
        """All trials, in order, each with its number, state, values (what was chosen), metrics, reason and more."""
        return self.record.trials

    def history(self) -> pandas.DataFrame:
        """A row a trial: number, state, feasible, objective, a column for each key that was searched, `metrics.NAME`, started
        and ended (UTC), seconds and more, as in the study's trials.parquet. Raises UserError where pandas isn't installed."""
        from trainer.tuning.reports.tables import trials_table

        return frame(trials_table(self.record))

    def __repr__(self) -> str:
        from trainer.process.format import duration, figure, short_path
        from trainer.tuning.record import short_keys
        from trainer.tuning.reports.show import counts
        from trainer.tuning.reports.totals import totals

        sums = totals(self.record)
        lines = [f"{self.status}  {short_path(self.dir)}  in {duration(sums.seconds)}", counts(sums)]
        if self.best is None:
            return "\n".join([*lines, "best   none yet"])
        names = short_keys(self.best.overrides)
        chosen = ", ".join(f"{names[key]} {_short(value)}" for key, value in self.best.overrides.items())
        lines.append(f"best   trial {self.best.number}: {self.best.metric} {figure(self.best.value)}  ({chosen})")
        lines += [f"model  {short_path(self.best.model)}"] if self.best.model else []
        return "\n".join(lines)


def best_of(record: StudyRecord) -> Best | None:
    from trainer.tuning.reports.best import model_of

    trial = record.best()
    if trial is None or trial.objective is None:
        return None
    job = record.job(trial)
    value, directory = float(trial.objective[0]), str(job.dir) if job else ""
    return Best(trial.number, record.metrics[0], value, dict(trial.values), model_of(record, trial), directory)


def _short(value: Any) -> str:
    from trainer.tuning.reports.importance import text

    return f"{value:.4g}" if isinstance(value, float) else text(value)
