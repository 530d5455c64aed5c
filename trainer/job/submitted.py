"""The jobs that this process has submitted itself, and the launchers with which it did: what they name is its user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.job.directory import Job

_own: dict[Path, Any] = {}  # by the job's directory


def keep(job: Job, launcher: Any) -> None:
    """From now on this process asks the launcher with which it submits a job about that job."""
    _own[job.dir] = launcher


def launcher_of(job: Job) -> Any | None:
    """None if this process has not submitted the job."""
    return _own.get(job.dir)


def is_own(directory: Path) -> bool:
    """Whether this process has submitted the job of this directory."""
    return directory in _own
