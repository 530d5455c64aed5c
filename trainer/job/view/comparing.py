"""Jobs side by side: the config keys in which they differ, their metrics, their curves. Writes nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.config.code.signature import short_name
from trainer.config.overrides.dotted import leaves
from trainer.errors import UserError
from trainer.job.directory import Job
from trainer.job.result import more_is_better
from trainer.job.view.listing import COLORS, RUNS, all_jobs, find_job, name_under, print_json
from trainer.job.view.seen import STUDY, Seen, StatusOf, is_job, see
from trainer.job.view.summary import make_console
from trainer.process.escape import shown, visible
from trainer.process.format import count, figure, middle, prominence, short_path

if TYPE_CHECKING:
    from rich.console import Console

OWN = ("job.name", "job.dir")  # differ between any two jobs
LEVELS = "▁▂▃▄▅▆▇█"
CURVE, NAME, CELL = 60, 34, 30  # characters, at most, in a terminal
Point = tuple[float, float]


@dataclass
class Side:
    """One of the jobs. config: its keys, dotted; None if it can't be read. curves: points by metric, in order of steps."""

    name: str
    seen: Seen
    config: dict[str, Any] | None
    metrics: Mapping[str, Mapping[str, Any]]
    curves: dict[str, list[Point]]

    @property
    def state(self) -> str:
        return self.seen.status.state.value if self.seen.status else "-"

    @property
    def steps(self) -> int | None:
        told: int | None = (self.seen.result or {}).get("steps", (self.seen.progress or {}).get("step"))
        return told


def compare(names: Sequence[str], *, as_json: bool = False, status_of: StatusOf = Job.status) -> None:
    """Tells how jobs differ. names: jobs, and folders whose jobs are all meant. Raises UserError if there is no such job, or
    only one."""
    jobs = list({job.dir.absolute(): job for name in names for job in jobs_of(name)}.values())
    if len(jobs) < 2:
        raise UserError(f"{jobs[0].name} is one job; name another to compare it with, or the folder of a sweep")
    sides = [_side(job, status_of) for job in jobs]
    keys, metrics = differing(sides), _metrics(sides)
    if as_json:
        print_json({"jobs": [_record(side, keys) for side in sides]})
        return
    console = make_console()
    _print_tables(console, sides, _rows(sides, keys, metrics))
    if not keys:
        console.print("\nno key of their configs differs", style="dim")
    _print_curves(console, sides, metrics)
    for side in sides:
        for why in side.seen.damage:
            console.print(visible(f"{side.name}: damaged: {why}"), style="red", soft_wrap=True)


def jobs_of(name: str, root: Path = RUNS) -> list[Job]:
    """The job of a name or a path, or all jobs of a sweep's or a study's folder. Raises UserError if there is none."""
    places = [] if "://" in name else [root / name, Path(name).expanduser()]
    if not any(is_job(place) for place in places):
        for place in (place for place in places if place.is_dir()):
            if jobs := list(all_jobs(place)):
                return sorted((Job(job.dir.absolute()) for job in jobs), key=_natural)
            if (place / STUDY).exists():
                raise UserError(f"{short_path(place)} is a study without trials; there is nothing to compare yet")
    return [find_job(name, root)]


def _natural(job: Job) -> list[tuple[bool, int, str]]:
    parts = re.split(r"(\d+)", str(job.dir))
    return [(i % 2 == 0, int(part) if i % 2 else 0, part) for i, part in enumerate(parts)]


def _side(job: Job, status_of: StatusOf) -> Side:
    seen = see(job, status_of, all_of_it=True)
    curves: dict[str, dict[float, float]] = {}
    for line in seen.metrics:  # a job that went on from a checkpoint reports steps again: the later one counts
        for name, value in line["values"].items():
            if value is not None:
                curves.setdefault(name, {})[line["step"]] = value
    points = {name: sorted(found.items()) for name, found in curves.items()}
    return Side(name_under(job, RUNS), seen, dict(leaves(seen.config)) if seen.config else None, seen.summed, points)


def differing(sides: Sequence[Side]) -> list[str]:
    """The keys that not all configs have with one value, in the order of the configs; 1 and true are two values."""
    known = [side.config for side in sides if side.config is not None]
    keys = dict.fromkeys(key for config in known for key in config)
    return [key for key in keys if key not in OWN and len({repr(config.get(key, KeyError)) for config in known}) > 1]


def _metrics(sides: Sequence[Side]) -> list[str]:
    return sorted({name for side in sides for name in side.metrics}, key=prominence)


def best_of(sides: Sequence[Side], metric: str, which: str) -> list[bool]:
    """Which of the jobs have the best value of a metric. None where fewer than two have it, all have the same, or jobs don't
    agree on whether more is better; what is not finite is never best."""
    values = [_value(side, metric, which) for side in sides]
    having = [side for side in sides if metric in side.metrics]
    ways = {more_is_better(metric, side.seen.running.get("maximize", ())) for side in having}
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if len(having) < 2 or len(ways) > 1 or not finite or len({*map(repr, values)}) == 1:
        return [False] * len(sides)
    best = max(finite) if ways == {True} else min(finite)
    return [value == best for value in values]


def _value(side: Side, metric: str, which: str) -> float | None:
    value: float | None = side.metrics[metric][which]["value"] if metric in side.metrics else None
    return value


def _record(side: Side, keys: Sequence[str]) -> dict[str, Any]:
    config = side.config or {}
    about = {"name": side.name, "dir": str(side.seen.job.dir.absolute()), "state": side.state, "steps": side.steps}
    differs = {key: config[key] for key in keys if key in config}
    return {**about, "differs": differs, "metrics": side.metrics, "damaged": "; ".join(side.seen.damage) or None}


# As a person reads it

Row = tuple[str, list[tuple[str, str]]]  # a label; a text and its style for each job


def _rows(sides: Sequence[Side], keys: Sequence[str], metrics: Sequence[str]) -> list[Row]:
    colors = {state.value: color for state, color in COLORS.items()}
    rows: list[Row] = [("state", [(visible(side.state), colors.get(side.state, "")) for side in sides])]
    rows.append(("steps", [("-" if side.steps is None else count(side.steps), "") for side in sides]))
    for key in keys:
        say = _saying(key, [(side.config or {}).get(key) for side in sides])
        texts = ["?" if c is None else say(c[key]) if key in c else "-" for c in (side.config for side in sides)]
        rows.append((visible(key.removesuffix("._target_")), [(text, "") for text in texts]))
    for metric in metrics:
        for which in ("best", "last"):
            marks = best_of(sides, metric, which)
            cells = [figure(_value(side, metric, which)) for side in sides]
            marked = [(f"{c} *" if m else c, "bold green" if m else "") for c, m in zip(cells, marks, strict=True)]
            rows.append((visible(f"{metric} {which}"), marked))
    return rows


def _saying(key: str, values: Sequence[Any]) -> Callable[[Any], str]:
    """How a key's values are written: classes by their short names where these tell them apart."""
    targets = {str(value) for value in values if value is not None}
    if key.endswith("_target_") and len({short_name(target) for target in targets}) == len(targets):
        return lambda value: visible(short_name(str(value)))
    return lambda value: "null" if value is None else visible(str(shown(value)))


def _print_tables(console: Console, sides: Sequence[Side], rows: Sequence[Row]) -> None:
    """As many jobs beside each other as there is room for, the rest below."""
    from rich.table import Table
    from rich.text import Text

    cut = console.is_terminal
    labels = [middle(label, max(12, console.width // 3)) if cut else label for label, _ in rows]
    left, first = max(map(len, labels)), 0
    columns = [[(visible(side.name), "bold"), *(cells[i] for _, cells in rows)] for i, side in enumerate(sides)]
    if cut:
        most = max(8, min(NAME, console.width - left - 2))
        columns = [
            [(middle(head[0], most), head[1]), *((middle(text, min(CELL, most)), style) for text, style in rest)]
            for head, *rest in columns
        ]
    widths = [max(len(text) for text, _ in column) for column in columns]
    while first < len(sides):
        last = first + 1
        while last < len(sides) and left + sum(w + 2 for w in widths[first : last + 1]) <= console.width:
            last += 1
        table = Table.grid(padding=(0, 2, 0, 0))
        for _ in range(first, last + 1):
            table.add_column(no_wrap=True, overflow="ellipsis")
        for label, *cells in zip(["", *labels], *columns[first:last], strict=True):
            table.add_row(Text(label, "dim"), *(Text(text, style) for text, style in cells))
        if first:
            console.print()
        console.print(table)
        first = last


def _print_curves(console: Console, sides: Sequence[Side], metrics: Sequence[str]) -> None:
    """The first metric of which there are curves, each job's in one line, on the same axes."""
    from rich.text import Text

    metric = next((name for name in metrics if any(len(side.curves.get(name, ())) > 1 for side in sides)), None)
    if metric is None:
        return
    drawn = [(side, side.curves[metric]) for side in sides if side.curves.get(metric)]
    finite = [value for _, points in drawn for _, value in points if math.isfinite(value)]
    if not finite:
        return
    low, high, end = min(finite), max(finite), max(points[-1][0] for _, points in drawn)
    names = [visible(side.name) for side, _ in drawn]
    names = [middle(name, min(NAME, console.width // 3)) for name in names] if console.is_terminal else names
    room = max(8, min(CURVE, console.width - max(map(len, names)) - 2))
    axes = f"\n{visible(metric)}, {figure(low)} to {figure(high)}, steps 0 to {count(end)}"
    console.print(Text(axes, "dim"), soft_wrap=True)
    for name, (_, points) in zip(names, drawn, strict=True):
        console.print(Text(f"{name:<{max(map(len, names))}}  {curve(points, room, end, low, high)}"), soft_wrap=True)


def curve(points: Sequence[Point], width: int, end: float, low: float, high: float) -> str:
    """Points as one line of blocks, over steps 0 to `end`: a block's height is the last value up to there, `x` one that is
    not finite; nothing before the first point and after the last."""
    cells = [" "] * width
    at = [min(width - 1, int(step / end * width)) if end > 0 else 0 for step, _ in points]
    for i, (_, value) in enumerate(points):
        level = (value - low) / (high - low) if high > low and math.isfinite(value) else 0.5
        mark = LEVELS[min(len(LEVELS) - 1, int(level * len(LEVELS)))] if math.isfinite(value) else "x"
        until = at[i + 1] if i + 1 < len(points) else at[i] + 1
        cells[at[i] : max(until, at[i] + 1)] = [mark] * max(until - at[i], 1)
    return "".join(cells).rstrip()
