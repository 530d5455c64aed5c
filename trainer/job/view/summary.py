"""What a job came to, as lines and tables: how it ended, its metrics, what to type next."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.config.code.signature import short_name
from trainer.errors import UserError
from trainer.job import carried
from trainer.job.code_path import CODE, home
from trainer.job.directory import Job, State, read_hint
from trainer.job.records import number, record, wrong
from trainer.job.view import divergence
from trainer.process.escape import shown, visible
from trainer.process.format import count, duration, figure, plural, prominence, short_path

NAMED = 4  # ranks that are told of, at most
ORDER = ("data", "forward", "backward", "optimizer", "communication", "validation", "checkpoint", "idle")

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text


def make_console(stderr: bool = False, onto: Any = None) -> Console:
    """A console that styles and measures only in a real terminal; in a pipe lines are as long as they are. onto: a stream to
    write to that is none."""
    from rich.console import Console
    from rich.segment import Segment

    class Safe(Console):
        """No text that is printed can be one that the terminal obeys."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would leave with 1

        def render(self, renderable: Any, options: Any = None) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(visible(segment.text, lines=True), segment.style)

    stream = onto or (sys.stderr if stderr else sys.stdout)
    tty = onto is None and stream.isatty()
    return Safe(
        file=stream,
        force_terminal=tty,
        force_jupyter=False,  # in a notebook a line is text too, not a block of its own
        width=None if tty else 10_000,
        highlight=False,
        markup=False,
        emoji=False,
    )


def choice(config: Mapping[str, Any], noun: str) -> str:
    """The short name of what a config chose for a noun: `gpt`, `csv`, `ddp`."""
    node = config.get(noun) or {}
    target = node.get("_target_")
    return short_name(str(target)) if target else str(node.get("name") or "-")


def pair(console: Console, label: str, value: str) -> None:
    """A line of a header or a closing: a dim label and what it is."""
    from rich.text import Text

    console.print(Text.assemble((f"{visible(label):<7}", "dim"), visible(value)), soft_wrap=True)


def tell(console: Console, result: Mapping[str, Any]) -> None:
    """How much was done, how long it took, and what whoever looks after the job should read."""
    from rich.text import Text

    for words in amounts(result):
        line(console, Text(words, "dim"))
    remarks(console, result)


def remarks(console: Console, result: Mapping[str, Any]) -> None:
    """What a result, or the progress of a job that runs, has for whoever looks after the job."""
    from rich.text import Text

    for note in result.get("notes") or ():
        console.print(Text(f"note   {note}", "yellow"), soft_wrap=True)


def line(console: Console, text: Text) -> None:
    """One line, cut where a terminal ends."""
    console.print(text, no_wrap=True, overflow="ellipsis" if console.is_terminal else "ignore")


def closing(job: Job) -> None:
    """How it ended: figures, the model, what to type next; or, on stderr, the error in one line."""
    result, apart = job.result(), _not_on_s3(job)
    if result is None:
        text = (
            f"{visible(job.name)} left no result: its agent ended too early; what happened is in {short_path(job.logs)}"
        )
        make_console(stderr=True).print(text, style="red", soft_wrap=True)
        return
    if result.get("error") or result["status"] == State.FAILED.value:
        make_console(stderr=True).print(error_line(job, result), style="red", soft_wrap=True)
        if apart:
            make_console(stderr=True).print(apart, style="yellow", soft_wrap=True)
        return
    from rich.text import Text

    console, result = make_console(), shown(result)
    completed, doubtful = result["status"] == State.COMPLETED, ""
    with contextlib.suppress(UserError):  # the reports are damaged
        doubtful = divergence.told(job.metrics()) if result.get("model") else ""
    console.print()
    console.print(
        Text.assemble(
            (result["status"], "bold green" if completed and not doubtful else "bold yellow"),
            f"  {visible(job.name)}  in {duration(result['seconds']['wall'])}",
        ),
        soft_wrap=True,
    )
    reason = job.last_event().get("reason")
    if reason and not completed:
        line(console, Text(visible(str(reason)), "yellow"))
    if doubtful:
        line(console, Text(visible(doubtful), "yellow"))
    if result["metrics"]:
        console.print(metrics_table(result["metrics"]))
    tell(console, result)
    if table := profile_table(job):
        console.print(table)
        pair(console, "trace", short_path(job.profile))
    if result.get("model"):
        pair(console, "model", short_path(result["model"]))
    then = [next_command(job, result["model"], trusted=True)] if result.get("model") else []
    if apart:
        pair(console, "S3", f"lacks {apart.removeprefix(carried.NOT_THERE)}")
    if apart or not completed:
        more = " train.max_time=TIME" if job.out_of_time else ""
        there = "  # on this machine, brings it up" if apart else ""
        then.insert(0, f"headway resume {shlex.quote(address(job))}{more}{there}")
    for i, command in enumerate(then):
        pair(console, "" if i else "next", command)
    pair(console, "", f"headway show {shlex.quote(address(job))}")


def _not_on_s3(job: Job) -> str:
    """What of a job that ended is here and not where it should be; empty if that is nothing, or nobody knows."""
    known = carried.read(job.dir)
    return known.words(job.dir) if known and known.lacking else ""


def address(job: Job) -> str:
    """What names the job on a command line: its directory, or where that is on S3."""
    from trainer.config.schema import load

    directory = str((load(job.config_path).get("job") or {}).get("dir"))
    return directory if "://" in directory else short_path(job.dir)


def metrics_table(metrics: Mapping[str, Mapping[str, Any]]) -> RenderableType:
    """Last and best value of each metric of a result."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("metric", overflow="ellipsis", no_wrap=True)
    for name in ("last", "best", "at step"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in sorted(metrics, key=prominence):
        last, best = metrics[name]["last"], metrics[name]["best"]
        table.add_row(name, figure(last["value"]), figure(best["value"]), f"{best['step']:,}")
    return table


def amounts(result: Mapping[str, Any]) -> list[str]:
    """How much was done and how long it took, in two lines; a third says what interruptions cost.

    Of a script nobody may have counted steps, epochs or samples: what is 0 is left out.
    """
    counted = {
        "steps": plural(result["steps"], "step"),
        "epochs": f"{result['epochs']:.4g} epoch{'s' * (result['epochs'] != 1)}",
        "samples": plural(result["samples"], "sample"),
        "world_size": plural(result.get("world_size") or 0, "worker"),
    }
    done = ", ".join(text for name, text in counted.items() if result.get(name))
    took = [f"{duration(result['seconds']['training'])} training of {duration(result['seconds']['wall'])} in all"]
    if result.get("samples_per_second"):
        took.append(f"{count(result['samples_per_second'])} samples/s")
    if result.get("energy_kwh") is not None:
        took.append(f"{result['energy_kwh']:.3g} kWh on its GPUs")
    return [*([done] if done else []), ", ".join(took), *times(result), *_interruptions(result)]


def times(result: Mapping[str, Any]) -> list[str]:
    """What a result, or the progress of a job that runs, says of where the time went and of ranks that were slow."""
    return [*_split(result), *_stragglers(result)]


def _split(result: Mapping[str, Any]) -> list[str]:
    """What the time of training went to, as rank 0 saw it, the most first; parts below half a percent are left out."""
    split = result.get("split") or {}
    whole = sum(split.values())
    shares = sorted(((seconds / whole, name) for name, seconds in split.items() if whole), reverse=True)
    told = [f"{name} {share:.0%}" for share, name in shares if share >= 0.005]
    within = " (communication within the others)" if result.get("communication_within") else ""
    return [f"time went to {', '.join(told)}{within}"] if told else []


def _stragglers(result: Mapping[str, Any]) -> list[str]:
    """Ranks that were slower than the others, in a line, if there were any."""
    episodes = result.get("stragglers") or []
    worst: dict[int, float] = {}
    for episode in episodes:
        worst[episode["rank"]] = max(episode["factor"], worst.get(episode["rank"], 0.0))
    slowest = sorted(worst, key=lambda rank: -worst[rank])[:NAMED]
    told = [f"rank {rank} was slow, {worst[rank]:.3g} times the others' median" for rank in slowest]
    return [", ".join(told) + (f", and {len(worst) - NAMED} more" if len(worst) > NAMED else "")] if told else []


def profile_table(job: Job) -> RenderableType | None:
    """Milliseconds a step of each part in the profiled steps, a column a rank; None without a profile."""
    from rich.table import Table

    paths = sorted(job.profile.glob("rank-*.json"), key=lambda path: int(path.stem.removeprefix("rank-")))[:NAMED]
    tables = {path.stem.replace("-", " "): table for path in paths if (table := _profile(path))}
    if not tables:
        return None
    shown = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    shown.add_column("ms a step", no_wrap=True)
    for rank in tables:
        shown.add_column(rank, justify="right", no_wrap=True)
        shown.add_column("", justify="right", no_wrap=True)
    for part in ORDER:
        cells = []
        for table in tables.values():
            seconds, whole = table["seconds"][part], sum(table["seconds"].values())
            cells += [figure(1e3 * seconds / table["steps"]), f"{seconds / whole:.0%}"]
        shown.add_row(part, *cells)
    return shown


def _profile(path: Path) -> dict[str, Any]:
    """A rank's table; {} for one that is damaged."""
    table = read_hint(path)
    seconds = record(dict.fromkeys(ORDER, number))
    return {} if wrong(table, {"seconds": seconds, "steps": number}, {}) or not table["steps"] else table


def _interruptions(result: Mapping[str, Any]) -> list[str]:
    """What interruptions cost, in a line, if there were any."""
    lines = result.get("interruptions") or []
    if not lines:
        return []
    steps = sum(line["steps_lost"] or 0 for line in lines)
    waits = sorted(line["recovery_seconds"] for line in lines if line["recovery_seconds"] is not None)
    parts = [plural(len(lines), "interruption")]
    parts.append(f"{plural(steps, 'step')} ({duration(result['seconds']['lost'])}) lost" if steps else "nothing lost")
    if waits:
        parts.append(f"back after {duration(waits[len(waits) // 2])}" + (" (median)" if len(waits) > 1 else ""))
    if result.get("goodput") is not None:
        parts.append(f"goodput {result['goodput']:.0%}")
    return [", ".join(parts)]


def next_command(job: Job, model: str, *, trusted: bool = False) -> str:
    """What one types to use a model, with the kind of data it was trained on: what a script or a loop wrote is its own
    affair. trusted: the job is one's own, and so is the code of its model."""
    from trainer.config import known
    from trainer.config.code.signature import is_function
    from trainer.config.schema import load

    config = load(job.config_path)
    data = config.get("data") or {}
    named = f"model={shlex.quote(short_path(model))}"
    if trusted and str(config["algorithm"]["_target_"]) not in known.targets("algorithm"):
        named += " model.trust_code=true"
    if choice({"data": data}, "data") == "text":
        return f'headway predict {named} prompt="Once upon a time"'
    if choice({"data": data}, "data") == "channels" or is_function(str(config["algorithm"]["_target_"])):
        return f"ls {shlex.quote(short_path(model))}"
    chosen = f"data={choice({'data': data}, 'data')}"
    if "train" in data and data["train"] is not None:
        chosen += " data.test=FILE"
    return f"headway predict {named} {chosen}"


def error_line(job: Job, result: Mapping[str, Any]) -> str:
    """A failed job's error in one line: what, where, and the log that has the trace."""
    error = result.get("error") or {}
    lines = [text for text in str(error.get("message") or "").splitlines() if text.strip()]
    message = lines[0] if lines else "no error was left"
    kind = error.get("type")
    if kind and kind not in ("UserError", "HeadwayError", "WorkerDied", "OutOfMemory"):
        message = f"{kind}: {message}"
    frame = f"{_own_path(job, str(error['where']))}: " if error.get("where") else ""  # first: it is where to look
    text = f"{job.name} failed: {frame}{message}"
    text += f" (rank {error['rank']})" if error.get("rank") is not None else ""
    return visible(text + (f"; the trace is in {short_path(error['log'])}" if error.get("log") else ""))


def _own_path(job: Job, where: str) -> str:
    """A place in the job's copy of the user's code as it is called at home: without the job's directory."""
    copied = f"{home(job.dir.absolute()) / CODE}/"
    return where.removeprefix(copied).partition("/")[2] if where.startswith(copied) else short_path(where)
