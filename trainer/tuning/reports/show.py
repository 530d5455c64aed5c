"""A study as a person looks at it in a terminal: while it runs, afterwards, and in a few lines at its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from trainer.job.view.listing import print_json
from trainer.job.view.summary import line, make_console, next_command, pair
from trainer.process.format import duration, figure, middle, plural, short_path
from trainer.tuning.record import StudyRecord, Trial, readable, short_keys
from trainer.tuning.reports.about import about, lookup
from trainer.tuning.reports.best import command, model_of
from trainer.tuning.reports.gain import default_of, gained
from trainer.tuning.reports.importance import importances, is_number, text
from trainer.tuning.reports.plain import plain
from trainer.tuning.reports.totals import Totals, failures, files, state, totals

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

TOP = 10  # trials that are listed
REASONS = 5
IMPORTANT = 3
STATE_COLORS = {"ended": "green", "running": "cyan", "not ended": "yellow"}


def show(record: StudyRecord, *, as_json: bool = False) -> None:
    """Everything about a study: how far it is, its best trials, what matters, what it took, what failed."""
    if as_json:
        print_json(plain(record))
        return
    from rich.text import Text

    record = readable(record)
    console, sums, shares = make_console(), totals(record), importances(record)
    standing = state(record)
    title = Text.assemble((record.name, "bold"), "  ", (standing, STATE_COLORS[standing]))
    console.print(title.append(f"  {record.ends}" if record.ends else ""), soft_wrap=True)
    _pairs(
        console,
        [
            *about(record).items(),
            ("search", f"{record.search}, scheduler {record.scheduler}, seed {record.seed}"),
            ("trials", counts(sums)),
            ("time", cost(sums)),
            ("gain", gained(record)),
            ("weighs", matters(shares)),
        ],
    )
    for note in record.notes:
        line(console, Text(note, "yellow"))
    front = record.front()
    if front:
        console.print()
        several = len(record.metrics) > 1
        shown = front[:TOP] if several else record.ranked()[:TOP]
        more = f", {len(shown)} of {len(front)}" if len(front) > len(shown) else ""
        line(console, Text(f"Pareto front{more}" if several else "best trials", "bold"))
        console.print(_trials_table(record, shown, shares, console.width))
    failed = failures(record)
    if failed:
        console.print()
        console.print(_failures_table(failed))
        if len(failed) > REASONS:
            line(console, Text(f"and {plural(len(failed) - REASONS, 'reason')} more", "dim"))
    console.print()
    _pairs(console, [(name, short_path(path)) for name, path in files(record).items() if path])


def closing(record: StudyRecord) -> None:
    """How a study ended: the best configuration, its value, where its model is, what matters most, what to type next."""
    from rich.text import Text

    record = readable(record)
    console, sums = make_console(), totals(record)
    best = record.best()
    console.print()
    title = Text.assemble(
        ("Study", "bold green" if best else "bold yellow"), f"  {record.name}  in {duration(sums.seconds)}"
    )
    console.print(title, soft_wrap=True)
    if record.ends:
        line(console, Text(record.ends, "dim"))
    line(console, Text(f"{counts(sums)}; {cost(sums)}", "dim"))
    if best is None:
        line(console, Text(nothing(record, sums), "yellow"))
        for reason, trials in failures(record)[:REASONS]:
            line(console, Text(f"{plural(len(trials), 'trial')}: {reason}", "red"))
        pair(console, "next", f"headway tune show {short_path(record.dir)}")
        return
    console.print(_config_table(record, best))
    if told := gained(record):
        pair(console, "gain", told)
    front = record.front()
    if len(record.metrics) > 1:
        numbers = ", ".join(str(trial.number) for trial in front[:TOP])
        pair(console, "front", f"{plural(len(front), 'trial')}: {numbers}{', …' if len(front) > TOP else ''}")
    if important := matters(importances(record)):
        pair(console, "weighs", important)
    model, job = model_of(record, best), record.job(best)
    if model:
        pair(console, "model", short_path(model))
    if (record.dir / "report.html").exists():
        pair(console, "report", short_path(record.dir / "report.html"))
    pair(console, "next", command(record))
    if model and job is not None:
        pair(console, "", next_command(job, model, trusted=True))
    pair(console, "", f"headway tune show {short_path(record.dir)}")


def counts(sums: Totals) -> str:
    """`12 trials: 8 completed, 3 stopped early, 1 failed`."""
    parts = [f"{count} {state.replace('_', ' ')}" for state, count in sums.states.items()]
    told = f"{plural(sums.trials, 'trial')}" + (f": {', '.join(parts)}" if parts else "")
    return told + (f"; {plural(sums.prior, 'trial')} of earlier studies" if sums.prior else "")


def cost(sums: Totals) -> str:
    """`2 h 10 min, 14.2 device-hours, 3 min 2 s lost to 12 interruptions`."""
    parts = [duration(sums.seconds), f"{figure(sums.device_seconds / 3600)} device-hours"]
    if sums.interruptions:
        lost = f"{duration(sums.lost_seconds)} lost" if sums.lost_seconds else "nothing lost"
        parts.append(f"{lost} to {plural(sums.interruptions, 'interruption')}")
    return ", ".join(parts)


def matters(shares: Mapping[str, float]) -> str:
    """The three most important parameters, with their shares; nothing if it can't be told."""
    told = list(shares.items())[:IMPORTANT]
    return ", ".join(f"{key} {share:.0%}" for key, share in told if share >= 0.005)


def nothing(record: StudyRecord, sums: Totals) -> str:
    """Why there is no best trial."""
    if not sums.trials:
        return "no trial was made"
    if sums.states.get("failed") == sums.trials:
        return "every trial failed"
    if any(trial.state == "completed" and not trial.feasible for trial in record.trials):
        return "no completed trial keeps the constraints"
    return "no trial has completed with a value"


def value(item: Any) -> str:
    """A parameter's value in few characters."""
    if isinstance(item, float) and is_number(item):
        return f"{item:.6g}" if 0.99 < item < 1 else f"{item:.4g}"
    return text(item)


def _pairs(console: Console, pairs: Iterable[tuple[str, str]]) -> None:
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, told in pairs:
        if told:
            table.add_row(label, told)
    console.print(table)


def _table() -> Table:
    from rich.table import Table

    return Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")


def _config_table(record: StudyRecord, best: Trial) -> Table:
    """The best value and configuration, beside what the study started from."""
    table = _table()
    table.add_column(f"best: trial {best.number}", no_wrap=True)
    table.add_column("", justify="right", overflow="fold")
    table.add_column("default", justify="right", style="dim", overflow="fold")
    trial = default_of(record)
    usual = trial.objective if trial and trial.objective else ()
    for i, (metric, number) in enumerate(zip(record.metrics, best.objective or (), strict=False)):
        table.add_row(metric, figure(number), figure(usual[i]) if i < len(usual) else "")
    for key in record.keys:
        if key in best.values:
            known, default = lookup(record.base, key)
            table.add_row(key, value(best.values[key]), value(default) if known else "")
    return table


def _trials_table(record: StudyRecord, trials: list[Trial], shares: Mapping[str, float], width: int) -> Table:
    """Trials with their values and as many parameters as the terminal is wide, the important ones first."""
    names = short_keys(record.keys)
    keys = sorted(record.keys, key=lambda key: -shares.get(key, 0.0))
    rows = [
        {
            "trial": str(t.number),
            **{m: figure(v) for m, v in zip(record.metrics, t.objective or (), strict=False)},
            **{key: middle(value(t.values[key]), 24) if key in t.values else "-" for key in keys},
            "time": duration(t.seconds),
        }
        for t in trials
    ]
    heads = {name: names.get(name, name) for name in rows[0]}
    widths = {name: max(len(heads[name]), *(len(row.get(name, "")) for row in rows)) for name in heads}
    for name in ["time", *reversed(keys)]:
        if sum(widths.values()) + 3 * (len(widths) - 1) <= width:
            break
        del widths[name]
    table = _table()
    for name in widths:
        table.add_column(heads[name], justify="right", no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*(row.get(name, "-") for name in widths))
    return table


def _failures_table(failed: list[tuple[str, list[int]]]) -> Table:
    from rich.text import Text

    table = _table()
    table.add_column("failed", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    table.add_column("trials", style="dim", overflow="fold")
    for reason, trials in failed[:REASONS]:
        told = ", ".join(map(str, trials[:5])) + (", …" if len(trials) > 5 else "")
        table.add_row(str(len(trials)), Text(reason, "red"), told)
    return table
