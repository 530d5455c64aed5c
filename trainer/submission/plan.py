"""The request for a placed job, as its launcher will send it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.job.directory import Job
from trainer.submission.place import Placed


@dataclass(frozen=True)
class Planned:
    """A job that can be submitted as it is.

    together: the configs of a sweep, whose code this job takes for all; like: the directory of the one that does.
    """

    placed: Placed
    plan: Any
    together: Sequence[Mapping[str, Any]] = ()
    like: Path | None = None

    @property
    def job(self) -> Job:
        return self.placed.job

    @property
    def config(self) -> dict[str, Any]:
        return self.placed.config

    @property
    def launcher(self) -> Any:
        return self.placed.launcher

    @property
    def agents_are_apart(self) -> bool:
        """Whether they work in folders of their own, and see of this machine only what is sent to where the job lies."""
        return bool(getattr(self.launcher, "apart", False))


def plan(placed: Placed) -> Planned:
    """Raises UserError for what the launcher can't have."""
    return Planned(placed, placed.launcher.plan(placed.job))
