"""The lock that says that a job has an agent: on its events.jsonl, as long as that agent lives."""

from __future__ import annotations

import fcntl
import time
from contextlib import ExitStack

from launchers.rendezvous.rendezvous import Place
from trainer.errors import UserError
from trainer.job.directory import Job


def hold(job: Job, place: Place, held: ExitStack) -> None:
    """Takes the lock that says this job has an agent on this node. Raises UserError if it has one already."""
    locks = [(job.events_path, fcntl.LOCK_EX)]
    if place.nodes > 1:
        (job.dir / "nodes").mkdir(exist_ok=True)
        locks = [(job.dir / "nodes" / f"node-{place.node}.lock", fcntl.LOCK_EX), (job.events_path, fcntl.LOCK_SH)]
    for path, kind in locks:
        file = held.enter_context(open(path, "a"))  # noqa: SIM115 - closed by the stack
        for _ in range(20):  # who looks whether the job is alive holds it for a moment
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
        else:
            raise UserError(f"{job.dir}: another agent is at work on this job; stop it first")
