"""Jobs as a person looks at them afterwards: all of them, one of them, its logs. Writes nothing."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.config.code.signature import read_signature
from trainer.config.schema import load_job
from trainer.errors import UserError, did_you_mean
from trainer.job.carried import NOT_THERE
from trainer.job.directory import AS_TOLD, Job, State
from trainer.job.result import more_is_better
from trainer.job.view import siblings, timeline
from trainer.job.view.logs import logs as logs
from trainer.job.view.seen import Seen, StatusOf, is_job, see
from trainer.job.view.selection import Selection, cell, chosen, facts
from trainer.job.view.summary import (
    choice,
    error_line,
    make_console,
    metrics_table,
    profile_table,
    prominence,
    remarks,
    tell,
    times,
)
from trainer.job.view.varying import varying
from trainer.process.escape import shown, visible
from trainer.process.format import age, clock, count, figure, middle, plural, short_path

if TYPE_CHECKING:
    from rich.table import Table

RUNS = Path("runs")
COLORS = {
    State.COMPLETED: "green",
    State.FAILED: "red",
    State.RUNNING: "cyan",
    State.STARTING: "cyan",
    State.INTERRUPTED: "yellow",
    State.STOPPED: "yellow",
}


def all_jobs(root: Path = RUNS) -> Iterator[Job]:
    """The jobs under a folder, and those one level deeper, where a sweep puts its own."""
    for directory in _folders(root):
        if is_job(directory):
            yield Job(directory)
        else:
            yield from (Job(inner) for inner in _folders(directory) if is_job(inner))


def _folders(root: Path) -> list[Path]:
    try:
        return [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    except OSError:  # it is somebody else's, or has just been deleted
        return []


def name_under(job: Job, root: Path) -> str:
    """What a job is called among those of a folder: its path from there, or its own name if it lies elsewhere."""
    directory, root = job.dir.absolute(), root.absolute()
    return str(directory.relative_to(root)) if directory.is_relative_to(root) else job.name


def find_job(name_or_path: str, root: Path = RUNS) -> Job:
    """The job of a name under `root`, or of a path. Raises UserError, with the nearest names, if there is none."""
    if "://" in name_or_path:
        from trainer.job.remote.download import known_of

        return known_of(name_or_path)
    for directory in (root / name_or_path, Path(name_or_path).expanduser()):
        if is_job(directory):
            return Job(directory.absolute())
    if Path(name_or_path).is_dir():
        raise UserError(f"{name_or_path} is not a job's directory: it has no config.yaml")
    known = [name_under(job, root) for job in all_jobs(root)]
    hint = did_you_mean(name_or_path, known)
    if hint.startswith("there is ") and len(known) > 5:
        hint = "`headway ls` lists them"
    raise UserError(f"there is no job {name_or_path!r} in {short_path(root)}; {hint}")


# All of them


def list_jobs(
    root: Path = RUNS,
    *,
    as_json: bool = False,
    status_of: StatusOf = Job.status,
    selection: Selection | None = None,
) -> None:
    """A table of the jobs under a folder, newest last, or those that are selected. Raises UserError for what can't select.

    status_of: tells a job that runs from one whose directory says so but nobody works on; it is asked for jobs
    without a result only.
    """
    seen = sorted((see(job, status_of) for job in all_jobs(root)), key=lambda one: one.started)
    columns: dict[str, list[Any]] = {}
    if selection is not None:
        known = [facts(_summary(one, root), one.config, one.summed) for one in seen]
        kept = chosen(known, selection)
        seen = [seen[i] for i in kept]
        columns = {key: [known[i].get(key) for i in kept] for key in selection.columns}
    if as_json:
        rows = [_summary(one, root) for one in seen]
        print_json([{**row, **{key: values[i] for key, values in columns.items()}} for i, row in enumerate(rows)])
    elif seen:
        _print_table(seen, root, {key: [cell(value) for value in values] for key, values in columns.items()})
    elif selection is not None and selection.where:
        print(f"no job in {short_path(root)} is such a one")
    else:
        print(f"no jobs in {short_path(root)}; `headway train algorithm=linear data=digits` makes one")


def table(jobs: Iterable[Job], status_of: StatusOf = Job.status, root: Path = RUNS) -> None:
    """A table of these jobs, of a sweep: with the settings in which they differ, and the best marked."""
    seen = [see(job, status_of) for job in jobs]
    _print_table(seen, root, varying([one.config for one in seen]), _best(seen, root))


def _best(seen: Sequence[Seen], root: Path) -> int | None:
    """The one with the best value of the metric that they have all; None where they have none, or all the same."""
    rows = [_summary(one, root) for one in seen]
    found = [i for i, row in enumerate(rows) if row["metric"] and isinstance(row["best"], int | float)]
    if len({rows[i]["metric"] for i in found}) != 1 or len({rows[i]["best"] for i in found}) < 2:
        return None
    more = more_is_better(rows[found[0]]["metric"], seen[found[0]].running.get("maximize", ()))
    return (max if more else min)(found, key=lambda i: rows[i]["best"])


def _print_table(
    seen: Iterable[Seen], root: Path, columns: Mapping[str, Sequence[str]] | None = None, best: int | None = None
) -> None:
    console, rows = make_console(), [shown(_summary(one, root)) for one in seen]
    console.print(_jobs_table(rows, console.width, shown(dict(columns or {})), best))
    for note in _notes(rows):
        console.print(note, style="dim", soft_wrap=True, markup=False, highlight=False)


def _notes(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """What the table should say of those whose launcher could not be asked, or that S3 lacks."""
    return [f"{row['name']}: {row['reason']}" for row in rows if (row["reason"] or "").startswith((AS_TOLD, NOT_THERE))]


def summary(job: Job, root: Path, status_of: StatusOf) -> dict[str, Any]:
    """What `headway ls --json` says of a job; null is what isn't known."""
    return _summary(see(job, status_of), root)


def _summary(seen: Seen, root: Path) -> dict[str, Any]:
    result, status, started, config = seen.result, seen.status, seen.started, seen.config
    metrics = seen.summed
    if result:
        steps, total = result["steps"], None
        workers = result.get("world_size")
        seconds = result["seconds"]["wall"]
    else:
        progress, running = seen.progress or {}, seen.running
        steps, total, workers = progress.get("step"), progress.get("total"), running.get("world_size")
        seconds = round(max(0.0, time.time() - started), 3) if status and status.state.is_active else None
    metric = min(metrics, key=prominence, default=None)
    return {
        "name": name_under(seen.job, root),
        "dir": str(seen.job.dir.absolute()),
        "state": status.state.value if status else None,
        "reason": (status and status.reason) or None,
        "damaged": "; ".join(seen.damage) or None,
        "algorithm": choice(config, "algorithm"),
        "data": choice(config, "data"),
        "workers": workers,
        "metric": metric,
        "best": metrics[metric]["best"]["value"] if metric else None,
        "steps": steps,
        "total_steps": total,
        "seconds": seconds,
        "started": round(started, 3),
    }


def _jobs_table(
    rows: list[dict[str, Any]], width: int, columns: Mapping[str, Sequence[str]] | None = None, best: int | None = None
) -> Table:
    from rich.table import Table
    from rich.text import Text

    def metric(row: Mapping[str, Any]) -> str:
        name = (row["metric"] or "").removeprefix("validation_")
        return f"{name} {figure(row['best'])}" if name else "-"

    def steps(row: Mapping[str, Any]) -> str:
        done = "-" if row["steps"] is None else count(row["steps"])
        return f"{done}/{count(row['total_steps'])}" if row["total_steps"] else done

    def seconds(row: Mapping[str, Any]) -> str:
        return clock(row["seconds"]) if row["seconds"] is not None else "-"

    now = time.time()
    texts = [
        {
            "job": middle(r["name"], max(34, width - 70)),
            **{name: values[i] for name, values in (columns or {}).items()},
            "state": r["state"] or "-",
            "algorithm": r["algorithm"],
            "data": r["data"],
            "workers": str(r["workers"] or "-"),
            "best": metric(r) + (" best" if i == best else ""),
            "steps": steps(r),
            "time": seconds(r),
            "age": age(now - r["started"]),
        }
        for i, r in enumerate(rows)
    ]
    notes = [f"damaged: {r['damaged']}" if r["damaged"] else "" for r in rows]
    widths = {name: max(len(name), *(len(t[name]) for t in texts)) for name in texts[0]}
    for name in (
        "workers",
        "steps",
        "age",
        "data",
        "algorithm",
        "time",
    ):  # the first that a narrow terminal does without
        if sum(widths.values()) + 2 * (len(widths) - 1) <= width:
            break
        del widths[name]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in widths:
        right = name in ("workers", "steps", "time", "age")
        table.add_column(name, justify="right" if right else "left", no_wrap=True, overflow="ellipsis")
    if any(notes):
        table.add_column("", overflow="fold")
    for text, note in zip(texts, notes, strict=True):
        cells = [Text(text[n], _color(text["state"]) if n == "state" else "") for n in widths]
        table.add_row(*cells, *([Text(note, "red")] if any(notes) else []))
    return table


def _color(state: str) -> str:
    return next((color for known, color in COLORS.items() if known.value == state), "")


# One of them


def show(job: Job, *, as_json: bool = False, status_of: StatusOf = Job.status) -> None:
    """Everything about one job."""
    load_job(job.config_path)  # raises UserError: without it little is known
    seen = see(job, status_of, all_of_it=True)
    result, events, config, status = seen.result, seen.events, seen.config, seen.status
    state, reason = (status.state.value, status.reason) if status else (None, "")
    metrics = seen.summed
    files = _files(job)
    if as_json:
        about: dict[str, Any] = {"name": job.name, "dir": str(job.dir.absolute()), "state": state}
        about |= {"reason": reason or None, "damaged": seen.damage}
        print_json({**about, "metrics": metrics, "result": result, "events": events, "files": files, "config": config})
        return
    from rich.text import Text

    console = make_console()
    failed = error_line(job, result) if result and result.get("error") else ""
    result, config, metrics, files = shown((result, config, metrics, files))
    title = Text.assemble((visible(job.name), "bold"), "  ", (visible(state or "-"), _color(state or "")))
    title.append(f"  {visible(reason)}" if reason else "", "dim")
    console.print(title, soft_wrap=True)
    for why in seen.damage:
        console.print(Text(visible(f"damaged: {why}"), "red"), soft_wrap=True)
    if seen.dropped:
        lost = f"{plural(seen.dropped, 'line')} of events and reports, which ended with a machine's power, are left out"
        console.print(Text(lost, "dim"), soft_wrap=True)
    pairs = [(noun, _chosen(config, noun)) for noun in ("algorithm", "data", "train", "strategy", "launcher")]
    if beside := siblings.told(job, RUNS):
        pairs.insert(0, ("among", beside))
    console.print(_pairs(pairs))
    if failed:
        console.print(Text(f"\n{failed}", "red"), soft_wrap=True)
    if metrics:
        console.print()
        console.print(metrics_table(metrics))
    if result:
        tell(console, result)
    elif progress := seen.progress:
        total = f" of {progress['total']:,}" if progress.get("total") else ""
        console.print(Text(f"step {progress.get('step') or 0:,}{total}, epoch {progress.get('epoch') or 0:.4g}", "dim"))
        console.print(Text("\n".join(times(progress)), "dim"), end="\n" if times(progress) else "")
        remarks(console, progress)
    console.print()
    if result and result.get("interruptions"):
        console.print(_account(result["interruptions"]))
        console.print()
    if table := profile_table(job):
        console.print(table)
        console.print()
    console.print(_timeline(events))
    console.print()
    console.print(_pairs([(name, short_path(path)) for name, path in files.items() if path]))


def print_json(value: Any) -> None:
    """Plain JSON, which has no NaN and no infinity: they are null."""

    def finite(part: Any) -> Any:
        if isinstance(part, dict):
            return {k: finite(v) for k, v in part.items()}
        if isinstance(part, list):
            return [finite(v) for v in part]
        return None if isinstance(part, float) and not math.isfinite(part) else part

    print(json.dumps(finite(value), indent=2, default=str))


def _pairs(pairs: Iterable[tuple[str, str]]) -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in pairs:
        table.add_row(label, value)
    return table


def _chosen(config: Mapping[str, Any], noun: str) -> str:
    """A noun's choice and the settings that differ from its defaults; of `train` all that are set."""
    node = config.get(noun) or {}
    settings = {k: v for k, v in node.items() if not k.startswith("_") and k != "name"}
    if noun == "train":
        return " ".join(f"{k}={v}" for k, v in settings.items() if v is not None and not isinstance(v, dict))
    try:
        signature = read_signature(str(node["_target_"])) if "_target_" in node else None
    except UserError:
        signature = None  # its package is not installed here
    defaults = {p.name: p.default for p in signature.parameters} if signature else {}
    said = [f"{k}={v}" for k, v in settings.items() if k not in defaults or defaults[k] != v]
    return " ".join([choice(config, noun), *said])


def _account(lines: list[dict[str, Any]]) -> Table:
    """Every interruption: where it came from, and what it cost."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    first, *rest = timeline.INTERRUPTED
    table.add_column(first, overflow="ellipsis", no_wrap=True)
    for name in rest:
        table.add_column(name, justify="right", no_wrap=True)
    for row in timeline.interruptions(lines):
        table.add_row(*row)
    return table


def _timeline(events: list[dict[str, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(style="dim", no_wrap=True, justify="right")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for when, passed, state, details in timeline.rows(events):
        table.add_row(when, passed, Text(visible(state), _color(state)), visible(details))
    return table


def _files(job: Job) -> dict[str, str | None]:
    page = job.dir / "report.html"
    found = {"folder": job.dir, "model": job.model, "logs": job.logs, "profile": job.profile, "report": page}
    files = {name: str(path) if path.exists() else None for name, path in found.items()}
    return {**files, "tensorboard": str(job.dir) if job.event_files else None}
