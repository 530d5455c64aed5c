"""report.html: a study as one file that opens anywhere, offline, on a phone too. It fetches nothing."""

from __future__ import annotations

import html
import json
import os
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from trainer.tuning.record import StudyRecord, readable
from trainer.tuning.reports.chart_data import chart_data

NAME = "report.html"
SCRIPTS = (
    "base",
    "frame",
    "summary",
    "history",
    "parameters",
    "parallel",
    "timeline",
    "trials",
    "main",
)  # in this order


def write_report(record: StudyRecord) -> Path:
    """Writes report.html into the study's directory, beside and then renamed."""
    path = record.dir / NAME
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(page(record), encoding="utf-8")
    os.replace(beside, path)
    return path


def page(record: StudyRecord) -> str:
    """The page: styles, scripts and data in one text. Whatever the study holds is data there, never markup."""
    record = readable(record)
    data = chart_data(record)
    folder = files("trainer.tuning.reports") / "page"
    parts = {
        "title": html.escape(f"{record.name} – study"),
        "summary": html.escape(data["totals"]["text"]),
        "css": (folder / "report.css").read_text(encoding="utf-8"),
        "js": "\n".join((folder / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS),
        "data": script_json(data),
    }
    template = (folder / "report.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def script_json(value: Any) -> str:
    """JSON that no text within it can end the script it stands in."""
    plain = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for char in "<>&":
        plain = plain.replace(char, f"\\u{ord(char):04x}")
    return plain
