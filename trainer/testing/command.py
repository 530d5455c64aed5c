"""`headway check`: whether an algorithm keeps what built-in ones keep, point by point."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from trainer.errors import UserError
from trainer.testing.algorithms import Bench, run_points

COLORS = {"passed": "green", "failed": "red", "skipped": "yellow"}


def check(overrides: list[str]) -> int:
    """Tries each point and prints a table. Returns 1 if any failed; then the jobs are left where the table says."""
    from rich.table import Table
    from rich.text import Text

    from trainer.summary import make_console

    for override in overrides:
        if "=" not in override:
            raise UserError(f"check: {override!r} is not an override; write `headway check algorithm=NAME data=NAME`")
    folder = Path(tempfile.mkdtemp(prefix="headway-check-"))
    table = Table("point", "", "seconds", "what was seen")
    failed = False
    for outcome in run_points(Bench(overrides, folder)):
        failed = failed or outcome.status == "failed"
        color = COLORS[outcome.status]
        table.add_row(outcome.point, Text(outcome.status, color), f"{outcome.seconds:.1f}", Text(outcome.seen))
    make_console().print(table)
    if failed:
        print(f"the jobs are in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0
