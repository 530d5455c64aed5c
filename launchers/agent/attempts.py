"""What is known of the earlier lives of a job's workers, by what they left."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from trainer.job import checkpoint, node_state
from trainer.job.directory import Job, State
from trainer.process import clock, scratch


def count(job: Job) -> int:
    return sum(1 for event in job.events() if event["state"] == State.STARTING)


def running(job: Job, attempt: int) -> dict[str, Any] | None:
    """The event with which the workers of an attempt began to train; None if they never did."""
    events = reversed(job.events())
    return next((e for e in events if e["state"] == State.RUNNING and e.get("attempt") == attempt), None)


Kept = dict[Path, tuple[int, int]]


def kept(job: Job) -> Kept:
    """Which checkpoints, and which files of a script's own, there are, and what tells each from one that takes its place:
    no clock, as it may be set while the workers train."""
    files = [*job.checkpoints.glob(f"{checkpoint.PREFIX}*/{checkpoint.MANIFEST}"), *job.own_state.rglob("*")]
    found = {}
    for path in files:
        with contextlib.suppress(OSError):  # it is just being replaced
            stat = path.stat()
            found[path] = (stat.st_ino, stat.st_mtime_ns)
    return found


def saved_since(job: Job, running: dict[str, Any] | None, before: Kept) -> int | None:
    """The newest complete checkpoint that these workers wrote, who found `before`. Older ones may be damaged where only a
    sum shows it."""
    if running is None:
        return None
    fresh = {path for path, what in kept(job).items() if before.get(path) != what}
    own = any(path.is_file() and path.is_relative_to(job.own_state) for path in fresh)
    saved = int(running["step"]) + 1 if own else None
    for place in checkpoint.listing(job.checkpoints):
        if place / checkpoint.MANIFEST in fresh and checkpoint.problem(place, content=False, apart=True) is None:
            saved = checkpoint.step_of(place)
    return saved


def newest(job: Job) -> int:
    """The step of the newest checkpoint that has a manifest; 0 without one."""
    whole = (place for place in checkpoint.listing(job.checkpoints) if (place / checkpoint.MANIFEST).exists())
    return max(map(checkpoint.step_of, whole), default=0)


FRUITLESS = 5  # attempts in a row
LONG = 60.0  # seconds of training that count where nobody counts steps
GOT_ON = "got_on"  # in the event with which an attempt is interrupted


def got_on(job: Job, attempt: int, step: int | None, before: Kept) -> bool:
    """Whether an attempt that is just being interrupted, after this step, has made one. before: what its workers found. What
    isn't a Module may be at work for long before it reports, or keep what it has by itself."""
    begun = running(job, attempt)
    if begun is None:
        return False
    if float(step or 0) > float(begun["step"]):
        return True
    own = {path for path, what in kept(job).items() if path.is_relative_to(job.own_state) and before.get(path) != what}
    return begun.get("parameters") is None and (bool(own) or clock.seconds(begun, clock.now()) > LONG)


def fruitless(job: Job) -> str | None:
    """Why a job shall not come back whose present attempt is being interrupted without having made a step: those before it
    made none either. None if it shall."""
    attempts = 1
    for event in reversed(job.events()):
        if event["state"] in (State.STOPPED, State.FAILED, State.COMPLETED) or event.get(GOT_ON):
            break  # somebody had it begin anew, or it got on
        attempts += event.get(GOT_ON) is False
    return f"{attempts} attempts in a row made no step before they were interrupted" if attempts >= FRUITLESS else None


def ended(job: Job, state: State, attempt: int, step: int | None, before: Kept) -> tuple[dict[str, Any], str | None]:
    """What the event says of an attempt that is just being interrupted, after this step, and why the job shall not come back.
    Nothing of any other end."""
    if state is not State.INTERRUPTED:
        return {}, None
    got = got_on(job, attempt, step, before)
    return {GOT_ON: got}, None if got else fruitless(job)


def note_death(job: Job, own: Path | None = None) -> None:
    """An agent that was killed could not say so: who submitted it does, or the next one, by what the dead one left. own: the next
    one's folder."""
    events = [e for e in job.events() if e["state"] != State.PENDING]
    last = events[-1] if events else {}
    if last.get("state") not in (State.STARTING, State.RUNNING):
        return
    begun: dict[str, Any] = next((e for e in reversed(events) if "folder" in e), {})
    folder = Path(str(begun.get("folder", "/nowhere")))
    progress = job.progress() or {}
    if "time" in progress and clock.earlier(progress, last):
        progress = {}  # of an earlier life
    seen = progress if "time" in progress else last
    reached = int(progress.get("step", 0)) if last["state"] == State.RUNNING else 0
    beats = scratch.kept(folder, node_state.BEATS, job.logs)
    if beats.is_file() and folder != own and not job.is_copy(begun.get("dir")):
        steps = node_state.steps_left_in(beats)
        reached = max([reached, *steps]) if last["state"] == State.RUNNING else 0
        beats.unlink()
    scratch.clear()
    job.add_event(
        State.INTERRUPTED,
        at=float(seen["time"]),
        **{f"at_{key}": seen[key] for key in ("up", "boot") if key in seen},
        attempt=last.get("attempt"),
        source="agent died",
        reason="its agent was killed, or its machine was lost",
        step=reached,
    )
