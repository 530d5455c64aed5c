"""A job's launcher for whoever looks at the job: nothing is called that only the job's own config names.

Built are the launchers that are installed here, and those of the jobs that this process has submitted itself. Of any other
job the state is what its directory says.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.config import known
from trainer.config.code.signature import check
from trainer.config.instantiate import build
from trainer.config.schema import load
from trainer.errors import UserError
from trainer.job import submitted
from trainer.job.directory import AS_TOLD, Job, Status


def launcher_of(job: Job) -> Any:
    """Who is to be asked about a job. Raises UserError if its config can't be read, or its launcher refuses its settings."""
    if (own := submitted.launcher_of(job)) is not None:
        return own
    node: Any = load(job.config_path).get("launcher")
    target = str(node.get("_target_", "")) if isinstance(node, Mapping) else ""
    if not target or target not in known.targets("launcher"):
        return Stranger(target)
    return build(check(node, target, "launcher"), "launcher", fill=False)


def status_of(job: Job) -> Status:
    """How a job fares as its launcher knows it: a dead agent is noticed."""
    status: Status = launcher_of(job).status(job)
    return status


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
