"""The account of a job's interruptions, from its events: what each cost, and what part of the time was useful.

Events are in the order in which they were written, and their distances are `trainer.process.clock`'s: a clock that somebody has set
meanwhile moves neither. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.job.directory import State
from trainer.process import clock

Event = Mapping[str, Any] | float  # or the moment alone, as unix seconds


def when(event: Mapping[str, Any]) -> float:
    """When it happened, by the wall clock; an agent's death is written down later by the next one."""
    return float(event.get("at", event["time"]))


def happened(event: Event) -> dict[str, Any]:
    """The moment of it."""
    if isinstance(event, (int, float)):
        return {"time": float(event)}
    if "at" in event:
        return {"time": float(event["at"]), "up": event.get("at_up"), "boot": event.get("at_boot")}
    return clock.of(event)


def in_order(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """As they happened: an agent died before the job was submitted again."""
    ordered: list[dict[str, Any]] = []
    for event in events:
        place = len(ordered)
        while "at" in event and place and ordered[place - 1]["state"] == State.PENDING:
            place -= 1
        ordered.insert(place, event)
    return ordered


def between(one: Event, other: Event) -> float:
    """Seconds from one event to a later one."""
    return clock.seconds(happened(one), happened(other))


def interruptions(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every interruption or stop, in order of time.

    Each has time, source, reason, step (the last done before), resumed (the step gone on from), steps_lost,
    seconds_lost (of training, that had to be done again) and recovery_seconds (until workers trained again); the last
    four are None as long as the job has not gone on.
    """
    found = []
    ordered = in_order(events)
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
            line |= {"recovery_seconds": round(between(event, after), 3)}
            trained = 0.0
            if before is not None and resumed < step:
                trained = float(before.get("seconds", 0.0)) + between(before, event)
            line["seconds_lost"] = round(max(0.0, trained - float(after.get("seconds", 0.0))), 3) if trained else 0.0
        found.append(line)
    return found


def total_seconds(events: Sequence[dict[str, Any]], now: Event) -> float:
    """Seconds from the first start to the moment `now`; those in which the job was stopped by hand, had failed, or was
    done until it was trained further, don't count."""
    ordered = [e for e in in_order(events) if e["state"] != State.PENDING]
    total = 0.0
    for i, event in enumerate(ordered):
        if event["state"] not in (State.STOPPED, State.FAILED, State.COMPLETED):
            total += between(event, ordered[i + 1] if i + 1 < len(ordered) else now)
    return total


def busy_seconds(events: Sequence[dict[str, Any]], now: Event) -> float:
    """Seconds up to the moment `now` in which the job had workers, from each start to what ended it; waits between don't
    count."""
    busy, since = 0.0, None
    for event in in_order(events):
        if event["state"] in (State.STARTING, State.RUNNING):
            since = event if since is None else since
        elif since is not None and event["state"] != State.PENDING:
            busy, since = busy + between(since, event), None
    return busy + (between(since, now) if since is not None else 0.0)


def running_seconds(events: Sequence[dict[str, Any]], now: Event) -> float:
    """Seconds up to the moment `now` in which the job's workers trained, whatever came of it."""
    ordered = in_order(events)
    ends = [*ordered[1:], now]
    return sum(between(e, end) for e, end in zip(ordered, ends, strict=False) if e["state"] == State.RUNNING)


def training_seconds(events: Sequence[dict[str, Any]], at: Event) -> float:
    """Seconds of training up to a moment, those of earlier sessions included; waits and starts don't count."""
    seen = happened(at)
    running = [e for e in events if e["state"] == State.RUNNING and not clock.earlier(seen, e)]
    if not running:
        return 0.0
    newest = running[-1]
    return float(newest.get("seconds", 0.0)) + between(newest, seen)
