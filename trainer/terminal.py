"""What a person sees while a job runs and when it ends, read from the job directory alone.

In a terminal a bar that moves, with validation figures and events as lines above it; elsewhere plain
lines, one every few seconds. Nothing here changes the job.
"""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainer.algorithm import Algorithm
from trainer.figures import clock, count, duration, figure, plural, short_path
from trainer.job import Job, State
from trainer.result import more_is_better
from trainer.signature import short_name
from trainer.tail import Tail

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

POLL = 0.1  # seconds between looks at the job directory
PLAIN_EVERY = 5.0  # seconds between lines where there is no terminal
RATE_OVER = 30.0  # seconds over which the speed for the time left is taken


def make_console(stderr: bool = False) -> Console:
    """A console that styles and measures only in a real terminal; in a pipe lines are as long as they are."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    tty = stream.isatty()
    return Console(
        file=stream,
        force_terminal=tty,
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


def header(job: Job, config: Mapping[str, Any]) -> None:
    """What is known before a worker reports: the job, what it trains on what, and who brings it up."""
    console = make_console()
    launcher = config.get("launcher") or {}
    workers, nodes = launcher.get("workers", "auto"), launcher.get("nodes") or 1
    where = plural(workers, "worker") if isinstance(workers, int) else f"workers {workers}"
    if nodes != 1:
        where += f" on each of {nodes} nodes"
    seed = (config.get("job") or {}).get("seed", 0)
    _pair(console, "job", short_path(job.dir))
    _pair(console, "train", f"{choice(config, 'algorithm')} on {choice(config, 'data')}, seed {seed}")
    _pair(console, "where", f"{choice(config, 'launcher')}, {where}, strategy {choice(config, 'strategy')}")


def _facts(console: Console, event: Mapping[str, Any]) -> None:
    """What the workers found once they were up: a `Running` event's details."""
    workers, threads = event.get("world_size") or 1, event.get("threads")
    on = f"{workers} × {event['device']}" if event.get("device") else plural(workers, "worker")
    if threads:
        on += f", {plural(threads, 'thread')} each"
    if event.get("parameters") is not None:
        _pair(console, "model", plural(event["parameters"], "parameter"))
        on += f", {event['strategy']}" if event.get("strategy") else ""
    _pair(console, "on", on)
    if event.get("samples"):
        data = plural(event["samples"], "sample")
        data += f" × {plural(event['columns'], 'column')}" if event.get("columns") else ""
        data += f", {count(event['validation_samples'])} to validate" if event.get("validation_samples") else ""
        _pair(console, "data", data)
    steps, epochs = event.get("steps"), event.get("epochs")
    if steps or epochs:
        parts = [plural(steps, "step")] if steps else []
        parts += [f"{epochs:,.4g} epoch{'s' * (epochs != 1)}"] if epochs else []
        _pair(console, "until", ", ".join(parts))


def _pair(console: Console, label: str, value: str) -> None:
    from rich.text import Text

    console.print(Text.assemble((f"{label:<7}", "dim"), value), soft_wrap=True)


@dataclass
class Follower:
    """Follows one job from where its present attempt began. Asked again, as after Ctrl-C, it goes on."""

    job: Job
    state: State = field(default=State.PENDING, init=False)
    _events: Tail = field(init=False)
    _metrics: Tail = field(init=False)
    _best: dict[str, float] = field(default_factory=dict, init=False)
    _maximize: tuple[str, ...] = field(default=tuple(Algorithm.maximize), init=False)
    _since: float = field(default=0.0, init=False)  # what is older belongs to an earlier attempt
    _shown_until: float = field(default=0.0, init=False)  # metrics.jsonl is written anew after a restart
    _running: float | None = field(default=None, init=False)  # since when workers have trained
    _facts_shown: bool = field(default=False, init=False)
    _progress: dict[str, Any] = field(default_factory=dict, init=False)
    _pace: deque[tuple[float, int]] = field(default_factory=deque, init=False)

    def __post_init__(self) -> None:
        self._events = Tail(self.job.events_path)
        self._metrics = Tail(self.job.metrics_path)
        began = (State.PENDING.value, State.STARTING.value)
        starts = [e["time"] for e in self.job.events() if e.get("state") in began]
        self._since = starts[-1] if starts else 0.0

    def follow(self, alive: Callable[[], bool]) -> State:
        """Shows the job until it is final or interrupted, or until nobody is `alive` and all is read."""
        console = make_console()
        if console.is_terminal and not console.is_dumb_terminal:
            return self._follow_live(console, alive)
        return self._follow_plain(console, alive)

    def _follow_live(self, console: Console, alive: Callable[[], bool]) -> State:
        from rich.live import Live

        with Live(self._bar(console.width), console=console, auto_refresh=False, transient=True) as live:
            while True:
                last = not alive()
                self._poll(console)
                live.update(self._bar(console.width), refresh=True)
                if last or self._at_rest():
                    return self.state
                time.sleep(POLL)

    def _follow_plain(self, console: Console, alive: Callable[[], bool]) -> State:
        shown = time.monotonic()
        shown_step = None
        while True:
            last = not alive()
            self._poll(console)
            console.file.flush()
            if last or self._at_rest():
                return self.state
            step = self._progress.get("step")
            if step is not None and step != shown_step and time.monotonic() - shown >= PLAIN_EVERY:
                console.print(", ".join(self._parts()), soft_wrap=True)
                shown, shown_step = time.monotonic(), step
            time.sleep(POLL)

    def _at_rest(self) -> bool:
        return self.state.is_final or self.state is State.INTERRUPTED

    def _poll(self, console: Console) -> None:
        for event in self._events.records():
            self._on_event(console, event)
        for record in self._metrics.records():
            self._on_metrics(console, record)
        progress = self.job.progress()
        if progress and progress.get("time", 0.0) >= self._since and progress.get("step") is not None:
            if progress["step"] != self._progress.get("step"):
                self._pace.append((progress["time"], progress["step"]))
                while self._pace[-1][0] - self._pace[0][0] > RATE_OVER and len(self._pace) > 2:
                    self._pace.popleft()
            self._progress = progress

    def _on_event(self, console: Console, event: Mapping[str, Any]) -> None:
        self.state = State(event["state"])
        if event["time"] < self._since:
            return
        reason, step, attempt = event.get("reason"), event.get("step"), event.get("attempt") or 0
        because = f": {reason}" if reason else ""
        if self.state is State.STARTING:
            self._running = None
            self._pace.clear()
            if attempt:
                _event(console, f"starting again, attempt {attempt + 1}{because}")
        elif self.state is State.RUNNING:
            self._running = event["time"]
            self._maximize = tuple(event.get("maximize") or self._maximize)
            if not self._facts_shown:
                _facts(console, event)
            self._facts_shown = True
            if step:
                on = plural(event.get("world_size") or 1, "worker")
                _event(console, f"goes on from step {step:,} on {on}")
        elif self.state is State.INTERRUPTED:
            at = f" at step {step:,}" if step is not None else ""
            _event(console, f"interrupted{at}{because}")

    def _on_metrics(self, console: Console, record: Mapping[str, Any]) -> None:
        from rich.text import Text

        found = {k: v for k, v in record["values"].items() if k.startswith("validation_") and v is not None}
        better = {name for name, value in found.items() if self._is_best(name, value)}
        if not found or record["time"] < self._since or record["time"] <= self._shown_until:
            return
        self._shown_until = record["time"]
        text = Text(f"step {record['step']:,}")
        text.append(f"  epoch {record.get('epoch') or 0:.4g}", "dim")
        for i, name in enumerate(sorted(found, key=prominence)):
            text.append(f"  {name} ", "dim")
            text.append(figure(found[name]), "green" if name in better else "")
            text.append(" best" if name in better and i == 0 else "", "bold green")
        _line(console, text)

    def _is_best(self, name: str, value: float) -> bool:
        known = self._best.get(name)
        up = more_is_better(name, self._maximize)
        better = not math.isnan(value) and (known is None or (value > known if up else value < known))
        if better:
            self._best[name] = value
        return better

    def _left(self) -> float | None:
        """Seconds until the last step at the present pace; None if that cannot be told."""
        total, step = self._progress.get("total"), self._progress.get("step")
        if not total or step is None or len(self._pace) < 2:
            return None
        (t0, s0), (t1, s1) = self._pace[0], self._pace[-1]
        return (total - step) * (t1 - t0) / (s1 - s0) if s1 > s0 and t1 > t0 else None

    def _parts(self) -> list[str]:
        """Where the job stands, as words for a plain line."""
        now = self._progress
        total, unit = now.get("total"), now.get("unit") or "step"
        parts = [f"{unit} {now['step']:,}" + (f"/{total:,} ({now['step'] / total:.0%})" if total else "")]
        if now.get("epoch"):
            parts.append(f"epoch {now['epoch']:.4g}")
        if now.get("loss") is not None:
            parts.append(f"loss {figure(now['loss'])}")
        if now.get("samples_per_second"):
            parts.append(f"{count(now['samples_per_second'])} samples/s")
        left = self._left()
        return [*parts, f"{clock(left)} left"] if left is not None else parts

    def _bar(self, width: int) -> RenderableType:
        """One line, never longer than `width`: what matters less is left out where there is no room."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        now = self._progress
        if self._running is None or not now:
            waiting = "starting the workers" if self._running is None else "the first step"
            since = self._running or self._since or time.time()
            return Text(
                f"{waiting} … {clock(max(0.0, time.time() - since))}",
                "dim",
                no_wrap=True,
                overflow="ellipsis",
            )
        total, unit = now.get("total"), now.get("unit") or "step"
        head = f"{unit} {now['step']:,}" + (f"/{total:,}" if total else "")
        left = self._left()
        parts = {  # in order of importance
            "loss": f"loss {figure(now['loss'])}" if now.get("loss") is not None else "",
            "left": f"{clock(left)} left" if left is not None else "",
            "rate": f"{count(now['samples_per_second'])} samples/s" if now.get("samples_per_second") else "",
            "elapsed": clock(max(0.0, time.time() - self._running)),
            "epoch": f"epoch {now['epoch']:.2f}" if now.get("epoch") else "",
        }
        room = width - len(head) - (12 if total else 0)
        kept = set()
        for name, part in parts.items():
            if part and len(part) + 2 <= room:
                kept.add(name)
                room -= len(part) + 2
        tail = "".join(f"  {parts[n]}" for n in ("epoch", "loss", "rate", "elapsed", "left") if n in kept)
        if not total:
            return Text(head + tail, no_wrap=True, overflow="ellipsis")
        grid = Table.grid(padding=(0, 0))
        for _ in range(3):
            grid.add_column(no_wrap=True)
        bar = ProgressBar(total=total, completed=min(now["step"], total), width=min(40, max(5, 10 + room)))
        grid.add_row(f"{head}  ", bar, tail)
        return grid


def follow(job: Job, alive: Callable[[], bool]) -> State:
    """Shows a job until it is final or interrupted, or until nobody is `alive` and all is read.

    Call it once the event that begins the attempt (Pending or Starting) is written.
    """
    return Follower(job).follow(alive)


def prominence(name: str) -> tuple[int, int, str]:
    """Sorts metrics, the one that tells most about a job first: of validation, then accuracy before loss."""
    kind, _, rest = name.partition("_")
    told = ("accuracy", "auc", "f1", "r2", "rmse", "mae", "perplexity", "loss")
    return (
        ("validation", "test", "train").index(kind) if kind in ("validation", "test", "train") else 3,
        told.index(rest) if rest in told else len(told),
        name,
    )


def closing(job: Job) -> None:
    """How it ended: figures, the model, what to type next; or, on stderr, the error in one line."""
    result = job.result()
    if result is None:
        make_console().print(f"{job.state().value}: {short_path(job.dir)} has no result yet", soft_wrap=True)
        return
    if result.get("error") or result["status"] == State.FAILED.value:
        make_console(stderr=True).print(error_line(job, result), style="red", soft_wrap=True)
        return
    from rich.text import Text

    console = make_console()
    console.print()
    console.print(
        Text.assemble(
            (result["status"], "bold green" if result.get("model") else "bold yellow"),
            f"  {job.name}  in {duration(result['seconds']['wall'])}",
        ),
        soft_wrap=True,
    )
    if result["metrics"]:
        console.print(metrics_table(result["metrics"]))
    for line in amounts(result):
        _line(console, Text(line, "dim"))
    if result.get("model"):
        _pair(console, "model", short_path(result["model"]))
        _pair(console, "next", next_command(job, result["model"]))
    else:
        again = f"the same command with job.dir={shlex.quote(short_path(job.dir))} goes on from here"
        _pair(console, "next", again)
    _pair(console, "", f"headway show {shlex.quote(short_path(job.dir))}")


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
    """How much was done and how long it took, in two lines."""
    done = [
        plural(result["steps"], "step"),
        f"{result['epochs']:.4g} epochs",
        plural(result["samples"], "sample"),
    ]
    if result.get("world_size"):
        done.append(plural(result["world_size"], "worker"))
    took = [f"{duration(result['seconds']['training'])} training of {duration(result['seconds']['wall'])} in all"]
    if result.get("samples_per_second"):
        took.append(f"{count(result['samples_per_second'])} samples/s")
    return [", ".join(done), ", ".join(took)]


def next_command(job: Job, model: str) -> str:
    """What one types to use a model, with the kind of data it was trained on."""
    from trainer.listing import read_config

    data = read_config(job).get("data") or {}
    chosen = f"data={choice({'data': data}, 'data')}"
    if "train" in data and data["train"] is not None:
        chosen += " data.test=FILE"
    return f"headway predict model={shlex.quote(short_path(model))} {chosen}"


def error_line(job: Job, result: Mapping[str, Any]) -> str:
    """A failed job's error in one line: what, where, and the log that has the trace."""
    error = result.get("error") or {}
    lines = [line for line in str(error.get("message") or "").splitlines() if line.strip()]
    message = lines[0] if lines else "no error was left"
    kind = error.get("type")
    text = f"{job.name} failed: " + (f"{kind}: {message}" if kind and kind != "UserError" else message)
    rank = f"rank {error['rank']}" if error.get("rank") is not None else ""
    where = ", ".join(part for part in (rank, str(error.get("where") or "")) if part)
    text += f" ({where})" if where else ""
    return text + (f"; the trace is in {short_path(error['log'])}" if error.get("log") else "")


def _event(console: Console, words: str) -> None:
    from rich.text import Text

    _line(console, Text(words, "yellow"))


def _line(console: Console, text: Text) -> None:
    console.print(text, no_wrap=True, overflow="ellipsis" if console.is_terminal else "ignore")
