"""`train.profile=true`: a trace of a few steady steps by torch's profiler, and a table of what their time went to.

Each rank writes `logs/profile/rank-N.pt.trace.json.gz`, which TensorBoard's profiler and Perfetto read, and beside it
`rank-N.json`, the table. Communication is the time in which a collective ran, and waited for other ranks, while nothing
of this one did; it is taken out of the parts in which it fell.
"""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity

from trainer.job.directory import write_json
from trainer.job.node_state import PARTS
from trainer.worker.monitoring.spans import Span, length, union, without
from trainer.worker.monitoring.timing import COMMUNICATION, Laps

WAIT, WARMUP, ACTIVE = 10, 3, 5  # steps: let go by, measured but thrown away, kept


class Profile:
    """Takes one: `start` before the first step, `step` after each. left: the steps still to be done, if that is known."""

    def __init__(self, folder: Path, rank: int, device: torch.device, laps: Laps, left: int | None) -> None:
        self._folder, self._rank, self._laps = folder, rank, laps
        self._gpu = device.type == "cuda"
        room = WAIT + WARMUP + ACTIVE if left is None else left - 1  # the last step's end is not seen
        self.kept = max(0, min(ACTIVE, room))
        self._warmup = max(0, min(WARMUP, room - self.kept))
        self._wait = max(0, min(WAIT, room - self.kept - self._warmup))
        self._done = 0
        self._profiler: Any = None
        self._marks: list[tuple[int, Any]] = []
        self._began = 0

    def start(self) -> None:
        if not self.kept:
            print("there are too few steps for a profile", flush=True)
        elif not self._wait:
            self._start()

    def step(self) -> bool:
        """True once there is nothing more to do."""
        self._done += 1
        if not self.kept:
            return True
        since = self._done - self._wait
        if since == self._warmup + self.kept:
            self._end()
            return True
        if since == 0:
            self._start()
        elif since > 0:
            self._profiler.step()
            if since == self._warmup:
                self._begin()
        return False

    def _start(self) -> None:
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._gpu else [])]
        plan = torch.profiler.schedule(wait=0, warmup=self._warmup, active=self.kept, repeat=1)
        self._profiler = torch.profiler.profile(activities=activities, schedule=plan)
        self._profiler.start()
        if not self._warmup:
            self._begin()

    def _begin(self) -> None:
        """From here on marks are noted: by the clock, or by events that the device reaches in its own time."""
        if self._gpu:
            torch.cuda.synchronize()
        self._began = time.time_ns()
        self._note(0)
        self._laps.log = self._note

    def _note(self, part: int) -> None:
        if self._gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append((part, event))
        else:
            self._marks.append((part, time.time_ns()))

    def _end(self) -> None:
        self._laps.log = None
        if self._gpu:
            torch.cuda.synchronize()
        self._profiler.step()
        self._profiler.stop()
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"rank-{self._rank}"
        self._profiler.export_chrome_trace(str(self._folder / f"{name}.pt.trace.json.gz"))
        busy, sent = self._events(self._profiler.profiler.kineto_results.events())
        seconds = parted(self._spans(), without(sent, busy))
        table = {"steps": self.kept, "seconds": {name: round(s, 6) for name, s in zip(PARTS, seconds, strict=True)}}
        write_json(self._folder / f"{name}.json", table)
        print(f"the profile of {self.kept} steps is in {self._folder}", flush=True)
        self._profiler = None

    def _spans(self) -> list[tuple[int, Span]]:
        """The parts as they followed each other."""
        if self._gpu:
            first = self._marks[0][1]
            marks = [(part, self._began + round(first.elapsed_time(event) * 1e6)) for part, event in self._marks]
        else:
            marks = self._marks
        return [(part, (before, now)) for (_, before), (part, now) in pairwise(marks)]

    def _events(self, events: Any) -> tuple[list[Span], list[Span]]:
        """When this rank computed, and when collectives ran: on its GPU, or in the thread that trains."""
        steps = {e.start_thread_id() for e in events if e.name().startswith("ProfilerStep")}
        busy: list[Span] = []
        sent: list[Span] = []
        for event in events:
            name, span = event.name(), (event.start_ns(), event.start_ns() + event.duration_ns())
            if self._gpu:
                if event.device_type() == DeviceType.CUDA and not event.is_user_annotation():
                    (sent if "nccl" in name else busy).append(span)
            elif name.startswith("gloo:"):
                sent.append(span)
            elif name.startswith("aten::") and event.start_thread_id() in steps:
                busy.append(span)
        return union(busy), union(sent)


def parted(spans: list[tuple[int, Span]], sent: list[Span]) -> list[float]:
    """Seconds of each part, communication taken out of those in which it fell. They sum to the whole."""
    seconds = [0.0] * len(PARTS)
    for part, (start, stop) in spans:
        waited = length([(max(start, a), min(stop, b)) for a, b in sent if a < stop and b > start])
        seconds[part] += (stop - start - waited) / 1e9
        seconds[COMMUNICATION] += waited / 1e9
    return seconds
