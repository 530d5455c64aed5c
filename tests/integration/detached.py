"""A launcher whose agents are nobody's children, as those that a cluster starts: they outlive who submitted them."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from launchers.base import Plan
from launchers.local import Local
from trainer.job.directory import Job


@dataclass(kw_only=True)
class Detached(Local):
    """Agents on this machine, of init's."""

    def submit(self, job: Job, plan: Plan, *, detached: bool = False) -> None:
        job.logs.mkdir(parents=True, exist_ok=True)
        with open(job.logs / "node-0.log", "ab") as log:
            subprocess.run(
                ["setsid", "--fork", *plan.command],
                env={**os.environ, **plan.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
            )
