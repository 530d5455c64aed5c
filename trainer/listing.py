"""Jobs as a person looks at them afterwards: all of them, one of them, its logs. Writes nothing."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.account import between, in_order, when
from trainer.config import load
from trainer.errors import UserError, did_you_mean
from trainer.figures import age, clock, count, duration, figure, middle, plural, short_path
from trainer.job import Job, State, Status
from trainer.logs import logs as logs
from trainer.looking import notes
from trainer.result import summarize
from trainer.signature import read_signature
from trainer.summary import choice, error_line, make_console, metrics_table, profile_table, prominence, tell, times
from trainer.visible import shown, visible

if TYPE_CHECKING:
    from rich.table import Table

RUNS = Path("runs")
StatusOf = Callable[[Job], Status]
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
        job = Job(directory)
        if job.exists():
            yield job
        else:
            yield from (inner for inner in map(Job, _folders(directory)) if inner.exists())


def _folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []


def _name(job: Job, root: Path) -> str:
    directory, root = job.dir.absolute(), root.absolute()
    return str(directory.relative_to(root)) if directory.is_relative_to(root) else job.name


def find_job(name_or_path: str, root: Path = RUNS) -> Job:
    """The job of a name under `root`, or of a path. Raises UserError, with the nearest names, if there is none."""
    if "://" in name_or_path:
        return _remote_job(name_or_path)
    for directory in (root / name_or_path, Path(name_or_path).expanduser()):
        if Job(directory).exists():
            return Job(directory.absolute())
    if Path(name_or_path).is_dir():
        raise UserError(f"{name_or_path} is not a job's directory: it has no config.yaml")
    known = [_name(job, root) for job in all_jobs(root)]
    hint = did_you_mean(name_or_path, known)
    if hint.startswith("there is ") and len(known) > 5:
        hint = "`headway ls` lists them"
    raise UserError(f"there is no job {name_or_path!r} in {short_path(root)}; {hint}")


def _remote_job(url: str) -> Job:
    """A job on S3: what can be read of it, in the folder where this machine would work on it."""
    from trainer.pulling import pull_small
    from trainer.storage import S3, staging

    folder = staging(url)
    folder.mkdir(parents=True, exist_ok=True)
    if not pull_small(S3(url), folder, logs=True):
        raise UserError(f"there is no job at {url} (no config.yaml)")
    return Job(folder, url)


# All of them


def list_jobs(root: Path = RUNS, *, as_json: bool = False, status_of: StatusOf = Job.status) -> None:
    """A table of the jobs under a folder, newest last.

    status_of: tells a job that runs from one whose directory says so but nobody works on; it is asked for jobs
    without a result only.
    """
    jobs = sorted(all_jobs(root), key=lambda job: job.config_path.stat().st_mtime)
    if as_json:
        print_json([summary(job, root, status_of) for job in jobs])
    elif jobs:
        table(jobs, status_of, root)
    else:
        print(f"no jobs in {short_path(root)}; `headway train algorithm=linear data=digits` makes one")


def table(jobs: Iterable[Job], status_of: StatusOf = Job.status, root: Path = RUNS) -> None:
    """A table of these jobs."""
    console, rows = make_console(), [shown(summary(job, root, status_of)) for job in jobs]
    console.print(_jobs_table(rows, console.width))
    for note in notes(rows):
        console.print(note, style="dim", soft_wrap=True, markup=False, highlight=False)


def summary(job: Job, root: Path, status_of: StatusOf) -> dict[str, Any]:
    """What `headway ls --json` says of a job; null is what isn't known."""
    result = job.result()
    started = job.config_path.stat().st_mtime
    status = _status(job, result, status_of)
    state, reason = status.state, status.reason
    if result:
        steps, total = result["steps"], None
        metrics, workers = result["metrics"], result.get("world_size")
        seconds = result["seconds"]["wall"]
    else:
        progress = job.progress() or {}
        running = _running(job.events())
        steps, total, workers = progress.get("step"), progress.get("total"), running.get("world_size")
        metrics = summarize(job.metrics(), running.get("maximize", ()))
        seconds = round(max(0.0, time.time() - started), 3) if state.is_active else None
    try:
        config = load(job.config_path)
    except UserError:
        config = {}
    metric = min(metrics, key=prominence, default=None)
    return {
        "name": _name(job, root),
        "dir": str(job.dir.absolute()),
        "state": state.value,
        "reason": reason or None,
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


def _running(events: list[dict[str, Any]]) -> dict[str, Any]:
    """What the workers last said of themselves."""
    return next((e for e in reversed(events) if e["state"] == State.RUNNING), {})


def _jobs_table(rows: list[dict[str, Any]], width: int) -> Table:
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
            "state": r["state"],
            "algorithm": r["algorithm"],
            "data": r["data"],
            "workers": str(r["workers"] or "-"),
            "best": metric(r),
            "steps": steps(r),
            "time": seconds(r),
            "age": age(now - r["started"]),
        }
        for r in rows
    ]
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
    for text in texts:
        style = COLORS.get(State(text["state"]), "")
        table.add_row(*(Text(text[n], style if n == "state" else "") for n in widths))
    return table


def _status(job: Job, result: Mapping[str, Any] | None, status_of: StatusOf) -> Status:
    """By its result if that is final: an interrupted job may wait for its turn, or be at work again."""
    ended = State(result["status"]) if result else State.PENDING
    return Status(ended, False) if ended.is_final else status_of(job)


# One of them


def show(job: Job, *, as_json: bool = False, status_of: StatusOf = Job.status) -> None:
    """Everything about one job."""
    result, events, config = job.result(), job.events(), load(job.config_path)
    status = _status(job, result, status_of)
    state = status.state
    maximize = _running(events).get("maximize", ())
    metrics = result["metrics"] if result else summarize(job.metrics(), maximize)
    files = _files(job)
    if as_json:
        about: dict[str, str | None] = {"name": job.name, "dir": str(job.dir.absolute()), "state": state.value}
        about["reason"] = status.reason or None
        print_json({**about, "metrics": metrics, "result": result, "events": events, "files": files, "config": config})
        return
    from rich.text import Text

    console = make_console()
    failed = error_line(job, result) if result and result.get("error") else ""
    result, config, metrics, files = shown((result, config, metrics, files))
    title = Text.assemble((visible(job.name), "bold"), "  ", (state.value, COLORS.get(state, "")))
    title.append(f"  {visible(status.reason)}" if status.reason else "", "dim")
    console.print(title, soft_wrap=True)
    pairs = [(noun, _chosen(config, noun)) for noun in ("algorithm", "data", "train", "strategy", "launcher")]
    console.print(_pairs(pairs))
    if failed:
        console.print(Text(f"\n{failed}", "red"), soft_wrap=True)
    if metrics:
        console.print()
        console.print(metrics_table(metrics))
    if result:
        tell(console, result)
    elif progress := job.progress():
        total = f" of {progress['total']:,}" if progress.get("total") else ""
        console.print(Text(f"step {progress['step']:,}{total}, epoch {progress.get('epoch') or 0:.4g}", "dim"))
        console.print(Text("\n".join(times(progress)), "dim"), end="\n" if times(progress) else "")
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
    table.add_column("interrupted by", overflow="ellipsis", no_wrap=True)
    for name in ("at step", "went on from", "steps lost", "seconds lost", "back after"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        known = [line["resumed"], line["steps_lost"], line["seconds_lost"]]
        numbers = ["-" if value is None else f"{value:,}" for value in known]
        back = "-" if line["recovery_seconds"] is None else duration(line["recovery_seconds"])
        table.add_row(line["source"], f"{line['step']:,}", *numbers, back)
    return table


def _timeline(events: list[dict[str, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(style="dim", no_wrap=True, justify="right")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    passed, before = 0.0, None
    for event in in_order(events):
        passed += between(before, event) if before else 0.0
        before = event
        details = []
        if event.get("attempt"):
            details.append(f"attempt {event['attempt'] + 1}")
        workers = event.get("world_size") or event.get("workers")
        if workers:
            details.append(plural(workers, "worker"))
        if event.get("step") is not None:
            details.append(f"step {event['step']:,}")
        if event.get("reason"):
            details.append(visible(str(event["reason"]).splitlines()[0]))
        clock_time = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when(event)))
        state = Text(event["state"], COLORS.get(State(event["state"]), ""))
        table.add_row(clock_time, f"+{duration(passed)}", state, ", ".join(details))
    return table


def _files(job: Job) -> dict[str, str | None]:
    board = job.logs / "tensorboard"
    found = {"folder": job.dir, "model": job.model, "logs": job.logs, "tensorboard": board, "profile": job.profile}
    return {name: str(path) if path.exists() else None for name, path in found.items()}
