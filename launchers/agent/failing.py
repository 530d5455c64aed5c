"""An agent that fails by itself says so where its job is read: else the job would seem to be interrupted, and come back for ever."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from launchers.agent import attempts
from launchers.rendezvous.rendezvous import Place
from trainer.errors import HeadwayError, UserError
from trainer.job.directory import Job, State
from trainer.job.result import write_result
from trainer.process import clock


@contextlib.contextmanager
def told(job: Job, place: Place) -> Iterator[None]:
    """Writes down what ends the agent, as far as the disk takes it, and lets it go on its way. A job that may do without
    this node is left to the others."""
    started = clock.now()
    try:
        yield
    except Exception as error:  # a result needs a reason, whatever it is
        if place.min_nodes == place.nodes:
            with contextlib.suppress(OSError, HeadwayError):
                fail(job, place, error, started)
        raise


def of_agent(error: HeadwayError) -> dict[str, Any]:
    """An error as a result has it, which no worker made."""
    user_error = isinstance(error, UserError)
    return {"type": type(error).__name__, "message": str(error), "rank": None, "user_error": user_error}


def fail(job: Job, place: Place, error: Exception, started: dict[str, Any]) -> None:
    """Ends a job that has not ended, because of what the agent of a node came upon."""
    if job.state().is_final:
        return
    said = str(error).strip().splitlines() or [type(error).__name__]
    foreseen = isinstance(error, HeadwayError)
    reason = said[0] if foreseen else f"its agent failed: {type(error).__name__}: {said[0]}"
    about = of_agent(error if isinstance(error, HeadwayError) else HeadwayError(reason))
    about |= {"log": str(job.logs / f"node-{place.node}.log")} if not foreseen else {}
    attempt, now, wall = max(0, attempts.count(job) - 1), clock.now(), clock.seconds(started, clock.now())
    event = {"attempt": attempt, "reason": reason, "source": "agent", "user_error": about["user_error"]}
    with contextlib.suppress(OSError):
        job.reserve.unlink(missing_ok=True)
    write_result(job, State.FAILED, attempt=attempt, error=about, wall=wall, outcome={}, last={**now, **event})
    job.add_event(State.FAILED, **event)
