"""What a person sees while a study is driven: a line for each trial that ends, and in a terminal a live table below them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer.job.directory import State
from trainer.job.view.summary import choice, line, make_console, pair
from trainer.process.escape import visible
from trainer.process.format import clock, duration, figure, plural, short_path
from trainer.tuning.engine import Engine, Live, News
from trainer.tuning.record import short_keys
from trainer.tuning.samplers.default import DEFAULT
from trainer.tuning.spaces.space import Space, described

REFRESH = 0.25  # seconds between looks at what runs
PLAIN_EVERY = 30.0  # seconds between lines about what runs where there is no terminal
ROWS = 8  # running trials in the table


def header(engine: Engine, recommended: bool) -> None:
    """What is known before there is anything to run trials on, which takes some seconds."""
    console, study, search = make_console(), engine.study, engine.asker.choice
    facts, space = study.facts, engine.asker.space
    pair(console, "study", short_path(study.dir))
    goals = ", ".join(f"{goal} {metric}" for metric, goal in zip(facts["metrics"], facts["goals"], strict=True))
    what = " on ".join(_chosen(facts["base"], space, noun) for noun in ("algorithm", "data"))
    pair(console, "tune", f"{what}: {goals}")
    for i, words in enumerate(space.describe()):
        pair(console, ("space" if not recommended else "space*") if i == 0 else "", words)
    if recommended:
        pair(console, "", "* recommended for this algorithm, as none was given")
    pair(console, "search", f"{search.name} ({search.why}), seed {facts['seed']}")
    if engine.default_words:
        pair(console, "first", engine.default_words)
    if facts["scheduler"] != "none":
        pair(console, "stops", f"early by {facts['scheduler']}, in {facts['unit']}")
    console.file.flush()


def _chosen(base: Mapping[str, Any], space: Space, noun: str) -> str:
    """What trials train, or on what: of a choice that is searched, all."""
    searched = next((p.choices for p in space.parameters if p.key == noun), None)
    return " or ".join(map(str, searched)) if searched else choice(base, noun)


def begins(engine: Engine, parallel: int) -> None:
    """That trials begin now, so many at a time, and until when."""
    pair(make_console(), "until", ", ".join([*bounds(engine), f"{parallel} at a time"]))


def bounds(engine: Engine) -> list[str]:
    ends = engine.ends
    told = [plural(ends.trials, "trial")] if ends.trials is not None else []
    told += [duration(ends.max_time)] if ends.max_time is not None else []
    told += [f"{ends.max_device_hours:g} device-hours"] if ends.max_device_hours is not None else []
    told += [f"{engine.metrics[0]} of {figure(ends.target)}"] if ends.target is not None else []
    told += [f"no improvement in {plural(ends.patience, 'trial')}"] if ends.patience is not None else []
    return told


@dataclass
class Board:
    """Follows an engine; `look` is called often and draws now and then."""

    engine: Engine
    parallel: int
    counts: dict[str, int] = field(default_factory=dict)
    _best: tuple[float, Any] | None = None
    _live: Any = None
    _drawn: float = 0.0
    _began: float = field(default_factory=time.monotonic)
    _ended: int = 0  # since this driver began

    def __post_init__(self) -> None:
        self._console = make_console()
        self._short = short_keys(self.engine.asker.space.keys)
        self._sign = -1.0 if self.engine.study.facts["goals"][0] == "max" else 1.0
        for frozen in self.engine.study.trials():
            self._count(frozen)

    def __enter__(self) -> Board:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            from rich.live import Live as Screen

            self._live = Screen(self._table(), console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.look(last=True)
        if self._live is not None:
            self._live.stop()

    def look(self, last: bool = False) -> None:
        """Says what has happened, and draws the table if it is time."""
        while self.engine.news:
            self._say(self.engine.news.popleft())
        now = time.monotonic()
        if now - self._drawn < (REFRESH if self._live is not None else PLAIN_EVERY) and not last:
            return
        self._drawn = now
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
        elif not last and self.engine.live and now - self._began > 1.0:
            line(self._console, self._summary())
            self._console.file.flush()

    def _count(self, frozen: Any) -> str:
        """Takes an ended trial into the account: completed, stopped early, failed; "" if it has not ended."""
        state = {"COMPLETE": "done", "PRUNED": "stopped early", "FAIL": "failed"}.get(frozen.state.name, "")
        if state:
            self.counts[state] = self.counts.get(state, 0) + 1
        if state and "replaces" in frozen.user_attrs:  # what was stopped for it has ended in it
            self.counts["stopped early"] = self.counts.get("stopped early", 0) - 1
        if state == "done":
            loss = self._sign * frozen.values[0]
            feasible = all(margin <= 0 for margin in frozen.user_attrs.get("constraints") or ())
            if feasible and (self._best is None or loss < self._best[0]):
                self._best = (loss, frozen)
        return state

    def _say(self, news: News) -> None:
        from rich.text import Text

        if news.words:
            line(self._console, Text(visible(news.words), "yellow"))
            return
        frozen = news.frozen
        before = self._best
        state = self._count(frozen)
        self._ended += 1
        text = Text(f"trial {frozen.number:>3}")
        if state == "failed":
            text.append(f"  failed: {visible(str(frozen.user_attrs.get('reason')))}", "red")
        elif state == "stopped early":
            text.append(f"  stopped early: {visible(str(frozen.user_attrs.get('reason')))}", "dim")
        else:
            is_best = self._best is not before
            for metric, value in zip(self.engine.metrics, frozen.values, strict=True):
                text.append(f"  {visible(metric)} ", "dim")
                text.append(figure(value), "green" if is_best else "")
            text.append(" best" if is_best else "", "bold green")
            if any(margin > 0 for margin in frozen.user_attrs.get("constraints") or ()):
                text.append("  outside tune.constraints", "yellow")
        text.append("  the default" if DEFAULT in frozen.user_attrs else "", "dim")
        text.append(f"  {self._point(frozen.user_attrs.get('config') or {})}", "dim")
        line(self._console, text)
        self._console.file.flush()

    def _point(self, values: Mapping[str, Any]) -> str:
        return visible(described({self._short.get(key, key): value for key, value in values.items()}))

    def _summary(self) -> Any:
        from rich.text import Text

        running = len(self.engine.live)
        counts = {"running": running, **{k: self.counts.get(k, 0) for k in ("done", "stopped early", "failed")}}
        total = self.engine.ends.trials
        parts = [f"{number} {name}" for name, number in counts.items() if number or name in ("running", "done")]
        text = Text(", ".join(parts) + (f" of {total}" if total is not None else ""))
        text.append(f"  {clock(time.monotonic() - self.engine.began)}", "dim")
        left = self._left()
        text.append(f"  {clock(left)} left" if left is not None else "", "dim")
        if self._best is not None:
            frozen = self._best[1]
            text.append(f"  best {figure(frozen.values[0])} (trial {frozen.number})", "green")
        return text

    def _left(self) -> float | None:
        """Seconds until the study ends, by its time or by the pace of its trials."""
        ends, engine = self.engine.ends, self.engine
        bounds = []
        if ends.max_time is not None:
            bounds.append(max(0.0, engine.began + ends.max_time - time.monotonic()))
        if ends.trials is not None and self._ended:
            done = sum(self.counts.values())
            bounds.append(max(0, ends.trials - done) * (time.monotonic() - self._began) / self._ended)
        return min(bounds) if bounds else None

    def _table(self) -> Any:
        from rich.console import Group
        from rich.table import Table

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=False)
        shown = list(self.engine.live.values())
        rows = [[*_row(live, self.engine.metrics[0]), self._point(live.values)] for live in shown[:ROWS]]
        for i, name in enumerate(("trial", self.engine.metrics[0], "at", "for")):
            width = max([len(name), *(len(row[i]) for row in rows)])
            table.add_column(name, justify="right", no_wrap=True, min_width=width)
        table.add_column("", no_wrap=True, overflow="ellipsis")
        for row in rows:
            table.add_row(*row)
        more = [f"… and {len(shown) - ROWS} more"] if len(shown) > ROWS else []
        summary = self._summary()
        summary.no_wrap, summary.overflow = True, "ellipsis"
        return Group(summary, *([table] if shown else []), *more)


def _row(live: Live, metric: str) -> list[str]:
    progress: Mapping[str, Any] = live.job.progress() or {}
    step, total = progress.get("step"), progress.get("total")
    if step is None:
        at = live.job.state().value.lower() if live.job.state() is not State.RUNNING else "first step"
    else:
        at = f"{step:,}" + (f"/{total:,}" if total else "")
    return [
        str(live.frozen.number),
        figure(live.metrics.get(metric)),
        at,
        clock(max(0.0, time.time() - live.since)),
    ]
