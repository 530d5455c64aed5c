"""What the records of a job's directory hold: names and kinds of values, and what is wrong with a record that has others.

A file may have been damaged by a machine that lost its power, by a person, or come from a newer version. Whoever reads a
record that keeps its shape may use it without looking twice. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

MOST = 2**63  # beyond it nothing is counted, and much of Python's arithmetic refuses
LATEST = 1e11  # seconds of the epoch that a calendar still knows
Kind = Callable[[Any], bool]


def number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < MOST and math.isfinite(value)


def figure(value: Any) -> bool:
    """A metric's value: NaN and infinity are some."""
    return (isinstance(value, int) and abs(value) < MOST) or isinstance(value, float)


def moment(value: Any) -> bool:
    return number(value) and 0 <= value < LATEST


def whole(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < MOST


def text(value: Any) -> bool:
    return isinstance(value, str)


def anything(value: Any) -> bool:
    return True


def mapping(value: Any) -> bool:
    return isinstance(value, dict)


def maybe(kind: Kind) -> Kind:
    return lambda value: value is None or kind(value)


def list_of(kind: Kind) -> Kind:
    return lambda value: isinstance(value, list) and all(map(kind, value))


def by_name(kind: Kind) -> Kind:
    return lambda value: isinstance(value, dict) and all(map(kind, value.values()))


def record(needed: Mapping[str, Kind], known: Mapping[str, Kind] | None = None) -> Kind:
    return lambda value: isinstance(value, dict) and wrong(value, needed, known or {}) is None


def wrong(value: Mapping[str, Any], needed: Mapping[str, Kind], known: Mapping[str, Kind]) -> str | None:
    """The first thing that is wrong with a record, or None. known: what it may have beside what is needed; other names are
    a newer version's affair."""
    for name in (*needed, *(("up",) if value.get("boot") else ())):  # `trainer.process.clock`
        if name not in value:
            return f"it has no `{name}`"
    for name, kind in {**needed, **known}.items():
        if name in value and not kind(value[name]):
            shown = repr(value[name])
            return f"its `{name}` is {shown if len(shown) <= 40 else shown[:40] + ' …'}"
    return None


_COUNTS = (
    "world_size",
    "workers",
    "nodes",
    "parameters",
    "samples",
    "validation_samples",
    "test_samples",
    "columns",
    "threads",
)
_WORDS = (
    "job",
    "dir",
    "boot",
    "at_boot",
    "host",
    "folder",
    "source",
    "strategy",
    "strategy_reason",
    "batch_size_reason",
    "device",
    "label",
    "content",
)
_EVENT: dict[str, Kind] = {
    **dict.fromkeys(("step", "steps", "epochs", "batch_size", "seconds", "saved", "up", "at_up"), maybe(number)),
    **dict.fromkeys(_COUNTS, maybe(number)),
    **dict.fromkeys(_WORDS, maybe(text)),
    "at": moment,
    "attempt": maybe(whole),
    "pid": whole,
    "maximize": list_of(text),
    "notes": list_of(text),
    "left_out": list_of(text),
    "kinds": by_name(number),
}
_MOMENT: dict[str, Kind] = {"up": number, "boot": text}
_POINT = record({"value": maybe(figure), "step": number})
_LINE: dict[str, Kind] = {
    "time": moment,
    "source": text,
    "step": number,
    **dict.fromkeys(("resumed", "steps_lost", "seconds_lost", "recovery_seconds"), maybe(number)),
}
_RESULT: dict[str, Kind] = {
    **dict.fromkeys(("world_size", "samples_per_second", "goodput", "energy_kwh", "batch_size"), maybe(number)),
    "attempts": whole,
    "interruptions": list_of(record(_LINE)),
    "model": maybe(text),
    "error": maybe(record({}, {"type": maybe(text), "rank": maybe(number), "where": maybe(text), "log": maybe(text)})),
    "split": by_name(number),
    "stragglers": list_of(record({"rank": number, "factor": number})),
}


def wrong_event(value: Mapping[str, Any]) -> str | None:
    """A line of events.jsonl."""
    needed: dict[str, Kind] = {"time": moment, "state": text}
    return wrong(value, {**needed, "step": number} if value.get("state") == "Running" else needed, _EVENT)


def wrong_report(value: Mapping[str, Any]) -> str | None:
    """A line of metrics.jsonl."""
    needed = {"time": moment, "step": number, "values": by_name(maybe(figure))}
    return wrong(value, needed, {"epoch": maybe(number), "samples": maybe(number), **_MOMENT})


def wrong_progress(value: Mapping[str, Any]) -> str | None:
    """logs/progress.json."""
    seconds = ("training_seconds", "session_seconds", "samples_per_second")
    numbers = ("step", "total", "epoch", "samples", "session_samples", *seconds)
    known = {**_MOMENT, **dict.fromkeys(numbers, maybe(number)), "loss": maybe(figure), "unit": text}
    return wrong(value, {"time": moment}, {**known, "split": by_name(number), "stragglers": _RESULT["stragglers"]})


def wrong_result(value: Mapping[str, Any]) -> str | None:
    """result.json, but for which states there are."""
    amounts = record({"wall": number, "training": number}, {"lost": number})
    needed: dict[str, Kind] = {"status": text, "steps": number, "epochs": number, "samples": number}
    needed |= {"metrics": by_name(record({"last": _POINT, "best": _POINT})), "seconds": amounts}
    return wrong(value, needed, _RESULT)
