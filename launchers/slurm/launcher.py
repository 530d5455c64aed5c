"""The SLURM launcher: one batch job, in which srun starts one agent on each node.

The batch job keeps its number over every interruption: preempted, warned of its time limit or bereft of a node it is queued
again (see `launchers.slurm_end`), and goes on from its newest checkpoint.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

from launchers.base import Launcher, Plan, check_nodes
from launchers.slurm import queue
from launchers.slurm.script import (
    ANYWHERE,
    ARRAY,
    SCRIPT,
    array_script,
    asked_of,
    check_options,
    check_setup,
    pattern,
    script,
)
from launchers.slurm.states import status_of
from launchers.slurm.time_limit import limit as limit
from launchers.slurm.time_limit import warning_of
from trainer.algorithm import Range
from trainer.config.schema import seconds
from trainer.errors import DamagedFile, HeadwayError, UserError
from trainer.job import records
from trainer.job.directory import Job, State, Status, read_json, write_json
from trainer.job.remote import send
from trainer.job.remote.download import bring, tried

NUMBER = "slurm.json"  # in the job's directory: the batch job that has it, and since when
# longer than SLURM takes to see that a node is gone, which is 300 s if not set otherwise: until then it would choose it again
PATIENCE_SECONDS = 420
SUBMIT_SECONDS = 60.0  # between the event that says a job goes on and the batch job that does it


@dataclass(kw_only=True)
class Slurm(Launcher):
    """Workers on the nodes of a SLURM cluster. They share this machine's folders, or the job's directory is on S3."""

    apart: ClassVar[bool] = True
    of_sweeps: ClassVar[frozenset[str]] = frozenset({"array"})
    # nodes of the batch job
    nodes: Annotated[int, Range(min=1)] = 1
    # workers to start on each node: a number, or auto for one per GPU asked for, else one
    workers: Annotated[int, Range(min=1)] | Literal["auto"] = "auto"
    # nodes without which the job doesn't go on; null is all of them
    min_nodes: Annotated[int, Range(min=1)] | None = None
    # times that workers which died are started again without a newer checkpoint in between
    max_restarts: Annotated[int, Range(min=0)] = 3
    # who else gives notice of interruptions: auto, aws, gcp, azure, file:PATH
    notices: list[str] = field(default_factory=list)
    # the partition; here as below null leaves an option of sbatch to the cluster
    partition: str | None = None
    # whom its time is charged to
    account: str | None = None
    # the quality of service
    qos: str | None = None
    # the time limit: 4h, 90m, or as SLURM has it, 1-12:00:00 or UNLIMITED. Over it the job goes on by itself
    time: Any = None
    # GPUs of each node: a number, or a type and a number, a100:4
    gpus: Any = None
    # other resources of each node, as SLURM has them: gpu:a100:4,nvme:1
    gres: str | None = None
    # processors of each node; null is one a worker
    cpus: Annotated[int, Range(min=1)] | None = None
    # memory of each node: 64G
    mem: str | None = None
    # features that nodes must have
    constraint: str | None = None
    # a reservation to run in
    reservation: str | None = None
    # nodes that no other job uses
    exclusive: bool = False
    # a sweep with hydra/launcher=headway becomes one job array
    array: bool = False
    # any other option of sbatch: {nice: 100, comment: try}
    extra: dict[str, Any] = field(default_factory=dict)
    # options of srun: {container-image: FILE}
    srun: dict[str, Any] = field(default_factory=dict)
    # lines of shell before the agents start: module load, conda activate, export
    setup: list[str] = field(default_factory=list)
    # the Python there; null is this one
    python: str | None = None
    # how long before the time limit the state is saved and the job queued again: 2m, or a quarter of the limit if that is less
    warning: Any = "auto"

    def __post_init__(self) -> None:
        check_nodes(self.nodes, self.min_nodes, self.notices)
        limit(self.time)
        check_options("launcher.extra", self.extra)
        check_options("launcher.srun", self.srun)
        check_setup(self.setup)
        if self.warning != "auto":
            seconds(self.warning, "launcher.warning")
        self.workers_per_node()

    def workers_per_node(self) -> int:
        """Raises UserError if `gpus` and `workers` don't go together."""
        gpus = gpus_of(self.gpus, self.gres)
        if self.workers == "auto":
            return gpus or 1
        if gpus and self.workers > gpus:
            raise UserError(f"launcher.workers: {self.workers} workers need as many GPUs, and launcher.gpus is {gpus}")
        return self.workers

    def world_size(self) -> int:
        return self.nodes * self.workers_per_node()

    def options(self, job: Job) -> dict[str, Any]:
        """What goes into `#SBATCH` lines, in their order."""
        given = {
            "job-name": job.name,
            "nodes": self.nodes,
            "ntasks-per-node": 1,
            "cpus-per-task": self.cpus or (None if self.exclusive else self.workers_per_node()),
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "time": limit(self.time),
            "gpus-per-node": self.gpus,
            "gres": self.gres,
            "mem": self.mem,
            "constraint": self.constraint,
            "reservation": self.reservation,
            "exclusive": self.exclusive or None,
            "signal": f"USR1@{self._warning()}",
            "requeue": True,
            "no-kill": True if self._may_lose_nodes() else None,
            "open-mode": "append",
            "output": f"{ANYWHERE}/headway-%j.log" if job.url else pattern(job.logs, "slurm-%j.log"),
        }
        return {key: value for key, value in {**given, **self.extra}.items() if value not in (None, False)}

    def _warning(self) -> int:
        return warning_of(self.warning, self.time, self.partition)

    def _may_lose_nodes(self) -> bool:
        return (self.min_nodes or self.nodes) < self.nodes

    def plan(self, job: Job) -> Plan:
        env = {"HEADWAY_SLURM_WARNING": str(self._warning())}
        agent = ["--workers", str(self.workers_per_node())]
        if self.nodes > 1:
            agent += ["--nodes", str(self.nodes), "--min-nodes", str(self.min_nodes or self.nodes)]
            agent += ["--patience", str(PATIENCE_SECONDS)]
        text = script(job, self.options(job), self.setup, self.srun, self.python or sys.executable, env, agent)
        path = job.dir / SCRIPT
        return Plan(["sbatch", "--parsable", str(path)], note="a batch job", files={str(path): text})

    def submit(self, job: Job, plan: Plan, *, detached: bool = False) -> None:
        job.logs.mkdir(parents=True, exist_ok=True)
        for path, text in plan.files.items():
            queue.write(path, text)
        before = time.time()
        number = queue.sbatch(plan.command, plan.env).partition(";")[0]
        self._keep(job, number, before)

    def _keep(self, job: Job, number: str, time: float) -> None:
        write_json(job.dir / NUMBER, {"id": number, "time": time, "dir": str(job.dir)})
        if job.url:
            send.keep(job, job.dir / NUMBER, job.dir / SCRIPT)

    def _known(self, job: Job) -> dict[str, Any]:
        """The batch job's number, and since when; that of a job of which this one is a copy is not its own.
        Raises DamagedFile."""
        path = job.dir / NUMBER
        known = read_json(path) or {"id": None, "time": 0.0}
        kinds = {"id": records.maybe(records.text), "time": records.moment}
        if problem := records.wrong(known, kinds, {"dir": records.maybe(records.text)}):
            raise DamagedFile(
                path, f"{problem}; `squeue` tells whether its batch job is there; if not, delete this file"
            )
        return {"id": None, "time": 0.0} if job.is_copy(known.get("dir")) else known

    def takes_many(self, jobs: Sequence[tuple[Job, Plan]]) -> bool:
        """An array's tasks have all the same options."""
        asked = {tuple(asked_of(text)) for _, plan in jobs for text in plan.files.values()}
        return self.array and len(jobs) > 1 and len(asked) == 1

    def submit_many(self, jobs: Sequence[tuple[Job, Plan]], parallel: int) -> None:
        scripts = {path: text for _, plan in jobs for path, text in plan.files.items()}
        for path, text in scripts.items():
            queue.write(path, text)
        folder = jobs[0][0].dir.parent
        together = folder / ARRAY
        queue.write(str(together), array_script(folder.name, list(scripts.items()), parallel))
        before = time.time()
        number = queue.sbatch(["sbatch", "--parsable", str(together)], jobs[0][1].env).partition(";")[0]
        for task, (job, _) in enumerate(jobs):
            self._keep(job, f"{number}_{task}", before)

    def status(self, job: Job) -> Status:
        trouble = tried(job)
        status = self._status(job)
        return replace(status, reason=trouble) if trouble and status.alive and not status.reason else status

    def _status(self, job: Job) -> Status:
        event = job.last_event()
        state = job.state_of(event)
        known = self._known(job)
        since = float(event.get("time", 0.0))
        on_its_way = state is State.PENDING and since > float(known["time"])
        if on_its_way and time.time() - since < SUBMIT_SECONDS:
            return Status(state, known["id"] is not None, "being submitted")
        if state.is_final or known["id"] is None or on_its_way:
            return Status(State.INTERRUPTED if state.is_active else state, False)
        left = (
            since if state is State.INTERRUPTED else 0.0
        )  # a look from before tells of the batch job that ended with it
        record, silence = queue.record(str(known["id"]), since=max(float(known["time"]), left))
        if silence:  # a controller that restarts has lost no job
            return Status(state, True, silence)
        status = status_of(record, state, again=0.0 < left < float(known["time"]))
        if not status.alive:
            bring(job, every=0.0)
        if not status.alive and job.state() is not state:  # the agents' last word came meanwhile
            return self._status(job)
        return status

    def stop(self, job: Job, *, now: bool = False) -> None:
        status = self.status(job)
        if not status.alive:
            raise UserError(f"{job.name} is not running; it is {status.state.value}")
        number = self._known(job)["id"]
        if number is None:
            raise HeadwayError(f"{job.name} is being submitted; try again in a moment")
        if not re.fullmatch(r"\d+(_\d+)?", str(number)):  # else an option of scancel's, or more jobs than one
            raise UserError(f"{job.dir / NUMBER}: {number!r} is no batch job's number; stop it with scancel")
        if job.state() is State.RUNNING:
            queue.scancel("--signal=QUIT" if now else "--signal=INT", str(number))
        else:  # nothing is lost
            queue.scancel(str(number))

    def logs(self, job: Job) -> list[Any]:
        return [*super().logs(job), *sorted(job.logs.glob("slurm-*.log"))[-1:]]


def gpus_of(gpus: Any, gres: str | None) -> int:
    """GPUs of a node, by launcher.gpus or launcher.gres; 0 if none are asked for."""
    named = str(gpus) if gpus is not None else next((g for g in (gres or "").split(",") if g.startswith("gpu")), "")
    number = re.search(r"(?:^|:)(\d+)(?:\(|$)", named)
    if number:
        return int(number[1])
    if gpus is not None:
        raise UserError(f"launcher.gpus: {gpus!r} is no number of GPUs; write 4, or a100:4")
    return 1 if named else 0
