"""The account of a job's interruptions, from its events: what each cost, and what part of the time was useful.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainer.job import State


def when(event: dict[str, Any]) -> float:
    """When it happened; an agent's death is written down later by the next one."""
    return float(event.get("at", event["time"]))


def interruptions(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every interruption or stop, in order of time.

    Each has time, source, reason, step (the last done before), resumed (the step gone on from), steps_lost,
    seconds_lost (of training, that had to be done again) and recovery_seconds (until workers trained again); the last
    four are None as long as the job has not gone on.
    """
    found = []
    ordered = sorted(events, key=when)
    for i, event in enumerate(ordered):
        if event["state"] not in (State.INTERRUPTED, State.STOPPED, State.FAILED):
            continue
        before = next((e for e in reversed(ordered[:i]) if e["state"] == State.RUNNING), None)
        after = next((e for e in ordered[i + 1 :] if e["state"] == State.RUNNING), None)
        if event["state"] != State.INTERRUPTED and after is None:
            continue  # how it ended
        step = int(event.get("step") or 0)
        line = {
            "time": when(event),
            "source": event.get("source") or event["state"].lower(),
            "reason": event.get("reason"),
            "step": step,
            "resumed": None,
            "steps_lost": None,
            "seconds_lost": None,
            "recovery_seconds": None,
        }
        if after is not None:
            resumed = int(after["step"])
            line |= {"resumed": resumed, "steps_lost": max(0, step - resumed)}
            line |= {"recovery_seconds": round(when(after) - when(event), 3)}
            trained = 0.0
            if before is not None and resumed < step:
                trained = float(before.get("seconds", 0.0)) + when(event) - when(before)
            line["seconds_lost"] = round(max(0.0, trained - float(after.get("seconds", 0.0))), 3) if trained else 0.0
        found.append(line)
    return found


def total_seconds(events: Sequence[dict[str, Any]], now: float) -> float:
    """Seconds from the first start to `now`; those in which the job was stopped by hand, or had failed, don't count."""
    ordered = sorted((e for e in events if e["state"] != State.PENDING), key=when)
    if not ordered:
        return 0.0
    paused = 0.0
    for i, event in enumerate(ordered[:-1]):
        if event["state"] in (State.STOPPED, State.FAILED):
            paused += when(ordered[i + 1]) - when(event)
    return max(0.0, now - when(ordered[0]) - paused)


def busy_seconds(events: Sequence[dict[str, Any]], now: float) -> float:
    """Seconds up to `now` in which the job had workers, from each start to what ended it; waits between don't count."""
    busy, since = 0.0, None
    for event in sorted(events, key=when):
        if event["state"] in (State.STARTING, State.RUNNING):
            since = when(event) if since is None else since
        elif since is not None and event["state"] != State.PENDING:
            busy, since = busy + when(event) - since, None
    return busy + (max(0.0, now - since) if since is not None else 0.0)


def training_seconds(events: Sequence[dict[str, Any]], moment: float) -> float:
    """Seconds of training up to a moment, those of earlier sessions included; waits and starts don't count."""
    running = [e for e in events if e["state"] == State.RUNNING and when(e) <= moment]
    if not running:
        return 0.0
    newest = max(running, key=when)
    return float(newest.get("seconds", 0.0)) + moment - when(newest)
