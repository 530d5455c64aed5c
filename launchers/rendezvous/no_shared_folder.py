"""A job on S3 whose nodes have no folder in common, nor with whoever submitted it: each works in one of its own.

The leading node owns the job there (`trainer.job.remote.mirror`), the others carry their share (`trainer.job.remote.mirror_part`). Before each life of
the workers all take up the checkpoint that the leading node names: the newest that is whole on S3.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from launchers.rendezvous.rendezvous import Meeting, Round
from trainer.errors import HeadwayError, UserError
from trainer.job.directory import Job
from trainer.job.remote.download import newest_common, pull_checkpoint, pull_small, storage_of
from trainer.job.remote.mirror import Mirror
from trainer.job.remote.mirror_part import PartMirror
from trainer.storage.objects import S3, is_remote, staging

STORE_SECONDS = 30.0
PARTS_SECONDS = 15.0  # for the other nodes' share of a checkpoint to arrive
ERRORS_SECONDS = 5.0  # the same of their workers' errors
LOOK_SECONDS = 0.05


def opened(place: str, node: int | None = None) -> Job:
    """The job of a local directory; of one on S3 with what is known of it there, in the folder of this machine or of one of
    its nodes. Raises UserError if there is none."""
    if not is_remote(place):
        return Job(Path(place))
    folder = staging(place, node)
    folder.mkdir(parents=True, exist_ok=True)
    if not pull_small(S3(place), folder):
        raise UserError(f"there is no job at {place} (no config.yaml)")
    job = Job(folder, place)
    job.logs.mkdir(exist_ok=True)
    return job


def lead(job: Job, mirror: Mirror, meeting: Meeting) -> dict[str, Any]:
    """What the leading node, which has the state that is on S3, says to the others: the checkpoint to go on from, and whose the
    job now is."""
    gather(mirror, meeting, PARTS_SECONDS)
    return {"checkpoint": newest_common(storage_of(job), job.dir), "owner": mirror.owner}


def follow(job: Job, meet: Round, store: Any, told: dict[str, Any]) -> PartMirror:
    """Takes up what the leading node names, and begins to carry this node's share."""
    problem = ""
    try:
        if told["checkpoint"]:
            pull_checkpoint(storage_of(job), job.dir, str(told["checkpoint"]))
    except HeadwayError as error:
        problem = f"node {meet.rank}: {error}"
    mirror = PartMirror(storage_of(job), job.dir, str(told["owner"]))
    mirror.start()
    store.set(f"ready-{meet.rank}", problem)
    return mirror


def all_ready(meet: Round, given_up: Callable[[], bool]) -> bool:
    """Waits until each node has what it needs. For the leading node; False if it is disturbed. Raises HeadwayError if a node
    can't get it."""
    keys = [f"ready-{rank}" for rank in range(1, meet.nodes)]
    while keys and not meet.store.check(keys):
        if given_up():
            return False
        time.sleep(LOOK_SECONDS)
    for key in keys:
        if problem := meet.store.get(key).decode():
            raise HeadwayError(problem)
    return True


def gather(
    mirror: Mirror, meeting: Meeting | None, seconds: float, given_up: Callable[[], bool] = lambda: False
) -> bool:
    """Waits until S3 has all that this node has, and the other nodes' share of the newest checkpoint while they live. False if
    its own isn't all there."""
    end = time.monotonic() + seconds
    while done := mirror.flush(max(0.5, end - time.monotonic()), given_up):
        if not mirror.lacking or meeting is None or meeting.others() == 0 or time.monotonic() > end:
            break
        time.sleep(10 * LOOK_SECONDS)
    return done


def bring_errors(job: Job, attempt: int, workers: int) -> None:
    """Brings what other nodes' workers died of: they say so a moment later. workers: on other nodes."""
    storage, prefix, end = storage_of(job), f"logs/attempt-{attempt}-rank-", time.monotonic() + ERRORS_SECONDS
    with contextlib.suppress(HeadwayError):
        while True:
            names = [name for name in storage.list(prefix) if name.endswith(".error.json")]
            fresh = [name for name in names if not (job.dir / name).exists()]
            for name in fresh:
                storage.bring(name, job.dir)
            workers -= len(fresh)
            if workers <= 0 or time.monotonic() > end:
                return
            time.sleep(10 * LOOK_SECONDS)


def said_by_leader(meet: Round, given_up: Callable[[], bool]) -> tuple[Any, dict[str, Any]]:
    """The round's store, and what its leading node says at the beginning of a life. Raises whatever torch does if that is gone,
    HeadwayError if something else comes up."""
    from torch.distributed import TCPStore

    store = TCPStore(meet.address, meet.port, is_master=False, timeout=timedelta(seconds=STORE_SECONDS))
    while not store.check(["life"]):
        if given_up():
            raise HeadwayError("disturbed")
        time.sleep(LOOK_SECONDS)
    return store, json.loads(store.get("life"))
