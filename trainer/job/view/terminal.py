"""What a person sees while a job runs and when it ends, read from the job directory alone.

In a terminal or a notebook a bar that moves, with validation figures and events as lines above it; elsewhere plain
lines, one every few seconds. Nothing here changes the job.
"""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.algorithm import Algorithm
from trainer.job import carried
from trainer.job.busy import words_of
from trainer.job.directory import Job, State, Status
from trainer.job.records import wrong_event, wrong_report
from trainer.job.result import more_is_better
from trainer.job.view.notebook import WIDTH, OneLine, is_notebook
from trainer.job.view.summary import address, choice, line, make_console, pair
from trainer.job.view.summary import closing as closing
from trainer.job.view.tail import Tail
from trainer.process import clock as moment
from trainer.process.escape import shown, visible
from trainer.process.format import clock, count, figure, plural, prominence

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

KNOWN = frozenset(state.value for state in State)
POLL = 0.1  # seconds between looks at the job directory
PLAIN_EVERY = 5.0  # seconds between lines where there is no terminal
ROUNDS_EVERY = 2.0  # seconds between validation lines of an estimator, which validates every round
RATE_OVER = 30.0  # seconds over which the speed for the time left is taken


def header(job: Job, config: Mapping[str, Any]) -> None:
    """What is known before a worker reports: the job, what it trains on what, and who brings it up."""
    console = make_console()
    launcher = config.get("launcher") or {}
    workers, nodes = launcher.get("workers", "auto"), launcher.get("nodes") or 1
    where = plural(workers, "worker") if isinstance(workers, int) else f"workers {workers}"
    if nodes != 1:
        where += f" on each of {nodes} nodes"
    seed = (config.get("job") or {}).get("seed", 0)
    pair(console, "job", address(job))
    pair(console, "train", f"{choice(config, 'algorithm')} on {choice(config, 'data')}, seed {seed}")
    pair(console, "where", f"{choice(config, 'launcher')}, {where}, strategy {choice(config, 'strategy')}")


def _facts(console: Console, event: Mapping[str, Any]) -> None:
    """What the workers found once they were up: a `Running` event's details."""
    workers, threads = event.get("world_size") or 1, event.get("threads")
    on = f"{workers} × {event['device']}" if event.get("device") else plural(workers, "worker")
    if threads:
        on += f", {plural(threads, 'thread')} each"
    if event.get("parameters") is not None:
        pair(console, "model", plural(event["parameters"], "parameter"))
        on += f", {event['strategy']}" if event.get("strategy") else ""
        on += f" (auto: {event['strategy_reason']})" if event.get("strategy_reason") else ""
    pair(console, "on", on)
    if event.get("batch_size_reason"):
        batch = plural(event["batch_size"], "sample")
        pair(console, "batch", f"{batch} (auto: {event['batch_size_reason']})")
    if event.get("samples"):
        data = plural(event["samples"], "sample")
        data += f" × {plural(event['columns'], 'column')}" if event.get("columns") else ""
        kinds = event.get("kinds") or {}
        data += f" ({', '.join(f'{n:,} {kind}' for kind, n in kinds.items())})" if len(kinds) > 1 else ""
        data += f", {count(event['validation_samples'])} to validate" if event.get("validation_samples") else ""
        data += f", {count(event['test_samples'])} to test" if event.get("test_samples") else ""
        left_out = [name or "''" for name in event.get("left_out") or []]
        data += f", left out: {', '.join(left_out)}" if left_out else ""
        pair(console, "data", data)
    if event.get("label"):
        pair(console, "label", event["label"])
    steps, epochs = event.get("steps"), event.get("epochs")
    if steps or epochs:
        parts = [plural(steps, "step")] if steps else []
        parts += [f"{epochs:,.4g} epoch{'s' * (epochs != 1)}"] if epochs else []
        pair(console, "until", ", ".join(parts))
    for note in event.get("notes") or []:
        _event(console, note)


@dataclass
class Follower:
    """Follows one job from when it was last submitted. Asked again, as after Ctrl-C, it goes on."""

    job: Job
    state: State = field(default=State.PENDING, init=False)
    _events: Tail = field(init=False)
    _metrics: Tail = field(init=False)
    _best: dict[str, float] = field(default_factory=dict, init=False)
    _maximize: tuple[str, ...] = field(default=tuple(Algorithm.maximize), init=False)
    since: float = field(default=0.0, init=False)
    _old: int = field(default=0, init=False)  # events of when the job was submitted before
    _began: dict[str, Any] | None = field(
        default=None, init=False
    )  # when workers trained first since: older figures are seen
    _shown: dict[str, Any] | None = field(
        default=None, init=False
    )  # the last line: metrics.jsonl is written anew after a restart
    _running: dict[str, Any] | None = field(default=None, init=False)  # since when workers have trained
    _digits: int = field(default=0, init=False)  # of the last step, so that lines stand below each other
    _facts_shown: bool = field(default=False, init=False)
    _busy: str = field(default="", init=False)  # what the workers are at besides training, where that takes long
    _reason: str = field(default="", init=False)  # what the backend says of a job that waits
    _trouble: bool = field(default=False, init=False)  # whether S3 can't be written
    _progress: dict[str, Any] = field(default_factory=dict, init=False)
    _notes: set[str] = field(default_factory=set, init=False)  # what the workers had to say, as far as it is shown
    _pace: deque[tuple[float, int]] = field(default_factory=deque, init=False)

    def __post_init__(self) -> None:
        self._events = Tail(self.job.events_path)
        self._metrics = Tail(self.job.metrics_path)
        events = self.job.events()
        submitted = [i for i, event in enumerate(events) if event.get("state") == State.PENDING.value]
        if submitted:
            self._old, self.since = submitted[-1], events[submitted[-1]]["time"]

    def follow(self, look: Callable[[], Status]) -> State:
        """Shows the job until it is final, or until it is no longer alive and all is read: an interrupted one may go on."""
        console = make_console()
        if console.is_terminal and not console.is_dumb_terminal:
            return self._follow_live(console, look)
        return self._follow_line(look) if is_notebook() else self._follow_plain(console, look)

    def _follow_live(self, console: Console, look: Callable[[], Status]) -> State:
        from rich.live import Live

        with Live(self._bar(console.width), console=console, auto_refresh=False, transient=True) as live:
            while True:
                last = not self._look(look())
                self._poll(console)
                live.update(self._bar(console.width), refresh=True)
                if last or self.state.is_final:
                    return self.state
                time.sleep(POLL)

    def _follow_line(self, look: Callable[[], Status]) -> State:
        shown = OneLine(sys.stdout)
        console = make_console(onto=shown)
        options = console.options.update(width=WIDTH)
        while True:
            last = not self._look(look())
            self._poll(console)
            if last or self.state.is_final:
                shown.stand("")
                return self.state
            bar = console.render_lines(self._bar(WIDTH), options, pad=False)[0]
            shown.stand("".join(segment.text for segment in bar).rstrip())
            time.sleep(POLL)

    def _follow_plain(self, console: Console, look: Callable[[], Status]) -> State:
        shown = time.monotonic()
        shown_step, said, told = None, "", ""
        while True:
            last = not self._look(look())
            self._poll(console)
            if self._reason not in ("", said):
                said = self._reason
                _event(console, f"waiting: {said}")
            if self._busy not in ("", told):
                told = self._busy
                _event(console, told)
            console.file.flush()
            if last or self.state.is_final:
                return self.state
            step = self._progress.get("step")
            if step and step != shown_step and time.monotonic() - shown >= PLAIN_EVERY:
                console.print(", ".join(self._parts()), soft_wrap=True)
                shown, shown_step = time.monotonic(), step
            time.sleep(POLL)

    def _look(self, status: Status) -> bool:
        """Whether it is alive."""
        self._reason = visible(status.reason) if status.alive else ""
        self._busy = visible(words_of(self.job, self._running)) if status.alive else ""
        return status.alive

    def _poll(self, console: Console) -> None:
        from rich.text import Text

        for event in shown(self._events.records(wrong_event)):
            self._old -= 1
            if self._old < 0:
                self._on_event(console, event)
        if self._began is None:  # events come before figures
            return
        for record in shown(self._metrics.records(wrong_report)):
            self._on_metrics(console, record)
        self._look_at_s3(console)
        progress = self.job.progress()
        if progress and progress.get("step") is not None and not moment.earlier(progress, self._began):
            if progress["step"] != self._progress.get("step"):
                self._pace.append((progress.get("up", progress["time"]), progress["step"]))
                while self._pace[-1][0] - self._pace[0][0] > RATE_OVER and len(self._pace) > 2:
                    self._pace.popleft()
            self._progress = progress
            for note in progress.get("notes") or ():
                if note not in self._notes:
                    self._notes.add(note)
                    console.print(Text(visible(note), "yellow"), soft_wrap=True)

    def _look_at_s3(self, console: Console) -> None:
        """Whether what the job has can be carried there: once when it can't, and once when it can again."""
        known = carried.read(self.job.dir)
        trouble = known is not None and known.trouble is not None
        if known is not None and trouble and not self._trouble:
            _event(console, f"{known.words(self.job.dir)}; it is tried again")
        elif known is not None and self._trouble and not trouble:
            _event(console, f"{known.url} is up to date again")
        self._trouble = trouble

    def _on_event(self, console: Console, event: Mapping[str, Any]) -> None:
        if event["state"] not in KNOWN:  # a newer version's
            return
        self.state = State(event["state"])
        reason, step, attempt = event.get("reason"), event.get("step"), event.get("attempt") or 0
        because = f": {reason}" if reason else ""
        if self.state is State.STARTING:
            self._running = None
            self._pace.clear()
            if attempt:
                _event(console, f"starting again, attempt {attempt + 1}{because}")
        elif self.state is State.RUNNING:
            self._running = moment.of(event)
            self._began = self._began or self._running
            self._maximize = tuple(event.get("maximize") or self._maximize)
            self._digits = len(f"{event.get('steps') or 0:,}")
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
        if not found or moment.earlier(record, self._began or record):
            return
        if self._shown is not None and not moment.earlier(self._shown, record):
            return
        unit = self._progress.get("unit") or "step"
        last = record["step"] == self._progress.get("total")
        if unit == "round" and self._shown and moment.seconds(self._shown, record) < ROUNDS_EVERY and not last:
            return
        self._shown = moment.of(record)
        text = Text(f"{unit} {record['step']:>{self._digits},}")
        text.append(f"  epoch {record.get('epoch') or 0:.4g}", "dim")
        for i, name in enumerate(sorted(found, key=prominence)):
            text.append(f"  {name} ", "dim")
            text.append(figure(found[name]), "green" if name in better else "")
            text.append(" best" if name in better and i == 0 else "", "bold green")
        line(console, text)

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
        if self._running is None or not now or self._busy or self._reason:
            waiting = "starting the workers" if self._running is None else "the first step"
            waiting = self._busy or waiting
            waiting = f"waiting: {self._reason}" if self._reason else waiting
            since = self._running or ({"time": self.since} if self.since else moment.now())
            return Text(
                f"{waiting} … {clock(moment.seconds(since, moment.now()))}",
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
            "elapsed": clock(moment.seconds(self._running, moment.now())),
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


_followers: dict[tuple[Path, float], Follower] = {}


def follow(job: Job, look: Callable[[], Status]) -> State:
    """Shows a job until it is final, or until it is no longer alive and all is read.

    Call it once the job is submitted and its Pending event written. Called again, as after Ctrl-C, it goes on
    where it was. Returns the job's state.
    """
    fresh = Follower(job)
    return _followers.setdefault((job.dir, fresh.since), fresh).follow(look)


def _event(console: Console, words: str) -> None:
    from rich.text import Text

    line(console, Text(words, "yellow"))
