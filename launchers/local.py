"""The local launcher: one agent on this machine, a child of whoever submits."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from launchers import child
from launchers.agent.attempts import note_death
from launchers.agent.warm_pool import Run, Warm, of_this_process
from launchers.base import Launcher, Plan, check_nodes
from trainer.algorithm import Range
from trainer.errors import DamagedFile, ExitCode, HeadwayError, UserError
from trainer.job.carried import is_under_way
from trainer.job.directory import Job, State, Status
from trainer.job.node_state import job_of
from trainer.process import clock, plain_file

AGENT_START_SECONDS = 30
LOOK_SECONDS = 0.02
NOW_SECONDS = 5.0  # for agents to end a job at once, before they are ended themselves


def gpus() -> list[str]:
    """The GPUs that workers here could use, as CUDA_VISIBLE_DEVICES names them; found without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [d.strip() for d in visible.split(",") if d.strip() and d.strip() != "-1"]
    devices = (
        [d for d in os.listdir("/dev") if d.startswith("nvidia") and d[6:].isdigit()] if os.path.isdir("/dev") else []
    )
    return [str(number) for number in range(len(devices))]


def agent_is_alive(job: Job) -> bool:
    """Whether an agent on this machine holds the job: it keeps a lock on events.jsonl while it lives."""
    try:
        with plain_file.opened(job.events_path) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, DamagedFile):  # it isn't there, or is no file
        return False
    return False


def _is_agent(pid: int) -> bool:
    """Whether a process is an agent: the number comes from the job's directory, where it may be anyone's."""
    try:
        return b"launchers.agent" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _tell(pids: Sequence[int], number: int) -> None:
    """Signals processes, and wakes those that somebody has stopped, as else they would not hear."""
    for pid in pids:
        for each in (number, signal.SIGCONT):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, each)


def kill(job: Job, agents: Sequence[int]) -> None:
    """Ends all that is at work on a job on this machine, whatever state it is in: its agents, and what they have started."""
    everyone = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    for pid in [*agents, *(pid for pid in everyone if job_of(pid) == job.dir.resolve())]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@dataclass(kw_only=True)
class Local(Launcher):
    """Workers on this machine."""

    runs_here = True

    # workers to start: a number, or auto for one per GPU, else one
    workers: Annotated[int, Range(min=1)] | Literal["auto"] = "auto"
    # agents to start, each with so many workers, as if this machine were several: to try what a cluster does
    nodes: Annotated[int, Range(min=1)] = 1
    # nodes without which the job doesn't go on; null is all of them
    min_nodes: Annotated[int, Range(min=1)] | None = None
    # times that workers which died are started again without a newer checkpoint in between
    max_restarts: Annotated[int, Range(min=0)] = 3
    # who gives notice of interruptions: auto (the cloud this machine is in, if any), aws, gcp, azure, file:PATH
    notices: list[str] = field(default_factory=lambda: ["auto"])
    _agents: dict[str, list[subprocess.Popen[bytes] | Run]] = field(default_factory=dict, init=False, repr=False)
    _warm: Warm | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        check_nodes(self.nodes, self.min_nodes, self.notices)

    def world_size(self) -> int:
        return self.nodes * self._workers()

    def _workers(self) -> int:
        """Of each node. Several nodes have the machine's GPUs in parts: two workers of a job can't share one."""
        here = len(gpus())
        if self.workers == "auto" and here >= self.nodes:
            return here // self.nodes
        workers = 1 if self.workers == "auto" else self.workers
        if here and self.nodes * workers > here:
            many = f"{self.nodes} nodes of {workers}" if self.nodes > 1 else str(workers)
            key = "launcher.nodes" if self.nodes > 1 else "launcher.workers"
            raise UserError(
                f"{key}: {many} workers need as many GPUs, and this machine has {here}; "
                f"lower {key}, or hide the GPUs with CUDA_VISIBLE_DEVICES= to train on the CPU"
            )
        return workers

    def _part(self, node: int) -> dict[str, str]:
        """What tells a node's agent which of the machine's GPUs are its own."""
        if self.nodes == 1 or not gpus():
            return {}
        each = self._workers()
        return {"CUDA_VISIBLE_DEVICES": ",".join(gpus()[node * each : (node + 1) * each])}

    def plan(self, job: Job) -> Plan:
        command = [
            sys.executable,
            "-m",
            "launchers.agent",
            str(job.dir),
            "--workers",
            str(self._workers()),
        ]
        if self.nodes > 1:
            command += ["--nodes", str(self.nodes), "--min-nodes", str(self.min_nodes or self.nodes)]
            return Plan(command, note=f"the agents, on this machine, each with --node 0 to {self.nodes - 1}")
        return Plan(command, note="the agent, on this machine")

    def keep_warm(self) -> None:
        """From now on a job's agent stays for the next job that this process submits, which so begins at once.

        For jobs on one node. An agent that waits takes the memory of two Pythons with torch, until this process ends.
        """
        self._warm = of_this_process()

    def submit(self, job: Job, plan: Plan, *, detached: bool = False) -> None:
        job.logs.mkdir(parents=True, exist_ok=True)
        if self._warm is not None and self.nodes == 1 and not detached:
            run = self._warm.run(plan.command, {**os.environ, **plan.env}, job.logs / "node-0.log")
            self._agents[str(job.dir)] = [run]
            return
        self._agents[str(job.dir)] = []
        for node in range(self.nodes):
            command = [*plan.command, "--node", str(node)] if self.nodes > 1 else plan.command
            env = {**os.environ, **plan.env, **self._part(node)}
            agent = child.start(command, job.logs / f"node-{node}.log", env, detached=detached)
            self._agents[str(job.dir)].append(agent)

    def is_alive(self, job: Job) -> bool:
        """Whether an agent is at work, be it a child of this process or of another on this machine."""
        own = [agent.poll() is None for agent in self._agents.get(str(job.dir), [])]
        return any(own) or ((not own or len(own) > 1) and agent_is_alive(job))

    def status(self, job: Job) -> Status:
        state = job.state()
        if self.is_alive(job):
            return Status(state, True)
        event = job.last_event()  # again: it may have ended meanwhile
        state = job.state_of(event)
        if state.is_active and (failed := self._failed(job)) is not None:
            return failed
        if state is State.PENDING and event and clock.seconds(event, clock.now()) < AGENT_START_SECONDS:
            return Status(state, not self._agents.get(str(job.dir)))
        return Status(State.INTERRUPTED if state.is_active else state, False)

    def _failed(self, job: Job) -> Status | None:
        """How a job stands whose agents have left with an error and could not say so, as on a full disk; None of any other."""
        codes = [agent.poll() for agent in self._agents.get(str(job.dir), [])]
        if None in codes or not {ExitCode.FAILED, ExitCode.MISTAKE} & {*codes} or agent_is_alive(job):
            return None
        return Status(State.FAILED, False, f"its agent failed and could not say why there: {job.logs}/node-0.log does")

    def stop(self, job: Job, *, now: bool = False) -> None:
        pids = [agent.pid for agent in self._agents.get(str(job.dir), []) if agent.poll() is None]
        pids = pids or [pid for pid in [self._agent_pid(job)] if pid is not None]
        if not pids:
            raise UserError(f"{job.name} is not running; it is {self.state(job).value}")
        _tell(pids if now else pids[:1], signal.SIGQUIT if now else signal.SIGINT)
        end = time.monotonic() + NOW_SECONDS
        while now and self.is_alive(job):
            time.sleep(LOOK_SECONDS)
            if time.monotonic() > end:
                kill(job, pids)
                return

    def interrupt(self, job: Job, number: int) -> bool:
        agents = [agent for agent in self._agents.get(str(job.dir), []) if agent.poll() is None]
        _tell([agent.pid for agent in agents], number)
        return bool(agents)

    def _agent_pid(self, job: Job) -> int | None:
        """Of the agent of a job that another process submitted."""
        if not agent_is_alive(job):
            return None
        events = job.events()  # after that: an agent that has ended a job may be at work on another one
        pids = [int(event["pid"]) for event in events if "pid" in event]
        at_work = pids and (not job.state_of(events[-1]).is_final or is_under_way(job.dir))
        known = pids[-1] if at_work else None
        return known if known is not None and _is_agent(known) else None

    def wait(self, job: Job, timeout: float = 30.0) -> None:
        """Waits until the agent has left. Raises HeadwayError if it doesn't."""
        end, agents = time.monotonic() + timeout, self._agents.get(str(job.dir), [])
        while self.is_alive(job):
            if time.monotonic() > end:
                raise HeadwayError(f"{job.name}: its agent did not leave within {timeout:.0f} s")
            lives = next((agent for agent in agents if agent.poll() is None), None)
            with contextlib.suppress(subprocess.TimeoutExpired):
                if lives:
                    lives.wait(LOOK_SECONDS)
                else:
                    time.sleep(LOOK_SECONDS)
        for agent in agents:
            agent.wait()
        if any(agent.wait() < 0 for agent in agents):
            note_death(job)
