"""A job on S3: its state fetched before the workers start, and carried there while they train."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from launchers.agent.control import Control
from launchers.rendezvous.no_shared_folder import gather
from launchers.rendezvous.rendezvous import Meeting
from trainer.algorithm import Algorithm
from trainer.job.checkpoint import Retention
from trainer.job.directory import Job, State
from trainer.job.remote.download import pull
from trainer.job.remote.mirror import Mirror
from trainer.job.result import more_is_better
from trainer.storage.objects import is_remote, of_job
from trainer.storage.probe import shake

FLUSH_SECONDS = 600.0  # how long the end of a job waits for S3, if nobody presses
ASKED_SECONDS = 20.0  # the same once a machine asks to leave, and doesn't say when it ends


def carry(job: Job, config: dict[str, Any], on_superseded: Callable[[str], None], *, fetch: bool) -> Mirror | None:
    """Takes the job over on S3 and begins to carry it there; None for a job that is local.

    fetch: brings what is there first. Raises HeadwayError if S3 can't be reached, or refuses.
    """
    if not is_remote(str(config["job"]["dir"])):
        return None
    storage = of_job(config["job"])
    if told := shake(storage):
        print(told, flush=True)
    options = config["checkpoint"]
    metric = options.get("metric") or config["train"]["early_stopping"]["metric"]
    retention = Retention(options["keep"], options["keep_best"], metric, more_is_better(metric, Algorithm.maximize))
    mirror = Mirror(storage, job.dir, on_superseded=on_superseded, retention=retention)
    mirror.take_over()
    for line in pull(storage, job.dir) if fetch else ():
        print(line, flush=True)
    mirror.start()
    return mirror


def bring_up(mirror: Mirror, control: Control, meeting: Meeting | None) -> None:
    """Waits until all is on S3, as long as there is time, and until somebody who was not heard yet says that it is enough."""
    known, since = control.leave, time.monotonic()
    deadline = known.deadline if known else None
    left = FLUSH_SECONDS if deadline is None else max(0.5, deadline - since - 0.5)

    def is_enough() -> bool:
        nonlocal since
        leave = control.leave
        if leave is None or leave is known:
            since = time.monotonic()
            return control.now
        end = since + ASKED_SECONDS if leave.deadline is None else leave.deadline - 0.5
        return control.now or leave.state is State.STOPPED or time.monotonic() > end

    done = gather(mirror, meeting, left, is_enough)
    if not done and not mirror.superseded:
        print("not everything is on S3; the rest lies in this machine's folder, and goes up when the job goes on here")
    mirror.stop(10.0 if done else 1.0)
