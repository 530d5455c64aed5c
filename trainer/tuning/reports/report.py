"""report.html: a study, or a job, as one file that opens anywhere, offline, on a phone too. It fetches nothing."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from trainer.job.view.seen import Seen
from trainer.tuning.record import StudyRecord, readable
from trainer.tuning.reports.chart_data import chart_data
from trainer.tuning.reports.job_data import job_data

NAME = "report.html"
# in this order
STUDY = (
    "base",
    "frame",
    "lines",
    "title",
    "summary",
    "history",
    "parameters",
    "parallel",
    "timeline",
    "trials",
    "main",
)
JOB = ("base", "frame", "lines", "title", "timeline", "job")


def write_report(record: StudyRecord) -> Path:
    """Writes report.html into the study's directory, beside and then renamed."""
    return _write(record.dir, page(record))


def write_job_report(seen: Seen) -> Path:
    """Writes report.html into the job's directory, beside and then renamed."""
    return _write(seen.job.dir, job_page(seen))


def _write(directory: Path, text: str) -> Path:
    path = directory / NAME
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
    return path


def page(record: StudyRecord) -> str:
    """A study's page. Whatever the study holds is data there, never markup."""
    record = readable(record)
    data = chart_data(record)
    return _page(f"{record.name} – study", data["totals"]["text"], STUDY, data, "trials.csv")


def job_page(seen: Seen) -> str:
    """A job's page."""
    data = job_data(seen)
    return _page(f"{data['study']['name']} – job", data["study"]["state"], JOB, data, "metrics.jsonl")


def _page(title: str, summary: str, scripts: Sequence[str], data: Mapping[str, Any], beside: str) -> str:
    """Styles, scripts and data in one text. beside: the file that has the figures for whom the scripts don't run."""
    folder = files("trainer.tuning.reports") / "page"
    parts = {
        "title": html.escape(title),
        "summary": html.escape(summary),
        "css": (folder / "report.css").read_text(encoding="utf-8"),
        "js": "\n".join((folder / f"{name}.js").read_text(encoding="utf-8") for name in scripts),
        "data": script_json(data),
        "beside": beside,
    }
    template = (folder / "report.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def script_json(value: Any) -> str:
    """JSON that no text within it can end the script it stands in."""
    plain = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for char in "<>&":
        plain = plain.replace(char, f"\\u{ord(char):04x}")
    return plain
