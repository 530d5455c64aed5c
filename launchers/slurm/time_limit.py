"""SLURM's time limits: as they are given, as they are asked for, and how long before one a job is warned of it."""

from __future__ import annotations

import functools
import re
from typing import Any

from launchers.slurm.queue import scontrol
from trainer.config.schema import seconds
from trainer.errors import HeadwayError, UserError

UNLIMITED = ("UNLIMITED", "INFINITE")
WARNING = 120  # seconds, at most
SHARE = 4  # of the limit's time the last part is enough for the warning


def limit(time: Any) -> str | None:
    """A time limit as SLURM has it. Raises UserError."""
    if time is None:
        return None
    text = str(time).strip()
    if text.upper() in UNLIMITED or text == "0":
        return UNLIMITED[0]
    if re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", text) and not text.isdigit():
        if not seconds_of(text):
            raise UserError(f"launcher.time: {text} is no time at all; write 4h, 1-12:00:00, or UNLIMITED")
        return text
    if text.isdigit():
        raise UserError(f"launcher.time: {text} has no unit; write {text}m for minutes, or 4h, or 1-12:00:00")
    minutes = -(-int(seconds(time, "launcher.time") or 0) // 60)
    days, minutes = divmod(minutes, 1440)
    return f"{days}-{minutes // 60:02}:{minutes % 60:02}:00"


def seconds_of(text: str) -> int | None:
    """A limit in SLURM's words in seconds; None if there is none: M, M:S, H:M:S, D-H, D-H:M and D-H:M:S."""
    if text.upper() in (*UNLIMITED, "NONE", "NOT_SET", "N/A", ""):
        return None
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:  # hours come first
        hours, minutes, second = [*parts, 0, 0][:3]
        return ((int(days) * 24 + hours) * 60 + minutes) * 60 + second
    if len(parts) < 3:  # minutes do
        return parts[0] * 60 + (parts[1] if len(parts) == 2 else 0)
    return (parts[0] * 60 + parts[1]) * 60 + parts[2]


def warning_of(given: Any, time: Any, partition: str | None) -> int:
    """Seconds before its time limit at which a job is warned. given: `launcher.warning`; `auto` leaves three quarters of the
    limit to train in. Raises UserError for one that leaves nothing."""
    asked = limit(time)
    bound = seconds_of(asked) if asked is not None else of_partition(partition)
    if given == "auto":
        return WARNING if bound is None else max(1, min(WARNING, bound // SHARE))
    before = round(seconds(given, "launcher.warning") or 0)
    if bound is not None and before >= bound:
        whose = f"launcher.time={time}" if asked is not None else "the partition's time limit"
        raise UserError(
            f"launcher.warning: {given} before its end a job of {whose} ({bound} s) would be warned before it has trained; "
            f"give it less, or leave it auto"
        )
    return before


@functools.lru_cache(maxsize=8)
def of_partition(name: str | None) -> int | None:
    """The time limit, in seconds, of jobs that ask for none in a partition, or in the cluster's own choice; None if there is
    none, or nobody tells."""
    try:
        told = scontrol("show", "partition", *([name] if name else []), "--oneliner")
    except (HeadwayError, OSError):
        return None
    for line in told.splitlines():
        known = dict(pair.split("=", 1) for pair in line.split() if "=" in pair)
        if known.get("PartitionName") == name or (name is None and known.get("Default") == "YES"):
            try:
                return seconds_of(known.get("DefaultTime", "")) or seconds_of(known.get("MaxTime", ""))
            except ValueError:  # in words that this version doesn't know
                return None
    return None
