"""A job's events and interruptions as rows of text: for a terminal, for its page."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.job.account import between, in_order, when
from trainer.process.format import duration, plural

INTERRUPTED = ("interrupted by", "at step", "went on from", "steps lost", "seconds lost", "back after")


def rows(events: Sequence[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """When, how long after the first, the state and details of each event, as they happened."""
    found = []
    passed, before = 0.0, None
    for event in in_order(events):
        passed += between(before, event) if before else 0.0
        before = event
        details = []
        if event.get("attempt"):
            details.append(f"attempt {event['attempt'] + 1}")
        workers = event.get("world_size") or event.get("workers")
        if workers:
            details.append(plural(workers, "worker"))
        if event.get("step") is not None:
            details.append(f"step {event['step']:,}")
        if event.get("reason"):
            details.append(str(event["reason"]).splitlines()[0])
        clock_time = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when(event)))
        found.append((clock_time, f"+{duration(passed)}", str(event["state"]), ", ".join(details)))
    return found


def interruptions(lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The columns INTERRUPTED of each: where it came from, and what it cost."""
    found = []
    for line in lines:
        known = [line["resumed"], line["steps_lost"], line["seconds_lost"]]
        numbers = ["-" if value is None else f"{value:,}" for value in known]
        back = "-" if line["recovery_seconds"] is None else duration(line["recovery_seconds"])
        found.append((str(line["source"]), f"{line['step']:,}", *numbers, back))
    return found
