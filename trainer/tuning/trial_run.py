"""One trial under way: its job on the configured launcher, started, followed and stopped. Knows neither Ray nor Optuna.

What the driver wants of it lies in the job's directory: `order.json`, {"what": "stop" | "pause" | "kill" | "go on",
"reason": …}; the last takes back what a driver before had wanted, who is gone.
"""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from trainer.config import schema
from trainer.config.instantiate import build
from trainer.errors import HeadwayError, UserError
from trainer.job.account import training_seconds
from trainer.job.directory import Job, State, read_hint
from trainer.job.records import wrong_report
from trainer.job.view.tail import Tail

ORDER = "order.json"
POLL = 0.02  # seconds between looks at whether the job is alive
LOOK = 0.25  # seconds between looks at what it reports, and at what is wanted of it: trials train beside this
AGAIN = (0.0, 1.0, 5.0, 15.0, 30.0)  # seconds to wait after so many interruptions without progress between them


@dataclass
class Run:
    """A trial's job, from wherever its directory says it stands to its end.

    retries: times that it is started again after it failed, over all who follow it. env: environment variables for its agents.
    """

    job: Job
    retries: int = 0
    env: Mapping[str, str] = field(default_factory=dict)
    _ordered: str | None = None
    _stuck: int = 0
    _submitted: float = 0.0
    _looks: float = 0.0  # when it looks next

    def __post_init__(self) -> None:
        self._launcher = _launcher(json.dumps(schema.load_job(self.job.config_path)["launcher"]))
        if hasattr(self._launcher, "keep_warm"):
            self._launcher.keep_warm()
        self._tail = Tail(self.job.metrics_path)
        self._told: dict[str, int] = {}  # the step of each metric's newest report; after a restart some come again

    def begin(self) -> None:
        """Starts the job, or goes on with it; does nothing if it is alive, has ended, or is to stop."""
        ended = self.job.state() in (State.COMPLETED, State.FAILED) or self.job.out_of_time
        if not ended and not self._order() and not self._launcher.is_alive(self.job):
            self._submit()

    def _order(self) -> str | None:
        what = read_hint(self.job.dir / ORDER).get("what", "go on")
        return None if what == "go on" else str(what)

    def _submit(self) -> None:
        plan = self._launcher.plan(self.job)
        self.job.result_path.unlink(missing_ok=True)
        self._launcher.submit(self.job, replace(plan, env={**plan.env, **self.env}))
        self._submitted = time.monotonic()

    def wait(self, seconds: float = 5.0) -> dict[str, Any]:
        """Returns once there is something new, a few times a second at most, or nothing for so many seconds.

        points: new reports as [step, epoch, seconds of training, {metric: value}]; ended: None while it goes on, else
        completed, failed, stopped (by an order), paused (by an order), out_of_time or by_hand; reason, kind: of a failure.
        """
        until = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            if now >= self._looks or not self._launcher.is_alive(self.job):
                self._looks = now + LOOK
                points = self._points()
                self._obey()
                ended = self._ended()
                if ended is not None:
                    return {"points": points + self._points(), **ended}
                if points or now > until:
                    return {"points": points, "ended": None}
            time.sleep(POLL)

    def _points(self) -> list[list[Any]]:
        found: list[list[Any]] = []
        events: list[dict[str, Any]] | None = None
        for line in self._tail.records(wrong_report):
            numbers = {k: v for k, v in line["values"].items() if isinstance(v, int | float)}
            values = {k: v for k, v in numbers.items() if line["step"] > self._told.get(k, -1)}
            if not values:
                continue
            self._told |= dict.fromkeys(values, line["step"])
            events = self.job.events() if events is None else events
            found.append([line["step"], line.get("epoch") or 0.0, training_seconds(events, line), values])
        if found:
            self._stuck = 0
        return found

    def _obey(self) -> None:
        what = self._order()
        if what is None or what == self._ordered:
            return
        try:
            if self._launcher.is_alive(self.job):
                self._launcher.stop(self.job, now=what == "kill")
        except UserError:
            return  # it was just about to end, or to begin: the next look tells
        self._ordered = what

    def _ended(self) -> dict[str, Any] | None:
        if self._launcher.is_alive(self.job):
            return None
        state = self._launcher.state(self.job)
        ordered = {"stop": "stopped", "pause": "paused", "kill": "paused"}.get(self._ordered or "")
        if state is State.COMPLETED:
            return {"ended": "completed"}
        if state is State.FAILED:
            failures = sum(event["state"] == State.FAILED for event in self.job.events())
            if failures <= self.retries and not ordered:
                self._submit()
                return None
            return {"ended": "failed", **failure_of(self.job)}
        if ordered:
            return {"ended": ordered}
        if self.job.out_of_time:
            return {"ended": "out_of_time"}
        if state is State.STOPPED and (self._submitted or not read_hint(self.job.dir / ORDER)):
            return {"ended": "by_hand", "reason": "stopped by hand", "kind": "stopped"}
        pause = AGAIN[min(self._stuck, len(AGAIN) - 1)] if state is State.INTERRUPTED else AGAIN[-1]
        if time.monotonic() - self._submitted >= pause:
            self._stuck += 1
            self._submit()
        return None

    def leave(self) -> None:
        """Interrupts the job in order, as the one who follows it has to go. It is gone when this returns."""
        if not self._launcher.is_alive(self.job):
            return
        try:
            self._launcher.stop(self.job)
            self._launcher.wait(self.job)
        except HeadwayError:
            return  # it has left by itself, or the job's directory tells how it stands


@functools.lru_cache(maxsize=8)
def _launcher(node: str) -> Any:
    """One for all trials that this process follows and that have the same."""
    return build(json.loads(node), "launcher")


def failure_of(job: Job) -> dict[str, str]:
    """Why a job failed, in a line, and what kind of failure it is: the same words whatever the numbers in them."""
    result = job.result() or {}
    error = result.get("error") or {}
    lines = str(error.get("message") or "no error was left").splitlines()
    message = lines[0] if lines else "no error was left"
    kind = str(error.get("type") or "failed")
    words = message if kind in ("HeadwayError", "UserError", "WorkerDied") else f"{kind}: {message}"
    return {"reason": words, "kind": re.sub(r"[\d.]+(e[+-]?\d+)?", "#", f"{kind}: {message}")[:100]}
