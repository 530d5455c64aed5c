"""What a launcher is: it brings up a job's agents somewhere, tells how they fare, and stops them.

Nothing in it knows what is trained. The request is a printable `Plan`, made first and sent as it is.
"""

from __future__ import annotations

import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from launchers.notices.notices import problem
from trainer.errors import HeadwayError, UserError
from trainer.job.directory import Job, State, Status

LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Plan:
    """What will be asked of the backend: one command, the environment variables it adds, the files it needs."""

    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    note: str = ""
    files: dict[str, str] = field(default_factory=dict)  # by path: what is written there first

    def __str__(self) -> str:
        lines = [f"# {self.note}"] if self.note else []
        lines += [f"{key}={shlex.quote(value)} \\" for key, value in sorted(self.env.items())]
        lines.append(shlex.join(self.command))
        for path, text in self.files.items():
            lines += ["", f"# {path}", text.rstrip()]
        return "\n".join(lines)


def check_nodes(nodes: int, min_nodes: int | None, notices: list[str]) -> None:
    """What every launcher of agents checks first. Raises UserError."""
    if min_nodes is not None and min_nodes > nodes:
        raise UserError(f"launcher.min_nodes: {min_nodes} is more than launcher.nodes={nodes}")
    wrong = problem(notices)
    if wrong:
        raise UserError(wrong)


class Launcher(ABC):
    """Constructor arguments are the config keys under `launcher.`. What a launcher must keep is stated, and can be
    tried, by `trainer.testing.launchers`."""

    # whether the workers run on the machine that submits, and so take of what it has
    runs_here: ClassVar[bool] = False
    # whether the agents of a job on S3 work in folders of their own, and see of this machine only what is there
    apart: ClassVar[bool] = False
    of_sweeps: ClassVar[frozenset[str]] = frozenset()  # settings that only a sweep's jobs side by side make use of

    @abstractmethod
    def world_size(self) -> int | None:
        """Workers over all nodes; None if that is known only once the job runs."""

    @abstractmethod
    def plan(self, job: Job) -> Plan:
        """The request for this job. Raises UserError for what can't be had here."""

    @abstractmethod
    def submit(self, job: Job, plan: Plan, *, detached: bool = False) -> None:
        """Sends the plan; returns once the backend has taken it. A detached job outlives who submitted it."""

    def takes_many(self, jobs: Sequence[tuple[Job, Plan]]) -> bool:
        """Whether one request can submit all these jobs."""
        return False

    def submit_many(self, jobs: Sequence[tuple[Job, Plan]], parallel: int) -> None:
        """Submits them, detached, so that so many run at a time. Called only if it `takes_many`."""
        raise NotImplementedError

    @abstractmethod
    def status(self, job: Job) -> Status:
        """How the job fares, also when those who should write that down are dead. From any process, at any time."""

    @abstractmethod
    def stop(self, job: Job, *, now: bool = False) -> None:
        """Asks the job to stop in order, its state saved; `now` ends it at once. Raises UserError if it is not alive."""

    def interrupt(self, job: Job, number: int) -> bool:
        """Whoever submitted the job has to go, told by this signal. Asks those at work to leave, the state saved, if they go with
        that one; False if the job goes on without it."""
        return False

    def logs(self, job: Job) -> list[Path]:
        """Files that tell what happened where workers have left none: the agents', and the backend's own."""
        return sorted(job.logs.glob("node-*.log"))

    def state(self, job: Job) -> State:
        return self.status(job).state

    def is_alive(self, job: Job) -> bool:
        return self.status(job).alive

    def wait(self, job: Job, timeout: float = 30.0) -> None:
        """Waits until the backend has no more of the job. Raises HeadwayError if it still has after so many seconds."""
        end = time.monotonic() + timeout
        while self.is_alive(job):
            if time.monotonic() > end:
                raise HeadwayError(f"{job.name}: its agents did not leave within {timeout:.0f} s")
            time.sleep(LOOK_SECONDS)
