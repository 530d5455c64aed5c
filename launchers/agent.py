"""The agent of a node: starts the workers under PyTorch's elastic agent and says how it went.

    python -m launchers.agent JOB_DIR --workers N

It holds a lock on the job's events.jsonl while it lives. Workers are forked from one process that has imported torch
once, while the agent itself starts: N workers, and every restart, pay for that import a single time.

Signals: INT stops the job in order (Stopped), TERM interrupts it in order (Interrupted), QUIT ends it now.
Exit codes: 0 completed, 1 failed, 2 failed by the user's mistake, 75 interrupted or stopped.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from trainer.config import load
from trainer.errors import UserError
from trainer.job import Job, State, read_json
from trainer.result import write_result

EX_TEMPFAIL = 75
POLL_SECONDS = 0.05
RESERVE_BYTES = 1 << 16
LEAVE_SECONDS = 3.0
GRACE_SECONDS = 120.0
TELL_SECONDS = 0.5


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m launchers.agent", description=__doc__.splitlines()[0])
    parser.add_argument("job", type=Path)
    parser.add_argument("--workers", type=int, required=True)
    args = parser.parse_args()
    job = Job(args.job)
    lock = hold(job)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # inherited: a worker that doesn't listen yet must not die of it
    start_workers_parent(load(job.config_path))
    try:
        return run(job, args.workers)
    finally:
        lock.close()


def hold(job: Job) -> Any:
    """The lock that says this job has an agent. Raises UserError if it has one already."""
    file = open(job.events_path, "a")  # noqa: SIM115 - held until the process ends
    for _ in range(20):  # who looks whether the job is alive holds it for a moment
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            time.sleep(0.05)
    file.close()
    raise UserError(f"{job.dir}: another agent is at work on this job; stop it first")


def start_workers_parent(config: dict[str, Any]) -> None:
    """Starts, without waiting, the process that workers are forked from; it imports what they all need."""
    # the first optimizer imports torch._dynamo, what builds objects from configs hydra.utils: here it costs once
    modules = ["trainer.worker.main", "torch._dynamo", "hydra.utils"]
    if str(config["data"].get("_target_", "")).rpartition(".")[2] not in ("Digits", "BreastCancer", "Npy"):
        modules.append("datasets")
    multiprocessing.set_forkserver_preload(modules)
    multiprocessing.forkserver.ensure_running()


class Stop:
    """What was asked of the agent by a signal: nothing yet, or a reason and how it should end."""

    def __init__(self) -> None:
        self.asked: State | None = None
        self.now = False
        self.reason = ""
        self._pids: list[int] = []
        self._patience: threading.Thread | None = None
        self._listen()

    def _listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        again = self.asked is not None and number == signal.SIGINT
        self.now = self.now or again or number == signal.SIGQUIT
        self.asked = State.STOPPED if number in (signal.SIGINT, signal.SIGQUIT) else State.INTERRUPTED
        self.reason = f"signal {signal.Signals(number).name}"
        self._tell()
        if not self.now and self._patience is None:
            self._patience = threading.Thread(target=self._lose_patience, daemon=True)
            self._patience.start()

    def _lose_patience(self) -> None:
        """Tells the workers again, as those that still start don't listen yet. Any left in the end are stuck."""
        end = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < end:
            time.sleep(TELL_SECONDS)
            self._tell()
        self.now = True
        self.reason += f"; the workers did not leave within {GRACE_SECONDS:.0f} s and were ended"
        self._tell()

    def watch(self, pids: list[int]) -> None:
        """From now on these workers are told."""
        self._listen()  # the elastic agent has put its own handlers in place, which kill
        self._pids = pids
        if self.asked:
            self._tell()

    def _tell(self) -> None:
        for pid in self._pids:
            try:
                os.kill(pid, signal.SIGKILL if self.now else signal.SIGUSR1)
            except ProcessLookupError:
                continue


class Patient:
    """The event that lets finished workers leave. To set it waits for all who wait on it, and so for ever if one of
    them was killed: it gets some seconds, then the elastic agent goes on and finds who is dead."""

    def __init__(self, event: Any) -> None:
        self._event = event

    def set(self) -> None:
        thread = threading.Thread(target=self._event.set, daemon=True)
        thread.start()
        thread.join(LEAVE_SECONDS)


def run(job: Job, workers: int) -> int:
    """Runs the job's workers to an end, writes the last event and result.json, and gives the exit code."""
    stop = Stop()
    started = time.time()
    job.reserve.write_bytes(b"\0" * RESERVE_BYTES)
    attempt = sum(1 for event in job.events() if event["state"] == State.STARTING)
    job.add_event(State.STARTING, attempt=attempt, workers=workers, pid=os.getpid(), host=socket.gethostname())
    ended, exit_codes = start(job, workers, attempt, stop)
    error = None
    outcome: dict[str, Any] = {}
    if not ended.is_failed():
        outcome = ended.return_values[0]
        state = State(outcome["state"])
        if state is State.INTERRUPTED and stop.asked is State.STOPPED:
            state = State.STOPPED
    elif stop.asked and stop.now:
        state = stop.asked
    else:
        state = State.FAILED
        error = first_error(job, attempt, exit_codes)
    reason = outcome.get("reason") or (error["message"] if error else stop.reason)
    job.reserve.unlink(missing_ok=True)
    # the result is written before the event: who sees a final state finds it
    result = write_result(job, state, attempt=attempt, error=error, wall=time.time() - started, outcome=outcome)
    user_error = bool(error and error.get("user_error"))
    job.add_event(state, attempt=attempt, reason=reason, step=result["steps"], user_error=user_error)
    if state is State.COMPLETED:
        return 0
    if state is State.FAILED:
        return 2 if user_error else 1
    return EX_TEMPFAIL


def start(job: Job, workers: int, attempt: int, stop: Stop) -> tuple[Any, dict[int, int]]:
    """Runs the workers under the elastic agent. Returns its result, and the exit codes of those that have left."""
    from torch.distributed.elastic.agent.server.api import WorkerSpec
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.rendezvous import RendezvousParameters
    from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

    from trainer.worker.entry import work

    class Agent(LocalElasticAgent):
        """The elastic agent, which tells `stop` whom to tell and ends workers without grace."""

        exit_codes: dict[int, int]

        def _start_workers(self, worker_group: Any) -> dict[int, Any]:
            pids = super()._start_workers(worker_group)
            context: Any = self._pcontext
            context._worker_finished_event = Patient(context._worker_finished_event)
            stop.watch(list(pids.values()))
            return pids

        def _monitor_workers(self, worker_group: Any) -> Any:
            monitored = super()._monitor_workers(worker_group)
            processes = self._pcontext._pc.processes  # type: ignore[union-attr]
            self.exit_codes = {i: p.exitcode for i, p in enumerate(processes) if p.exitcode is not None}
            return monitored

        def _shutdown(self, death_sig: signal.Signals = signal.SIGKILL, timeout: int = 5) -> None:
            super()._shutdown(signal.SIGKILL, timeout)

    # the elastic agent's own handlers kill; until they are replaced they must not hear the signals that we handle
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGURG"
    # one node for now: everything meets on the loopback
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    logging.getLogger("torch.distributed.elastic").setLevel(logging.ERROR)
    rendezvous = get_rendezvous_handler(
        RendezvousParameters(
            backend="c10d",
            endpoint="127.0.0.1:0",
            run_id=job.name,
            min_nodes=1,
            max_nodes=1,
            local_addr="127.0.0.1",
            is_host=True,
        )
    )
    spec = WorkerSpec(
        role="worker",
        local_world_size=workers,
        entrypoint=work,
        args=(str(job.dir), attempt),
        rdzv_handler=rendezvous,
        max_restarts=0,
        monitor_interval=POLL_SECONDS,
        local_addr="127.0.0.1",
    )
    agent = Agent(spec, DefaultLogsSpecs(), start_method="forkserver", shutdown_timeout=5)
    try:
        return agent.run(), getattr(agent, "exit_codes", {})
    finally:
        rendezvous.shutdown()


def first_error(job: Job, attempt: int, exit_codes: dict[int, int]) -> dict[str, Any]:
    """The error that came first: peers of a dead worker only report that they lost it."""
    errors = []
    for path in job.logs.glob(f"attempt-{attempt}-rank-*.error.json"):
        record = read_json(path)
        if record:
            errors.append(record)
    own = [e for e in errors if not e.get("lost_peer")]
    if own:
        return min(own, key=lambda e: e["time"])
    ended_by_us = -signal.SIGTERM
    for rank, code in sorted(exit_codes.items()):
        if code < 0 and code != ended_by_us:
            name = signal.Signals(-code).name
            hint = "; it may have run out of memory" if code == -signal.SIGKILL else ""
            return _death(job, attempt, rank, f"worker {rank} was ended by {name}{hint}")
    silent = {
        rank: code for rank, code in exit_codes.items() if code > 0 and not job.error_path(attempt, rank).exists()
    }
    for rank, code in sorted(silent.items()):
        return _death(job, attempt, rank, f"worker {rank} left with exit code {code}")
    if errors:
        return min(errors, key=lambda e: e["time"])
    return _death(job, attempt, 0, "the workers could not be started; see the agent's log node-0.log")


def _death(job: Job, attempt: int, rank: int, message: str) -> dict[str, Any]:
    log = str(job.log_path(attempt, rank))
    return {
        "type": "WorkerDied",
        "message": message,
        "rank": rank,
        "where": None,
        "log": log,
        "user_error": False,
    }


if __name__ == "__main__":
    try:
        code = main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # all is written: taking torch apart in order would cost whoever waits half a second
