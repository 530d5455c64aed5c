"""What a drill came to: every fault, every run, and the table by kind; as report.json and as a person reads it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import ExitCode
from trainer.job.directory import State, write_json
from trainer.job.view.summary import line, make_console
from trainer.process.format import clock, duration, plural, short_path
from trainer.testing.chaos.judge import middle
from trainer.testing.chaos.schedule import KINDS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

REPORT = "report.json"


@dataclass
class FaultRecord:
    """A fault that was given, and what became of the job.

    at: seconds since the drill began; step: where the job was; resumed: the steps it went on from; wrong: what should
    not have been.
    """

    number: int
    kind: str
    moment: str
    wait: float
    draw: float
    options: dict[str, Any]
    run: int
    at: float
    words: str
    step: int
    resumed: list[int]
    steps_lost: int
    recovery_seconds: float | None
    survived: bool
    why: str = ""
    wrong: list[str] = field(default_factory=list)


@dataclass
class RunRecord:
    """A run under faults, held against the undisturbed one."""

    number: int
    setting: str
    dir: str
    state: str = State.PENDING.value
    seconds: float = 0.0
    faults: int = 0
    weights: bool | None = None  # whether they are identical; None: it did not come so far
    metrics: bool | None = None
    problems: list[str] = field(default_factory=list)


@dataclass
class Report:
    """Everything about a drill."""

    command: Sequence[str]
    seed: int
    asked: int
    dir: str
    began: float = field(default_factory=time.time)
    seconds: float = 0.0
    undisturbed: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: list[FaultRecord] = field(default_factory=list)
    runs: list[RunRecord] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether all was survived and nothing was wrong."""
        return self.error is None and bool(self.faults) and not self.problems()

    def problems(self) -> list[str]:
        """What was not survived, and what was wrong, in words."""
        found = [f"fault {f.number} ({f.kind}, run {f.run}) was not survived: {f.why}" for f in self.faults if f.why]
        found += [f"fault {f.number} ({f.kind}, run {f.run}): {words}" for f in self.faults for words in f.wrong]
        for run in self.runs:
            found += [f"run {run.number}: {words}" for words in run.problems]
            if run.state != State.COMPLETED and not run.problems:
                found.append(f"run {run.number} did not complete; it is {run.state}")
        return found

    def kinds(self) -> dict[str, dict[str, Any]]:
        """What each kind came to."""
        return {kind: of_kind([f for f in self.faults if f.kind == kind]) for kind in KINDS if self._has(kind)}

    def _has(self, kind: str) -> bool:
        return any(fault.kind == kind for fault in self.faults)

    def record(self) -> dict[str, Any]:
        compared = [run for run in self.runs if run.weights is not None]
        return {
            "ok": self.ok,
            "command": list(self.command),
            "seed": self.seed,
            "asked": self.asked,
            "began": self.began,
            "seconds": self.seconds,
            "undisturbed": self.undisturbed,
            "total": of_kind(self.faults),
            "kinds": self.kinds(),
            "wrong_resumes": sum(bool(fault.wrong) for fault in self.faults),
            "lost_after_notice": sum(f.steps_lost for f in self.faults if KINDS[f.kind].notice),
            "weights_identical": sum(bool(run.weights) for run in compared),
            "metrics_identical": sum(bool(run.metrics) for run in compared),
            "runs_compared": len(compared),
            "left_out": self.left_out,
            "problems": self.problems(),
            "error": self.error,
            "faults": [asdict(fault) for fault in self.faults],
            "runs": [asdict(run) for run in self.runs],
        }

    def write(self) -> Path:
        path = Path(self.dir) / REPORT
        write_json(path, self.record())
        return path


def read(path: Path) -> Report:
    """A report that was written. Raises ValueError or KeyError if it is none."""
    record = json.loads(path.read_text(encoding="utf-8"))
    report = Report(record["command"], record["seed"], record["asked"], str(path.parent), record["began"])
    report.seconds, report.undisturbed = record["seconds"], record["undisturbed"]
    report.left_out, report.error = record["left_out"], record["error"]
    report.faults = [FaultRecord(**fault) for fault in record["faults"]]
    report.runs = [RunRecord(**run) for run in record["runs"]]
    return report


def of_kind(faults: Sequence[FaultRecord]) -> dict[str, Any]:
    """Given, survived, steps lost and seconds to recover, of these faults."""
    times = [fault.recovery_seconds for fault in faults if fault.recovery_seconds is not None]
    lost = [fault.steps_lost for fault in faults]
    return {
        "given": len(faults),
        "survived": sum(fault.survived for fault in faults),
        "wrong": sum(bool(fault.wrong) for fault in faults),
        "steps_lost": {"sum": sum(lost), "max": max(lost, default=0)},
        "recovery_seconds": {"median": middle(times), "max": max(times, default=None)},
    }


def show_fault(console: Console, fault: FaultRecord) -> None:
    """A line: when, what, where the job was and went on, what it cost."""
    from rich.text import Text

    what = " ".join(filter(None, [fault.words, f"({fault.moment})" if fault.moment != "running" else ""]))
    went = f"step {fault.step:,}" + "".join(f" → {step:,}" for step in fault.resumed)
    cost = "went on" if not fault.resumed else f"{fault.steps_lost:,} lost" if fault.steps_lost else "nothing lost"
    back = "" if fault.recovery_seconds is None else f", {fault.recovery_seconds:.1f} s"
    text = Text.assemble(
        (f"{clock(fault.at):>7}  ", "dim"),
        f"{fault.kind:<12}  ",
        f"{went:<24}  ",
        f"{cost}{back}",
        (f"  {what}", "dim"),
    )
    for words in [*([f"not survived: {fault.why}"] if fault.why else []), *fault.wrong]:
        text.append(f"  {words}", "red")
    line(console, text)


def show(console: Console, reports: Sequence[tuple[str, Report]]) -> None:
    """The table of a drill, or of several as one, and what they come to."""
    faults = [fault for _, report in reports for fault in report.faults]
    console.print()
    console.print(_kinds_table(faults))
    console.print()
    console.print(_runs_table(reports))
    left_out = {kind: why for _, report in reports for kind, why in report.left_out.items()}
    problems = [f"{name} {problem}".strip() for name, report in reports for problem in report.problems()]
    problems += [f"{name} {report.error}".strip() for name, report in reports if report.error]
    console.print()
    for kind, why in left_out.items():
        console.print(f"left out: {kind}: {why}", style="yellow", soft_wrap=True)
    for problem in problems[:20]:
        console.print(problem, style="red", soft_wrap=True)
    if len(problems) > 20:
        console.print(f"and {len(problems) - 20} more, in {REPORT}", style="red")
    console.print(_sentence(faults, [report for _, report in reports]), soft_wrap=True)


def _table(*numbers: str, first: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column(first, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _kinds_table(faults: Sequence[FaultRecord]) -> Table:
    table = _table("given", "survived", "wrong", "steps lost", "at most", "back after", "at most", first="fault")
    rows = [(kind, [fault for fault in faults if fault.kind == kind]) for kind in KINDS]
    for name, chosen in [*rows, ("all", list(faults))]:
        if not chosen:
            continue
        found = of_kind(chosen)
        lost, times = found["steps_lost"], found["recovery_seconds"]
        counts = [found["given"], found["survived"], found["wrong"], lost["sum"], lost["max"]]
        table.add_row(name, *(f"{number:,}" for number in counts), duration(times["median"]), duration(times["max"]))
    return table


def _runs_table(reports: Sequence[tuple[str, Report]]) -> Table:
    table = _table("runs", "faults", "weights identical", "metrics identical", first="runs")
    for name, report in reports:
        for setting in dict.fromkeys(run.setting for run in report.runs):
            runs = [run for run in report.runs if run.setting == setting]
            same = [sum(bool(getattr(run, what)) for run in runs) for what in ("weights", "metrics")]
            words = ["yes" if number == len(runs) else f"{number} of {len(runs)}" for number in same]
            table.add_row(f"{name} {setting}".strip(), f"{len(runs):,}", f"{sum(r.faults for r in runs):,}", *words)
    return table


def _sentence(faults: Sequence[FaultRecord], reports: Sequence[Report]) -> str:
    survived, wrong = sum(fault.survived for fault in faults), sum(bool(fault.wrong) for fault in faults)
    noticed = sum(fault.steps_lost for fault in faults if KINDS[fault.kind].notice)
    runs = [run for report in reports for run in report.runs]
    same = sum(bool(run.weights) for run in runs)
    seconds = sum(report.seconds for report in reports)
    return (
        f"{plural(len(faults), 'fault')}: {survived:,} survived, {plural(wrong, 'wrong resume')}, "
        f"{plural(noticed, 'step')} lost after a notice, final weights identical in {same:,} of "
        f"{plural(len(runs), 'run')}; {duration(seconds)}"
    )


def main(arguments: Sequence[str]) -> int:
    """`python -m trainer.testing.chaos.report DIR…`: the drills of these folders as one table. 1 if any was not survived."""
    reports = [(Path(folder).name, read(Path(folder) / REPORT)) for folder in arguments]
    show(make_console(), reports)
    print("reports", ", ".join(short_path(Path(folder) / REPORT) for folder in arguments))
    well = reports and all(report.ok for _, report in reports)
    return ExitCode.COMPLETED if well else ExitCode.FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
