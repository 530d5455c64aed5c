"""A submitted job followed until nobody works on it any more, and how it ended; or one that needs nothing more."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from trainer.errors import ExitCode
from trainer.job import private
from trainer.job.directory import Job, Status
from trainer.process.signals import Asks
from trainer.submission.interrupts import Heeding
from trainer.submission.place import Placed
from trainer.submission.plan import Planned
from trainer.submission.resume import how_further
from trainer.submission.settle import exit_code, settle, settle_left

LEAVE_SECONDS = 30.0  # for an agent to leave once its job has ended
GOES_ON = ExitCode.INTERRUPTED  # what is done can't be seen by others yet; the same command brings it to them

Look = Callable[[], Status]
Watch = Callable[[Job, Look], Any]
Announce = Callable[[str], None]


def follow(one: Planned, watch: Watch, asks: Asks, announce: Announce) -> Status:
    """The status with which it ended. watch: shows it while it is alive. asks: passed on to those at work. announce: says what else
    happens."""
    job, launcher = one.job, one.launcher
    with private.kept(one.config):
        watch(job, Heeding(job, launcher, asks, announce).look)
        one.placed.location.wait(job, launcher, announce, lambda: signal.SIGINT in asks.take())
        launcher.wait(job, timeout=LEAVE_SECONDS)
        status: Status = launcher.status(job)
        settle_left(job, status, by_hand=asks.by_hand, by_machine=asks.by_machine)
        settle(job, status)
    return status


def outcome(one: Planned, status: Status) -> int:
    """The exit code of a job that was followed to its end."""
    with private.kept(one.config):
        code = exit_code(one.job, status)
        return code if one.placed.location.has_all(one.job) else code or GOES_ON


def leave_done(placed: Placed, announce: Announce) -> int:
    """The exit code of a job that was done before: nothing is changed, but that what its directory lacks is brought there."""
    job, further = placed.job, how_further(placed.config)
    more = f"; `headway resume {job.name} {further}=N` trains it further" if further else ""
    announce(f"{job.name} is already completed; nothing was changed ({placed.location.address}){more}")
    with private.kept(placed.config):
        placed.location.bring_up(job, announce)
    return ExitCode.COMPLETED
