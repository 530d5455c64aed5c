"""What a launcher is: it brings up a job's agents somewhere, tells how they fare, and stops them.

Nothing in it knows what is trained. The request is a printable `Plan`, made first and sent as it is.
"""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from trainer.job import Job, State


@dataclass(frozen=True)
class Plan:
    """What will be asked of the backend: one command, with the environment variables it adds."""

    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    note: str = ""

    def __str__(self) -> str:
        lines = [f"# {self.note}"] if self.note else []
        lines += [f"{key}={shlex.quote(value)} \\" for key, value in sorted(self.env.items())]
        return "\n".join([*lines, shlex.join(self.command)])


class Launcher(ABC):
    """Constructor arguments are the config keys under `launcher.`."""

    # whether the workers run on the machine that submits, and so take of what it has
    runs_here: ClassVar[bool] = False

    @abstractmethod
    def world_size(self) -> int | None:
        """Workers over all nodes; None if that is known only once the job runs."""

    @abstractmethod
    def plan(self, job: Job) -> Plan:
        """The request for this job. Raises UserError for what can't be had here."""

    @abstractmethod
    def submit(self, job: Job, plan: Plan) -> None:
        """Sends the plan; returns once the backend has taken it."""

    @abstractmethod
    def state(self, job: Job) -> State:
        """The job's state, also when those who should write it are dead."""

    @abstractmethod
    def stop(self, job: Job, *, now: bool = False) -> None:
        """Asks the job to stop in order, its state saved; `now` ends it at once."""
