"""A planned job handed to its launcher: its directory is written, the code taken along, the request sent."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from trainer.config import schema
from trainer.errors import HeadwayError, UserError
from trainer.job import carried, private
from trainer.job.directory import Job, State, Status, write_text
from trainer.submission import bundle
from trainer.submission.plan import Planned
from trainer.submission.settle import settle


def submit(
    one: Planned,
    announce: Callable[[str], None],
    *,
    begin: Callable[[Job, Mapping[str, Any]], None] = lambda job, config: None,
    detached: bool = False,
) -> None:
    """Writes the job's directory and submits it. announce is told what a person should read; begin is shown the job once it is
    submitted. Raises HeadwayError if the backend refuses it."""
    with private.kept(one.config):
        told = prepare(one)
        try:
            one.launcher.submit(one.job, one.plan, detached=detached)
        except HeadwayError as error:
            settle(one.job, Status(State.FAILED, False, str(error)))
            raise
        for line in told:
            announce(line)
        begin(one.job, one.config)
        for line in complete(one):
            announce(line)


def prepare(one: Planned) -> list[str]:
    """Writes the job's directory, also where its agents are to see it. Returns lines that a person should read. Raises
    HeadwayError if it can't be kept there."""
    job, where = one.job, one.placed.location
    told = where.probe()
    write(job, one.config, is_new=one.placed.before is None)
    if one.like is not None:
        bundle.share(one.like, job.dir)
    else:
        told += bundle.take(job.dir, one.together or [one.config], archived=where.is_elsewhere)
    if one.agents_are_apart:
        where.send(job)
    return told


def complete(one: Planned) -> list[str]:
    """Adds to a submission what takes longer and no worker needs, unless another job has. Returns lines that a person should read."""
    if one.like is not None:
        return []
    told = bundle.complete(one.job.dir)
    if one.agents_are_apart:
        one.placed.location.complete(one.job)
    return told


def write(job: Job, config: Mapping[str, Any], *, is_new: bool) -> Job:
    """Writes the job directory's beginning. A fresh name taken by another meanwhile gets a number."""
    try:
        job.dir.mkdir(parents=True, exist_ok=True)
        if private.is_private(config):
            private.close(job.dir)  # what was there before, too
        job.logs.mkdir(exist_ok=True)
        if not is_new:
            job.result_path.unlink(missing_ok=True)
            (job.dir / carried.RECORD).unlink(missing_ok=True)
        write_text(job.config_path, schema.dump(config), durable=True)
        said = {"reason": "submitted", "job": uuid.uuid4().hex[:16]} if is_new else {"reason": "goes on"}
        job.add_event(State.PENDING, **said)
    except OSError as error:
        what = error.filename or job.dir
        raise UserError(f"job.dir: {what} can't be written: {error.strerror}; choose another with job.dir") from None
    return job
