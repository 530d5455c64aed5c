"""What is known of the earlier lives of a job's workers, by what they left."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from trainer import checkpoint, node
from trainer.job import Job, State


def count(job: Job) -> int:
    return sum(1 for event in job.events() if event["state"] == State.STARTING)


def running(job: Job, attempt: int) -> dict[str, Any] | None:
    """The event with which the workers of an attempt began to train; None if they never did."""
    events = reversed(job.events())
    return next((e for e in events if e["state"] == State.RUNNING and e.get("attempt") == attempt), None)


def saved_since(job: Job, running: dict[str, Any] | None) -> int | None:
    """The newest complete checkpoint that these workers wrote. Older ones may be damaged where only a sum shows it."""
    saved = int(running["step"]) + 1 if running and job.kept_since(float(running["time"])) else None
    for place in checkpoint.listing(job.checkpoints) if running else ():
        if checkpoint.problem(place, content=False, apart=True) is None and running:
            written = (place / checkpoint.MANIFEST).stat().st_mtime >= float(running["time"])
            saved = checkpoint.step_of(place) if written else saved
    return saved


def note_death(job: Job, own: Path) -> None:
    """An agent that was killed could not say so: the next one does, by what the dead one left. own: the next one's folder."""
    events = [e for e in job.events() if e["state"] != State.PENDING]
    last = events[-1] if events else {}
    if last.get("state") not in (State.STARTING, State.RUNNING):
        return
    folder = Path(str(last.get("folder") or next((e["folder"] for e in reversed(events) if "folder" in e), "/nowhere")))
    progress = job.progress() or {}
    if float(progress.get("time", 0.0)) < float(last["time"]):
        progress = {}  # of an earlier life
    seen = max(float(last["time"]), float(progress.get("time", 0.0)))
    reached = int(progress.get("step", 0)) if last["state"] == State.RUNNING else 0
    if (folder / "beats").is_file() and folder != own:
        steps = node.steps_left_in(folder)
        reached = max([reached, *steps]) if last["state"] == State.RUNNING else 0
        if folder.name.startswith("headway-") and last.get("host", os.uname().nodename) == os.uname().nodename:
            shutil.rmtree(folder, ignore_errors=True)
    job.add_event(
        State.INTERRUPTED,
        at=seen,
        attempt=last.get("attempt"),
        source="agent died",
        reason="its agent was killed, or its machine was lost",
        step=reached,
    )
