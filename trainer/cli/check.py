"""`headway check`: whether an algorithm keeps what built-in ones keep, point by point."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.config.conf_files import added
from trainer.errors import ExitCode, UserError
from trainer.job import code_path
from trainer.testing.algorithms import POINTS, Bench, Outcome, named, run_points

if TYPE_CHECKING:
    from rich.table import Table

COLORS = {"passed": "green", "failed": "red", "skipped": "yellow"}


def check(overrides: list[str]) -> int:
    """Tries each point and prints a table, in a terminal as it fills. Returns 1 if any failed; then the jobs are left where
    the table says. Raises UserError for a config that is refused."""
    for override in overrides:
        if "=" not in override:
            raise UserError(f"check: {override!r} is not an override; write `headway check algorithm=NAME data=NAME`")
    code_path.last(*added(overrides))
    folder = Path(tempfile.mkdtemp(prefix="headway-check-"))
    try:
        return _tried(overrides, folder)
    except BaseException:  # told to leave, or the config is refused
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _tried(overrides: list[str], folder: Path) -> int:
    from rich.live import Live

    from trainer.job.view.summary import make_console

    points = run_points(Bench(overrides, folder))
    outcomes = [next(points)]
    if outcomes[0].status == "failed":
        raise UserError(outcomes[0].seen)
    console = make_console()
    with Live(_table(outcomes), console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:
        for outcome in points:
            outcomes.append(outcome)
            if live is not None:
                live.update(_table(outcomes), refresh=True)
    if not console.is_terminal:
        console.print(_table(outcomes))
    if any(outcome.status == "failed" for outcome in outcomes):
        print(f"the jobs are in {folder}")
        return ExitCode.FAILED
    shutil.rmtree(folder, ignore_errors=True)
    return ExitCode.COMPLETED


def _table(outcomes: list[Outcome]) -> Table:
    """What is known by now, and which point is being tried."""
    from rich.table import Table
    from rich.text import Text

    table = Table("point", "", "seconds", "what was seen")
    for outcome in outcomes:
        status = Text(outcome.status, COLORS[outcome.status])
        table.add_row(outcome.point, status, f"{outcome.seconds:.1f}", Text(outcome.seen))
    if len(outcomes) < len(POINTS):
        table.add_row(named(POINTS[len(outcomes)]), Text("…", "dim"))
    return table
