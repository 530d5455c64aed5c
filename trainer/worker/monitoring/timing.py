"""Where a training's time goes, by marks that cost a fraction of a microsecond.

Every moment since the last mark belongs to the part that the next one names, so the parts sum to the whole. The same
marks tell the agent what a worker is at. On a GPU, which the host runs ahead of, events on every 16th step say how the
time of steps divides; they are read when the losses are, so that no step waits for the device.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch

from trainer.job.node_state import PARTS

IDLE, COMMUNICATION, VALIDATION, CHECKPOINT, DATA, FORWARD, BACKWARD, OPTIMIZER = range(len(PARTS))
# what a worker is at after a mark
NEXT = {IDLE: DATA, DATA: FORWARD, FORWARD: BACKWARD, BACKWARD: OPTIMIZER} | dict.fromkeys(
    (COMMUNICATION, VALIDATION, CHECKPOINT, OPTIMIZER), IDLE
)
OF_STEP = (IDLE, DATA, FORWARD, BACKWARD, OPTIMIZER)
SAMPLE_EVERY = 16  # steps


class Laps:
    """The marks of one worker.

    at: a number that the agent reads: what the worker is at. log: hears of every mark, while a profile is taken.
    waited: seconds of the backwards in which this worker only waited for the others, as far as somebody knows.
    """

    def __init__(self, at: memoryview | None = None) -> None:
        self.seconds = [0.0] * len(PARTS)
        self.log: Callable[[int], None] | None = None
        self.steps = 0
        self.waited = 0.0
        self._at = memoryview(bytearray(8)).cast("q") if at is None else at
        self._last = time.perf_counter()

    def start(self) -> None:
        """What was before does not count."""
        self._last = time.perf_counter()

    def mark(self, part: int) -> None:
        """The part that ends here."""
        now = time.perf_counter()
        self.seconds[part] += now - self._last
        self._last = now
        self._at[0] = NEXT[part]
        if self.log is not None:
            self.log(part)

    def begin(self, part: int) -> None:
        """A part that begins here and not with the mark of the one before."""
        self.mark(IDLE)
        self._at[0] = part

    def end_step(self) -> None:
        self.mark(IDLE)
        self.steps += 1

    def read(self) -> None:
        """What the device has done by now, where there is one. Call it where the device has just been waited for."""

    def of(self, part: int) -> float:
        """Seconds of a part, whatever it did in them."""
        return self._parts()[part]

    def split(self) -> list[float]:
        """Seconds of each part."""
        parts = self._parts()
        waited = min(self.waited, parts[BACKWARD])
        parts[BACKWARD] -= waited
        parts[COMMUNICATION] += waited
        return parts

    def _parts(self) -> list[float]:
        return list(self.seconds)


class DeviceLaps(Laps):
    """The marks of a worker with a GPU. `event`: makes one; it is recorded, and asked how long after another it was."""

    def __init__(self, at: memoryview | None = None, event: Callable[[], Any] | None = None) -> None:
        super().__init__(at)
        self._event = event or (lambda: torch.cuda.Event(enable_timing=True))
        self._open: list[tuple[int, Any]] | None = None  # of the step that is sampled
        self._waited = 0.0  # for data, before it
        self._done: list[tuple[list[tuple[int, Any]], float]] = []
        self._device = [0.0] * len(PARTS)

    def mark(self, part: int) -> None:
        super().mark(part)
        if self._open is None or part == IDLE:
            return
        if part in OF_STEP:
            self._record(part)
            if part != OPTIMIZER:
                return
            self._done.append((self._open, self.seconds[DATA] - self._waited))
        self._open = None

    def end_step(self) -> None:
        super().end_step()
        if self.steps % SAMPLE_EVERY == 0:
            self._open, self._waited = [], self.seconds[DATA]
            self._record(IDLE)

    def read(self) -> None:
        for events, waited in self._done:
            for (_, before), (part, after) in pairwise(events):
                seconds = before.elapsed_time(after) / 1e3
                if part == DATA:  # what the device has stood still beyond the wait for data, it did for other reasons
                    self._device[IDLE] += max(0.0, seconds - waited)
                    seconds = min(seconds, waited)
                self._device[part] += seconds
        self._done.clear()

    def _parts(self) -> list[float]:
        sampled = sum(self._device)
        if not sampled:
            return super()._parts()
        whole = sum(self.seconds[part] for part in OF_STEP)
        return [
            whole * self._device[part] / sampled if part in OF_STEP else seconds
            for part, seconds in enumerate(self.seconds)
        ]

    def _record(self, part: int) -> None:
        assert self._open is not None
        event = self._event()
        event.record()
        self._open.append((part, event))


def laps_on(device: torch.device, at: memoryview | None = None) -> Laps:
    return DeviceLaps(at) if device.type == "cuda" else Laps(at)


def by_name(seconds: list[float], whole: float, before: Mapping[str, float] | None = None) -> dict[str, float]:
    """The parts of `whole` seconds, what is left being idle, together with those of sessions before."""
    known = {name: value for name, value in zip(PARTS, seconds, strict=True) if name != PARTS[IDLE]}
    parts = {**known, PARTS[IDLE]: max(0.0, whole - sum(known.values()))}
    return {name: round(value + (before or {}).get(name, 0.0), 3) for name, value in parts.items()}
