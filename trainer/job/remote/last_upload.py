"""The end of a job on S3: its agents still bring up what is new, and whoever follows it waits, is told for what, and may leave it at that."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from trainer.errors import HeadwayError
from trainer.job import carried
from trainer.job.carried import Carried
from trainer.job.directory import Job
from trainer.job.remote.download import is_up
from trainer.storage.objects import S3

SECONDS = 660.0  # for agents to bring all up: they try for ten minutes
LOOK_SECONDS = 0.1
TELL_SECONDS = 1.0  # a wait that is over before isn't worth a word


def wait(
    job: Job, url: str, launcher: Any, announce: Callable[[str], None], asked: Callable[[], bool] = lambda: False
) -> None:
    """Waits until nobody works on the job any more. Raises HeadwayError if that takes longer than agents try.

    asked: whether Ctrl-C was pressed since the last call, where that doesn't raise KeyboardInterrupt. The first one ends the wait for S3, the
    second the wait.
    """
    began, told, pressed = time.monotonic(), "", 0
    while launcher.is_alive(job):
        waited = time.monotonic() - began
        if waited > SECONDS:
            raise HeadwayError(f"{job.name}: its agent did not leave within {SECONDS:.0f} s")
        try:  # Ctrl-C may come while the line is printed that names it
            known = carried.read(job.dir)
            trouble = (known and known.trouble) or ""
            waits = known is not None and waited > TELL_SECONDS and not told
            if not pressed and not job.state().is_active and (waits or (trouble and told != "trouble")):
                told = "trouble" if trouble else "a wait"
                why = f": {trouble}" if trouble else ""
                announce(
                    f"bringing up what {url} has not yet{why}; tried for ten minutes, Ctrl-C leaves it on this machine"
                )
            if asked():
                raise KeyboardInterrupt
            time.sleep(LOOK_SECONDS)
        except KeyboardInterrupt:
            pressed += 1
            if pressed > 1:
                raise
            announce("what is not up stays on this machine")
            with contextlib.suppress(HeadwayError):  # it has just left
                launcher.stop(job)


def is_there(job: Job, url: str) -> bool:
    """Whether S3 has all of a job that has ended here; what it lacks is on record then, for the closing."""
    known = carried.read(job.dir)
    if known is None or known.lacking is None:  # nobody lived to tell
        try:
            lacking = () if is_up(S3(url, attempts=3), job.dir) else ("what came last",)
            known = Carried(url, lacking=lacking)
        except HeadwayError as error:
            known = Carried(url, str(error), time.time(), ("what came last",))
        if known.lacking:
            known.write(job.dir)
    return not known.lacking
