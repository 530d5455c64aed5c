"""A job that is followed, and whoever follows it told to leave: passed on to those at work, and waited for."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from trainer.errors import HeadwayError
from trainer.job.directory import Job, Status
from trainer.process.signals import Asks, Leave


class Heeding:
    """Looks how a job fares, and passes on what is asked meanwhile."""

    def __init__(self, job: Job, launcher: Any, asks: Asks, announce: Callable[[str], None]) -> None:
        self._job, self._launcher, self._asks, self._announce = job, launcher, asks, announce
        self._stops = 0

    def look(self) -> Status:
        """Raises Leave, if the job goes on without whoever follows it and that one is to leave."""
        for number in self._asks.take():
            if number == signal.SIGINT:
                self._stop()
            else:
                self._interrupt(number)
        status: Status = self._launcher.status(self._job)
        return status

    def _stop(self) -> None:
        """The first time in order, the state saved; then at once."""
        self._stops += 1
        name, now = self._job.name, self._stops > 1
        self._announce(
            f"ending {name} now"
            if now
            else f"stopping {name} after this step, its state saved; Ctrl-C again ends it at once"
        )
        if self._launcher.is_alive(self._job):
            try:
                self._launcher.stop(self._job, now=now)
            except HeadwayError:  # it has just ended
                return

    def _interrupt(self, number: int) -> None:
        name, told = self._job.name, signal.Signals(number).name
        if self._launcher.interrupt(self._job, number):
            self._announce(f"{told}: {name} leaves after this step, its state saved")
        elif self._launcher.is_alive(self._job):
            self._announce(f"{told}: {name} goes on without this command; `headway stop {name}` stops it")
            raise Leave(number, kept=True)
