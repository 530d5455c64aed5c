"""Moments, whose distance is right also after somebody has set the clock. Standard library only.

A moment is what the wall clock says (`time`, seconds of the epoch), and what no one can set: the seconds since this
machine was started (`up`), and which start that was (`boot`). Two moments of one machine's start are as far apart as `up`
says; any others as far as their wall clocks say, and never less than nothing.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BOOT = Path("/proc/sys/kernel/random/boot_id")
KEYS = ("time", "up", "boot")


def now() -> dict[str, Any]:
    """This moment."""
    return {"time": time.time(), "up": round(time.clock_gettime(time.CLOCK_BOOTTIME), 6), "boot": _boot()}


def of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The moment of a record that has one among other things."""
    return {key: record[key] for key in KEYS if key in record}


def earlier(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether one moment was before the other."""
    if one.get("boot") and one["boot"] == other.get("boot"):
        return float(one["up"]) < float(other["up"])
    return float(one["time"]) < float(other["time"])


def seconds(since: Mapping[str, Any], until: Mapping[str, Any]) -> float:
    """From one moment to another, 0 if that was not later."""
    if since.get("boot") and since["boot"] == until.get("boot"):
        return max(0.0, float(until["up"]) - float(since["up"]))
    return max(0.0, float(until["time"]) - float(since["time"]))


@functools.cache
def _boot() -> str:
    try:
        return BOOT.read_text(encoding="ascii").strip()[:8]
    except OSError:  # no such kernel: moments are told by the wall clock alone
        return ""
