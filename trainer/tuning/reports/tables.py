"""A study's trials as tables that other programs read: trials.parquet and trials.csv, a row a trial."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.tuning.record import StudyRecord
from trainer.tuning.reports.importance import text

if TYPE_CHECKING:
    import pyarrow


def write_tables(record: StudyRecord) -> list[Path]:
    """Writes trials.parquet and trials.csv into the study's directory, each beside and then renamed."""
    from pyarrow.csv import write_csv
    from pyarrow.parquet import write_table

    table = trials_table(record)
    parquet, csv = record.dir / "trials.parquet", record.dir / "trials.csv"
    _replace(parquet, lambda path: write_table(table, path))
    _replace(csv, lambda path: write_csv(table, path))
    return [parquet, csv]


def _replace(path: Path, write: Callable[[str], None]) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    write(str(beside))
    os.replace(beside, path)


def trials_table(record: StudyRecord) -> pyarrow.Table:
    """A row a trial: number, state, default, feasible, objective (or objective.METRIC of several), a column a parameter under its
    config key, metrics.NAME, started and ended (UTC), seconds, device_seconds, lost_seconds, interruptions, reason,
    job, prior. A cell that doesn't exist is null.
    """
    import pyarrow as pa

    trials = record.trials
    columns: dict[str, pa.Array] = {
        "number": pa.array([t.number for t in trials], pa.int64()),
        "state": pa.array([t.state for t in trials], pa.string()),
        "default": pa.array([t.default for t in trials], pa.bool_()),
        "feasible": pa.array([t.feasible for t in trials], pa.bool_()),
    }
    for i, metric in enumerate(record.metrics):
        name = "objective" if len(record.metrics) == 1 else f"objective.{metric}"
        columns[name] = pa.array([t.objective[i] if t.objective else None for t in trials], pa.float64())
    for key in record.keys:
        columns[key] = _typed([t.values.get(key) for t in trials])
    for metric in dict.fromkeys(name for t in trials for name in t.metrics):
        columns[f"metrics.{metric}"] = pa.array([t.metrics.get(metric) for t in trials], pa.float64())
    for name in ("started", "ended"):
        times = [getattr(t, name) for t in trials]
        whole = [None if time is None else round(time * 1e3) for time in times]
        columns[name] = pa.array(whole, pa.timestamp("ms", tz="UTC"))
    columns["seconds"] = pa.array([t.seconds for t in trials], pa.float64())
    columns["device_seconds"] = pa.array([t.device_seconds for t in trials], pa.float64())
    columns["lost_seconds"] = pa.array([t.lost_seconds for t in trials], pa.float64())
    columns["interruptions"] = pa.array([len(t.interruptions) for t in trials], pa.int64())
    for name in ("reason", "job", "prior"):
        columns[name] = pa.array([getattr(t, name) or None for t in trials], pa.string())
    return pa.table(columns)


def _typed(values: list[Any]) -> pyarrow.Array:
    """A column of one type: bool, int64, float64, or text for all else, lists and mixtures included."""
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int} and kinds:
        return pa.array(values, pa.int64())
    if kinds <= {int, float} and kinds:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    return pa.array([None if value is None else text(value) for value in values], pa.string())
