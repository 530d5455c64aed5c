"""What the page of one job draws, as JSON: to its charts it is a study of one trial. Times are seconds since it began."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from trainer.config.overrides.dotted import leaves
from trainer.job.account import in_order, interruptions, total_seconds, when
from trainer.job.directory import State
from trainer.job.result import NOT_METRICS, is_of_the_run
from trainer.job.view import divergence, timeline
from trainer.job.view.seen import Seen
from trainer.job.view.summary import amounts, error_line
from trainer.process.escape import shown
from trainer.process.format import figure, plural, prominence
from trainer.tuning.curves import Point, curves
from trainer.tuning.reports.about import about_job
from trainer.tuning.reports.chart_data import plain, waits
from trainer.tuning.reports.importance import text
from trainer.tuning.reports.lines import thinned
from trainer.tuning.reports.scales import helps

POINTS, MOST = 20_000, 400  # of all curves together, and of one
ACTIVE = (State.PENDING.value, State.STARTING.value)  # to be drawn as running


def job_data(seen: Seen) -> dict[str, Any]:
    """The whole of the page's data, with no NaN and no infinity, and no text that a terminal would obey."""
    state = seen.status.state.value if seen.status else "-"
    events = in_order(seen.events)
    began = next((when(event) for event in events), seen.started)
    ended = when(events[-1]) if events and State(events[-1]["state"]).is_final else None
    until = ended if ended is not None else time.time()
    costs, result = interruptions(seen.events), seen.result or {}
    found = curves(seen.metrics, "steps", began)
    lost = sum(line["seconds_lost"] or 0.0 for line in costs)
    wall = total_seconds(seen.events, until) if events else 0.0
    data = {
        "job": {
            "state": state,
            "reason": (seen.status.reason if seen.status else "") or "",
            "steps": result.get("steps", (seen.progress or {}).get("step")),
            "amounts": amounts(result) if result else [],
            "metrics": _summary(seen.summed),
            "events": timeline.rows(seen.events),
            "interruptions": timeline.interruptions(costs),
            "heads": timeline.INTERRUPTED,
            "resumed": sorted({line["resumed"] for line in costs if line["resumed"] is not None}),
            "config": _config(seen.config),
        },
        "study": {
            "name": seen.job.name,
            "state": state,
            "unit": "steps",
            "metrics": [],
            "notes": _notes(seen),
            "about": about_job(seen),
        },
        "metrics": [{"name": name, "log": helps(point[2] for point in found[name])} for name in _order(found)],
        "params": [],
        "margin": 0.0,
        "best": None,
        "trials": [
            {
                "n": -1,
                "s": "running" if state in ACTIVE else state.lower(),
                "a": 0.0,
                "b": None if ended is None else round(until - began, 2),
                "w": waits(costs, began),
                "i": len(costs),
                "l": round(lost, 1),
                "p": None,
                "c": [_drawn(found[name], len(found)) for name in _order(found)],
            }
        ],
        "totals": {
            "seconds": round(until - began, 2),
            "device": wall * (seen.running.get("world_size") or 1),
            "lost": lost,
            "interruptions": len(costs),
        },
    }
    return dict(plain(shown(data)))


def _order(names: Iterable[str]) -> list[str]:
    """Metrics first, then what tells of the machines."""
    return sorted(names, key=lambda name: (name in NOT_METRICS, is_of_the_run(name), prominence(name)))


def _summary(metrics: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str, int]]:
    """Name, last, best and the step of the best."""
    return [
        (name, figure(told["last"]["value"]), figure(told["best"]["value"]), told["best"]["step"])
        for name in _order(metrics)
        for told in [metrics[name]]
    ]


def _drawn(points: list[Point], count: int) -> tuple[list[float], list[float], int]:
    """[x, y, 0] in few points."""
    few = thinned(points, max(8, min(MOST, POINTS // max(1, count))))
    return [point[0] for point in few], [float(f"{point[2]:.6g}") for point in few], 0


def _notes(seen: Seen) -> list[str]:
    """What whoever looks after the job should read, what failed first."""
    result = seen.result or {}
    notes = [f"damaged: {why}" for why in seen.damage]
    if seen.dropped:
        notes.append(
            f"{plural(seen.dropped, 'line')} of events and reports ended with a machine's power and are left out"
        )
    if result.get("error"):
        notes.append(error_line(seen.job, result))
    if result.get("model") and (doubt := divergence.told(seen.metrics)):
        notes.append(doubt)
    return [*notes, *map(str, (result or seen.progress or {}).get("notes") or ())]


def _config(config: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Each group with its keys and their values as one would type them."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for key, value in leaves(config):
        groups.setdefault(key.partition(".")[0], []).append((key, text(value)))
    return list(groups.items())
