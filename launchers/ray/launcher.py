"""The Ray launcher: a placement group with a bundle for each node, in which an actor runs the node's agent.

A process of its own, `launchers.ray.driver`, talks to Ray; it is a child of whoever submits, or, detached, a job of the
cluster's (`ray job submit`). Here only the job's directory is read, in which it says how things stand.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from launchers import child
from launchers.base import Launcher, Plan, check_nodes
from trainer.algorithm import Range
from trainer.config import secret
from trainer.config.schema import load
from trainer.errors import HeadwayError, UserError, pip_install
from trainer.job.directory import Job, State, Status, read_hint, write_json
from trainer.job.node_state import process_lives
from trainer.job.records import moment, text, whole, wrong
from trainer.process.interpreter import safe

STANDING, ORDER, LOG = "ray.json", "ray-order.json", "ray.log"
SILENT_SECONDS = 30.0  # without a word from a driver on another machine, after which it is taken for dead
SUBMIT_SECONDS = 60.0
ASKS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)  # that a driver is told to leave by
QUEUED_SECONDS = 600.0  # that a cluster may take to start a detached job's driver


@dataclass(kw_only=True)
class Ray(Launcher):
    """Workers on the nodes of a Ray cluster that share this machine's folders."""

    # the cluster: auto for the one that this machine is in, HOST:PORT; null starts one here for the job's time
    address: str | None = None
    # agents to start, each in a bundle of its own, on different machines if there are enough
    nodes: Annotated[int, Range(min=1)] = 1
    # workers to start on each node: a number, or auto for one per GPU asked for, else one
    workers: Annotated[int, Range(min=1)] | Literal["auto"] = "auto"
    # nodes without which the job doesn't go on; null is all of them
    min_nodes: Annotated[int, Range(min=1)] | None = None
    # times that workers which died are started again without a newer checkpoint in between
    max_restarts: Annotated[int, Range(min=0)] = 3
    # who else gives notice of interruptions: auto, aws, gcp, azure, file:PATH. Ray's own are heard anyway
    notices: list[str] = field(default_factory=list)
    # processors of each node; null is one a worker
    cpus: Annotated[int, Range(min=1)] | None = None
    # GPUs of each node
    gpus: Annotated[int, Range(min=0)] = 0
    # other resources of each node: {accelerator_type:A100: 0.001}
    resources: dict[str, float] = field(default_factory=dict)
    _drivers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        check_nodes(self.nodes, self.min_nodes, self.notices)
        if self.workers != "auto" and self.gpus and self.workers > self.gpus:
            raise UserError(
                f"launcher.workers: {self.workers} workers need as many GPUs, and launcher.gpus is {self.gpus}"
            )

    def workers_per_node(self) -> int:
        return (self.gpus or 1) if self.workers == "auto" else self.workers

    def world_size(self) -> int:
        return self.nodes * self.workers_per_node()

    def bundle(self) -> dict[str, float]:
        """What a node is asked for."""
        asked = {"CPU": float(self.cpus or self.workers_per_node()), "GPU": float(self.gpus), **self.resources}
        return {kind: amount for kind, amount in asked.items() if amount}

    def plan(self, job: Job) -> Plan:
        command = [sys.executable, "-m", "launchers.ray.driver", str(job.dir), "--nodes", str(self.nodes)]
        command += ["--min-nodes", str(self.min_nodes or self.nodes), "--workers", str(self.workers_per_node())]
        command += [f"--{kind}={amount:g}" for kind, amount in (("cpus", self.bundle()["CPU"]), ("gpus", self.gpus))]
        command += [f"--resource={kind}={amount:g}" for kind, amount in self.resources.items()]
        command += ["--address", self.address] if self.address else []
        asked = ", ".join(f"{amount:g} {kind}" for kind, amount in self.bundle().items())
        return Plan(command, note=f"a placement group of {self.nodes} bundles of {asked}; its driver")

    def submit(self, job: Job, plan: Plan, *, detached: bool = False) -> None:
        job.logs.mkdir(parents=True, exist_ok=True)
        (job.dir / ORDER).unlink(missing_ok=True)
        if detached and self.address is None:
            raise UserError(
                "job.detach: a Ray that is started for the job ends with this command; give launcher.address"
            )
        if detached:
            self._submit_to_cluster(job, plan)
            return
        env = {**os.environ, **plan.env}
        driver = child.start(plan.command, job.logs / LOG, env)
        self._drivers[str(job.dir)] = driver
        standing = {"time": time.time(), "host": os.uname().nodename, "pid": driver.pid, "reason": "connects to Ray"}
        write_json(job.dir / STANDING, standing)

    def _submit_to_cluster(self, job: Job, plan: Plan) -> None:
        """As a Ray Job: the cluster runs the driver."""
        import shlex

        paths = os.environ.get("PYTHONPATH", "")
        settings = " ".join(f"{key}={shlex.quote(value)}" for key, value in {"PYTHONPATH": paths, **safe()}.items())
        command = f"cd {shlex.quote(os.getcwd())} && {settings} exec {shlex.join(plan.command)}"
        try:
            from ray.dashboard.utils import get_address_for_submission_client
            from ray.job_submission import JobSubmissionClient

            client = JobSubmissionClient(get_address_for_submission_client(self.address))
            number = client.submit_job(
                entrypoint=f"bash -c {shlex.quote(command)}",
                metadata={"job_name": job.name},
                runtime_env={"env_vars": secret.environment(load(job.config_path))},
            )
        except (ImportError, ConnectionError, RuntimeError, ValueError) as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"job.detach: the Ray at {self.address} takes no jobs ({said}); it needs its dashboard, "
                f"and {pip_install('ray')} here and there"
            ) from None
        write_json(job.dir / STANDING, {"time": time.time(), "ray_job": number, "reason": "waits for the cluster"})

    def status(self, job: Job) -> Status:
        event = job.last_event()
        state = job.state_of(event)
        driver = self._drivers.get(str(job.dir))
        standing = {} if job.is_copy() else read_hint(job.dir / STANDING)
        if wrong(standing, {"time": moment}, {"host": text, "pid": whole}):
            standing = {}  # lost with the machine's power: its driver is gone as well
        if driver is not None:
            alive = driver.poll() is None
        elif state is State.PENDING and float(event.get("time", 0.0)) > float(standing.get("time", 0.0)):
            if time.time() - float(event.get("time", 0.0)) < SUBMIT_SECONDS:
                return Status(state, bool(standing), "being submitted")
            alive = False
        elif standing.get("host") == os.uname().nodename:
            alive = process_lives(int(standing["pid"]))
        else:
            patience = SILENT_SECONDS if "host" in standing else QUEUED_SECONDS
            alive = bool(standing) and time.time() - float(standing["time"]) < patience
        if alive:
            waits = state in (State.PENDING, State.INTERRUPTED)
            return Status(State.PENDING if waits else state, True, str(standing.get("reason", "")) if waits else "")
        state = job.state()  # again: it may have ended meanwhile
        # told in its first moments, before it heeds that
        if state is State.PENDING and driver is not None and -driver.returncode in ASKS:
            return Status(State.INTERRUPTED, False, "left before it began")
        if state is State.PENDING:
            reason = str(standing.get("error") or "its driver ended before any agent started; `headway logs` tells why")
            return Status(State.FAILED, False, reason)
        return Status(State.INTERRUPTED if state.is_active else state, False)

    def stop(self, job: Job, *, now: bool = False) -> None:
        status = self.status(job)
        if not status.alive:
            raise UserError(f"{job.name} is not running; it is {status.state.value}")
        write_json(job.dir / ORDER, {"what": "now" if now else "stop"})

    def interrupt(self, job: Job, number: int) -> bool:
        driver = self._drivers.get(str(job.dir))
        if driver is None or driver.poll() is not None:
            return False
        driver.send_signal(number)
        return True

    def wait(self, job: Job, timeout: float = 30.0) -> None:
        """Until Ray has back what the job held."""
        super().wait(job, max(timeout, SILENT_SECONDS))
        driver = self._drivers.get(str(job.dir))
        if driver is not None:
            try:
                driver.wait(timeout)
            except subprocess.TimeoutExpired:
                raise HeadwayError(f"{job.name}: its driver did not leave within {timeout:.0f} s") from None

    def logs(self, job: Job) -> list[Path]:
        return [*super().logs(job), *([job.logs / LOG] if (job.logs / LOG).exists() else [])]
