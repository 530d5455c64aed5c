"""best.yaml: the best trial's config as one that `headway train` composes, to train it again."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

from trainer.config.schema import dump, load_job
from trainer.errors import UserError
from trainer.process.format import figure, short_path
from trainer.tuning.record import StudyRecord, Trial

NAME = "best"
# what conf/config.yaml tells Hydra, which composes this in its stead
HEAD: dict[str, Any] = {
    "defaults": [
        "headway_schema",
        "_self_",
        {"override hydra/job_logging": "none"},
        {"override hydra/hydra_logging": "none"},
    ],
    "hydra": {
        "output_subdir": None,
        "run": {"dir": "."},
        "sweep": {"dir": ".", "subdir": "."},
        "job": {"chdir": False},
    },
}


def write_best(record: StudyRecord) -> Path | None:
    """Writes best.yaml into the study's directory; None, and nothing written, as long as no trial's job is the best, or if
    that job's config is damaged.

    What it trains is exactly that trial: the same config and seed; only its name and directory are its own.
    """
    trial = record.best()
    job = record.job(trial) if trial else None
    if trial is None or job is None or not job.exists():
        return None
    try:
        config = load_job(job.config_path)
    except UserError:
        return None
    config["job"] = {**config.get("job", {}), "name": None, "dir": None}
    path = record.dir / f"{NAME}.yaml"
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(f"{_comment(record, trial)}{dump({**HEAD, **_escaped(config)})}", encoding="utf-8")
    os.replace(beside, path)
    return path


def command(record: StudyRecord) -> str:
    """What one types to train the best trial again."""
    return f"headway train --config-dir {shlex.quote(short_path(record.dir))} --config-name {NAME}"


def model_of(record: StudyRecord, trial: Trial) -> str | None:
    """Where a trial's model is; None if it left none."""
    job = record.job(trial)
    try:
        told = (job.result() or {}).get("model") if job else None
    except UserError:
        told = None  # damaged
    if told and "://" in told:
        return str(told)
    return str(job.model) if job and job.model.is_dir() else None  # the study's directory may have been moved


def _comment(record: StudyRecord, trial: Trial) -> str:
    values = ", ".join(f"{m} {figure(v)}" for m, v in zip(record.metrics, trial.objective or (), strict=False))
    more = " (the best by the first metric; the others of the front are in report.html)" if record.metrics[1:] else ""
    lines = [
        f"The best trial of the study {record.name}: trial {trial.number}, {values}{more}",
        f"its model: {model_of(record, trial) or '-'}",
        f"headway train --config-dir {shlex.quote(str(record.dir))} --config-name {NAME}",
    ]
    if record.scheduler == "pbt" and trial.parent is not None:
        lines.append(
            f"it went on from trial {trial.parent}, with other settings: trained from the start it will differ"
        )
    return "".join(f"# {' '.join(line.splitlines())}\n" for line in lines)


def _escaped(value: Any) -> Any:
    """Text that would be read as an interpolation is meant as it stands: it was resolved when the job was composed."""
    if isinstance(value, dict):
        return {key: _escaped(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_escaped(part) for part in value]
    return value.replace("${", "\\${") if isinstance(value, str) else value
