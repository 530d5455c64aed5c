"""What a trial reported while it learned, over what its study counts in: steps, epochs or seconds since it began."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Point = tuple[float, float, float]  # resource in the study's unit, seconds since the trial began, value
Report = Mapping[str, Any]


def curves(reports: Sequence[Report], unit: str, started: float | None) -> dict[str, list[Point]]:
    """Every metric's reports, in order; of steps that an interrupted trial came to again, the later report. A trial that
    goes on elsewhere has its clock from its own first start."""
    found: dict[str, list[tuple[int, Point]]] = {}
    for report in reports:
        seconds = _seconds(report, reports, started)
        for name, value in report["values"].items():
            if value is None:
                continue
            points = found.setdefault(name, [])
            while points and points[-1][0] >= report["step"]:
                points.pop()
            points.append((report["step"], (_resource(report, seconds, unit), seconds, float(value))))
    return {name: [point for _, point in points] for name, points in found.items()}


def reached(reports: Sequence[Report], unit: str, started: float | None, step: int) -> float | None:
    """The resource of the last report up to a step; None if there is none."""
    within = [report for report in reports if report["step"] <= step]
    return _resource(within[-1], _seconds(within[-1], reports, started), unit) if within else None


def _seconds(report: Report, reports: Sequence[Report], started: float | None) -> float:
    return float(report["time"]) - (started if started is not None else float(reports[0]["time"]))


def _resource(report: Report, seconds: float, unit: str) -> float:
    return seconds if unit == "seconds" else float(report["epoch" if unit == "epochs" else "step"])
