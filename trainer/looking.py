"""A job's launcher for whoever looks at the job: nothing is called that only the job's own config names.

Built are the launchers that are installed here, and those of the jobs that this process has submitted itself. Of any other
job the state is what its directory says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trainer import known
from trainer.build import build
from trainer.carried import NOT_THERE
from trainer.config import load
from trainer.errors import UserError
from trainer.job import Job, Status
from trainer.signature import check

AS_TOLD = "as its directory tells: "  # how a status begins that nobody was asked for

_own: dict[Path, Any] = {}  # by the job's directory


def submitted(job: Job, launcher: Any) -> None:
    """From now on this process asks the launcher with which it submits a job about that job."""
    _own[job.dir] = launcher


def is_submitted(directory: Path) -> bool:
    """Whether this process has submitted the job of this directory."""
    return directory in _own


def launcher_of(job: Job) -> Any:
    """Who is to be asked about a job. Raises UserError if its config can't be read, or its launcher refuses its settings."""
    if job.dir in _own:
        return _own[job.dir]
    node: Any = load(job.config_path).get("launcher")
    target = str(node.get("_target_", "")) if isinstance(node, Mapping) else ""
    if not target or target not in known.targets("launcher"):
        return Stranger(target)
    return build(check(node, target, "launcher"), "launcher", fill=False)


def status_of(job: Job) -> Status:
    """How a job fares as its launcher knows it: a dead agent is noticed."""
    status: Status = launcher_of(job).status(job)
    return status


def notes(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """What a table of jobs, by `name` and `reason`, should say of those whose launcher could not be asked, or that S3 lacks."""
    return [f"{row['name']}: {row['reason']}" for row in rows if (row["reason"] or "").startswith((AS_TOLD, NOT_THERE))]


class Stranger:
    """Stands for a launcher that is not installed here."""

    def __init__(self, target: str) -> None:
        self.why = f"its launcher {target} is not installed here" if target else "its config names no launcher"

    def status(self, job: Job) -> Status:
        told = job.status()
        return Status(told.state, told.alive, f"{AS_TOLD}{self.why}")

    def stop(self, job: Job, *, now: bool = False) -> None:
        raise UserError(
            f"{job.name}: {self.why}, and nothing is run that only the job names; stop it with Ctrl-C where it was submitted, "
            f"or install the launcher (an entry point of the group headway.launchers)"
        )

    def logs(self, job: Job) -> list[Path]:
        return sorted(job.logs.glob("node-*.log"))
