"""Reports: metrics.jsonl, trackers, and, beside the steps, logs/progress.json that says where the job stands now."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from trainer.job.directory import Job, append_line, write_json
from trainer.job.result import more_is_better
from trainer.process import clock
from trainer.storage.retry import patiently
from trainer.worker.tracking import number

PROGRESS_SECONDS = 0.25


class Progress:
    """What the loop updates by plain assignment, and a thread writes down a few times a second."""

    def __init__(self) -> None:
        self.step = 0
        self.total: int | None = None
        self.epoch = 0.0
        self.samples = 0
        self.loss: float | None = None
        self.unit = "step"
        self.training_seconds = 0.0  # before this session
        self.session_started: float | None = None
        self.session_first_sample = 0
        self.saved_step: int | None = None
        self.notes: list[str] = []  # what whoever looks after the job should read
        self.more: Callable[[float], dict[str, Any]] = lambda seconds: {}  # of a session of so many seconds

    def begin(self) -> None:
        self.session_started = time.monotonic()
        self.session_first_sample = self.samples

    def snapshot(self) -> dict[str, Any]:
        session = time.monotonic() - self.session_started if self.session_started else 0.0
        trained = self.samples - self.session_first_sample
        return {
            **clock.now(),
            "step": self.step,
            "total": self.total,
            "epoch": self.epoch,
            "samples": self.samples,
            "loss": self.loss,
            "unit": self.unit,
            "samples_per_second": round(trained / session, 1) if session > 0 else None,
            "session_samples": trained,
            "session_seconds": round(session, 3),
            "training_seconds": round(self.training_seconds + session, 3),
            **self.more(session),
            **({"notes": list(self.notes)} if self.notes else {}),
        }


class Gauge(Protocol):
    """Tells of the machines while the job runs. Asked only when a report is made, so that a step pays nothing for it."""

    def read(self) -> dict[str, float]:
        """Figures since it was last asked; they are no part of what the job learned (`trainer.job.result.is_of_the_run`)."""

    def close(self) -> None:
        """Called once, after the last report."""


class Reporter:
    """Rank 0 writes and tells the tracker; the others keep only what decisions need.

    gauges: what reports carry besides the training's own figures.
    """

    def __init__(
        self, job: Job, tracker: Any, progress: Progress | None = None, *, writes: bool, maximize: Iterable[str]
    ) -> None:
        self.progress = progress or Progress()
        self.best: dict[str, float] = {}
        self.gauges: list[Gauge] = []
        self._job = job
        self._tracker = tracker
        self._writes = writes
        self._maximize = tuple(maximize)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, config: dict[str, Any]) -> None:
        self.progress.begin()
        if self._writes:
            self._tracker.start(self._job.dir, config)
            self._thread = threading.Thread(target=self._write_progress, daemon=True, name="progress")
            self._thread.start()

    def report(self, step: int, given: Mapping[str, float], *, epoch: float, samples: int) -> None:
        """One line of metrics. `given`: values by name, such as `train_loss`; NaN and infinity are written as they are.

        Raises UserError for a value that is no number.
        """
        values = {name: number(name, value) for name, value in given.items()}
        for name, value in values.items():
            best = self.best.get(name)
            if value is not None and (best is None or self.is_better(name, value, best)):
                self.best[name] = value
        if self._writes:
            told: dict[str, float | None] = dict(values)
            for gauge in self.gauges:
                told |= gauge.read()
            line = {
                **clock.now(),
                "step": step,
                "epoch": round(epoch, 6),
                "samples": samples,
                "values": told,
            }
            patiently(lambda: append_line(self._job.metrics_path, line))
            self._tracker.log(step, {name: value for name, value in told.items() if value is not None})

    def is_better(self, name: str, value: float, than: float, by: float = 0.0) -> bool:
        if more_is_better(name, self._maximize):
            return value > than + by
        return value < than - by

    def forget_after(self, step: int) -> None:
        """Drops reports of steps that will be done again."""
        path = self._job.metrics_path
        if not self._writes or not path.exists():
            return
        kept = [line for line in self._job.metrics() if line["step"] <= step]
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in kept), encoding="utf-8")
        os.replace(beside, path)

    def finish(self, result: dict[str, Any]) -> None:
        """Ends the threads, writes the last progress and closes the tracker."""
        self._ended.set()
        for gauge in self.gauges:
            gauge.close()
        if self._thread:
            self._thread.join()
            patiently(lambda: write_json(self._job.progress_path, self.progress.snapshot()))
            self._tracker.finish(result)

    def _write_progress(self) -> None:
        while not self._ended.wait(PROGRESS_SECONDS):
            with contextlib.suppress(OSError):  # the disk can't be written: the next one may
                write_json(self._job.progress_path, self.progress.snapshot())
