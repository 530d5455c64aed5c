"""The end of a job where nobody of it lived to write it down, and the exit code that an end has."""

from __future__ import annotations

from contextlib import suppress

from trainer.errors import ExitCode
from trainer.job import location
from trainer.job.account import between
from trainer.job.directory import Job, State, Status
from trainer.job.result import write_result
from trainer.process import clock


def settle(job: Job, status: Status) -> None:
    """Writes down an end that only the backend knows of, as no agent of the job lived to tell."""
    if not status.alive and status.state.is_final and not job.state().is_final:
        _write_end(job, status.state, status.reason, "launcher")


def settle_left(job: Job, status: Status, *, by_hand: int = 0, by_machine: int = 0) -> None:
    """Writes down that a job was left, if nobody of it could: it was before they began, or they were killed for not hearing.

    by_hand, by_machine: how often the job was asked to leave; by hand a second time is at once.
    """
    state = State.STOPPED if by_hand else State.INTERRUPTED
    if status.alive or status.state.is_final or job.state().is_final or not (by_hand or by_machine):
        return
    if job.state() is State.PENDING:
        _write_end(job, state, "left before it began", "signal")
    elif by_hand > 1:
        _write_end(job, state, "ended by hand, now", "signal")


def _write_end(job: Job, state: State, reason: str, source: str) -> None:
    events = job.events()
    attempt = max(0, sum(event["state"] == State.STARTING for event in events) - 1)
    event = {"attempt": attempt, "reason": reason, "source": source}
    now = clock.now()
    error = {"type": "HeadwayError", "message": reason, "rank": None}
    with suppress(OSError):  # on a full disk what the command prints has to do
        write_result(
            job,
            state,
            attempt=attempt,
            error=error if state is State.FAILED else None,
            wall=between(events[0], now) if events else 0.0,
            outcome={},
            last={**now, **event},
        )
        job.add_event(state, **event)
    location.of(job).end(job)


def exit_code(job: Job, status: Status | None = None) -> int:
    """0 completed, 1 failed, 2 failed by the user's mistake, 75 interrupted, 130 stopped. status: as the launcher tells it,
    who may know of a failure that could not be written down."""
    event = job.last_event()
    state = job.state_of(event) if event else State.FAILED
    if status is not None and status.state is State.FAILED and not state.is_final:
        return ExitCode.FAILED
    if state is State.COMPLETED:
        return ExitCode.COMPLETED
    if state is State.STOPPED:
        return ExitCode.STOPPED
    if state is State.FAILED:
        return ExitCode.MISTAKE if event.get("user_error") else ExitCode.FAILED
    return ExitCode.INTERRUPTED
