"""The launcher of one host among several on each of which the same command was started, as SageMaker starts containers.

The job is on S3, where the hosts' agents meet; only the first host's command writes it down and follows it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from launchers import child
from launchers.base import Launcher, Plan, check_nodes
from launchers.local import gpus
from trainer.algorithm import Range
from trainer.errors import UserError
from trainer.job.directory import Job, State, Status
from trainer.job.remote.download import tried


@dataclass(kw_only=True)
class Hosts(Launcher):
    """Workers on several hosts, each of which runs the same command."""

    apart: ClassVar[bool] = True
    # how many hosts there are
    nodes: Annotated[int, Range(min=1)]
    # the name or address of another one
    other: str
    # which of them this is, from 0
    node: Annotated[int, Range(min=0)] = 0
    # workers to start on each: a number, or auto for one per GPU, else one
    workers: Annotated[int, Range(min=1)] | Literal["auto"] = "auto"
    # hosts without which the job doesn't go on; null is all of them
    min_nodes: Annotated[int, Range(min=1)] | None = None
    # times that workers which died are started again without a newer checkpoint in between
    max_restarts: Annotated[int, Range(min=0)] = 3
    # who else gives notice of interruptions: auto, aws, gcp, azure, file:PATH
    notices: list[str] = field(default_factory=list)
    _agent: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        check_nodes(self.nodes, self.min_nodes, self.notices)

    def workers_here(self) -> int:
        return (len(gpus()) or 1) if self.workers == "auto" else self.workers

    def world_size(self) -> int:
        return self.nodes * self.workers_here()

    def plan(self, job: Job) -> Plan:
        if job.url is None:
            raise UserError(
                "job.dir: several hosts have no folder in common; put the job on S3, job.dir=s3://BUCKET/FOLDER"
            )
        command = [sys.executable, "-m", "launchers.agent", job.url, "--workers", str(self.workers_here())]
        command += ["--node", str(self.node), "--nodes", str(self.nodes)]
        command += ["--min-nodes", str(self.min_nodes or self.nodes), "--towards", self.other]
        return Plan(command, note="this host's agent")

    def submit(self, job: Job, plan: Plan, *, detached: bool = False) -> None:
        if detached:
            raise UserError("job.detach: the job's hosts end with the commands that they were started for")
        job.logs.mkdir(parents=True, exist_ok=True)
        log = job.logs / f"node-{self.node}.log"
        self._agent = child.start(plan.command, log, {**os.environ, **plan.env})

    def status(self, job: Job) -> Status:
        alive = self._agent is not None and self._agent.poll() is None
        trouble = tried(job) if alive else tried(job, every=0.0)
        state = job.state()
        if alive:
            return Status(State.STARTING if state is State.PENDING else state, True, trouble)
        return Status(state if state.is_final else State.INTERRUPTED, False)

    def stop(self, job: Job, *, now: bool = False) -> None:
        if self._agent is None or self._agent.poll() is not None:
            raise UserError(f"{job.name} is not running here; it is {job.state().value}")
        self._agent.send_signal(signal.SIGQUIT if now else signal.SIGINT)

    def interrupt(self, job: Job, number: int) -> bool:
        if self._agent is None or self._agent.poll() is not None:
            return False
        self._agent.send_signal(number)
        self._agent.send_signal(signal.SIGCONT)
        return True
