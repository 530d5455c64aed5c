"""Which of the workers' errors is the job's: what came first, as peers of a dead worker only report that they lost it."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Mapping
from typing import Any

from trainer.job import remedies
from trainer.job.directory import Job, read_hint
from trainer.job.records import number, text, wrong
from trainer.process import memory, shared_memory
from trainer.process.format import size


def first_error(job: Job, attempt: int, exit_codes: dict[int, int], problem: str = "") -> dict[str, Any]:
    """The error that came first. `kind`: how a worker died that could not say so; `lost_peer`: only others are to blame.

    problem: of whoever was to start the workers, in its words.
    """
    errors = []
    for path in job.logs.glob(f"attempt-{attempt}-rank-*.error.json"):
        record = read_hint(path)
        if wrong(record, {"time": number, "message": text}, {}) is None:
            errors.append(record)
    own = [e for e in errors if not e.get("lost_peer")]
    if own:
        return min(own, key=lambda e: e["time"])
    ended_by_us = -signal.SIGTERM
    for rank, code in sorted(exit_codes.items()):
        if code < 0 and code != ended_by_us:
            name = signal.Signals(-code).name
            if code == -signal.SIGBUS:
                return _of_shared_memory(job, attempt, rank)
            hint = "; it may have run out of memory" if code == -signal.SIGKILL else ""
            return _death(job, attempt, rank, f"worker {rank} was ended by {name}{hint}", name)
    silent = {
        rank: code for rank, code in exit_codes.items() if code > 0 and not job.error_path(attempt, rank).exists()
    }
    for rank, code in sorted(silent.items()):
        return _death(job, attempt, rank, f"worker {rank} left with exit code {code}", f"exit {code}")
    late = [e for e in errors if e.get("timed_out")]
    if late:
        return {**min(late, key=lambda e: e["time"]), "kind": "hang"}
    if errors:
        first = min(errors, key=lambda e: e["time"])
        return {**first, "kind": "lost node", "message": "the connection to a worker of another node broke"}
    if "No space left" in problem:
        where = shared_memory.told() if shared_memory.is_full() else f"no space left in {tempfile.gettempdir()}"
        return {**_death(job, attempt, 0, f"the workers could not be started: {where}", "not started"), "final": True}
    return _death(job, attempt, 0, "the workers could not be started; see the agent's log node-0.log", "not started")


def _of_shared_memory(job: Job, attempt: int, rank: int) -> dict[str, Any]:
    """SIGBUS is memory that could not be had when it was touched: in a small or full /dev/shm that is why."""
    message = f"worker {rank} was ended by SIGBUS"
    certain = shared_memory.is_full() or shared_memory.is_small()
    message += (
        f": {shared_memory.told()}" if certain else "; a file that is mapped to memory was cut, or its disk is full"
    )
    return {**_death(job, attempt, rank, message, "SIGBUS"), "final": certain}


def _death(job: Job, attempt: int, rank: int, message: str, kind: str) -> dict[str, Any]:
    logs = (job.log_path(attempt, rank), job.logs / "node-0.log")  # one that could not begin has none
    log = next((str(path) for path in logs if path.exists()), None)
    return {
        "type": "WorkerDied",
        "kind": kind,
        "message": message,
        "rank": rank,
        "where": None,
        "log": log,
        "user_error": False,
    }


def out_of_memory(
    error: dict[str, Any], config: Mapping[str, Any], running: Mapping[str, Any] | None, world_size: int
) -> dict[str, Any]:
    """The error of a worker that the kernel ended for want of memory, with what would help.

    running: the event with which the workers began to train, if they did. It would happen again where the control group
    has a limit; without one it may have been others on the machine who took the memory.
    """
    known, limit = running or {}, memory.limit()
    of = f"{size(limit)} of its control group" if limit is not None else "the machine's"
    strategy = known.get("strategy", "ddp" if world_size > 1 else "single")
    batch = known.get("batch_size", config["train"]["batch_size"])
    if strategy == "its own":
        found = remedies.for_estimator(world_size=world_size, on_gpu=False)
    else:
        batch = batch if isinstance(batch, int) else 1
        found = remedies.for_module(config, strategy=strategy, batch_size=batch, world_size=world_size, on_gpu=False)
    message = f"worker {error['rank']} was ended by the kernel (SIGKILL), as main memory was out: {of}"
    return {
        **error,
        "type": "OutOfMemory",
        "message": f"{message}; {remedies.in_words(found)}",
        "final": limit is not None,
    }
