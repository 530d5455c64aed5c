"""The job that is drilled: the real command as a process, started again whenever it left, and looked at all the time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.job import checkpoint, node_state
from trainer.job.directory import Job, State
from trainer.job.records import wrong_event
from trainer.job.view.tail import Tail
from trainer.process import clock
from trainer.testing.chaos.processes import MARK, dies_with_us, is_marked, marked, send, wait_dead, wait_gone

POLL = 0.01
AGENT = b"launchers.agent"


@dataclass(frozen=True)
class Resume:
    """That the job went on. up: when, in seconds since this machine was started; reached: the last step done before; step: the one it went on from; whole: the steps of
    the checkpoints that were there then."""

    up: float
    attempt: int
    world_size: int
    reached: int
    step: int
    whole: frozenset[int]


@dataclass
class Subject:
    """A job under way. `environment` is added to ours; the command's output goes to `output`.

    reached: the last step done since it went on, as far as is seen; farthest: ever; problems: what it said of itself that isn't so.
    """

    job: Job
    overrides: Sequence[str]
    environment: Mapping[str, str]
    output: Path
    url: str = ""  # of its directory, if that isn't the local folder
    events: list[dict[str, Any]] = field(default_factory=list)
    resumes: list[Resume] = field(default_factory=list)
    starts: int = 0
    problems: list[str] = field(default_factory=list)
    reached: int = 0
    farthest: int = 0
    others: list[subprocess.Popen[bytes]] = field(default_factory=list)  # agents that were started beside
    _command: subprocess.Popen[bytes] | None = None
    _tail: Tail | None = None
    _seen: set[int] = field(default_factory=set)
    _running: bool = False
    _since: float = 0.0
    _damaged: dict[int, int] = field(default_factory=dict)

    @property
    def mark(self) -> str:
        return self.environment[MARK]

    # the command

    def start(self) -> None:
        """Runs the command, the first time or again."""
        self.starts += 1
        command = [sys.executable, "-m", "trainer", "train", *self.overrides, f"job.dir={self.url or self.job.dir}"]
        with open(self.output, "ab") as output:
            self._command = subprocess.Popen(
                command,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=dies_with_us(signal.SIGTERM),
            )

    @property
    def command(self) -> int:
        assert self._command is not None
        return self._command.pid

    @property
    def left(self) -> int | None:
        """The command's exit code; None while it runs, or while an agent of it still lives."""
        if self._command is None or self._command.poll() is None or marked(self.mark, AGENT):
            return None
        return self._command.returncode

    def end(self) -> None:
        """Ends everything of it, at once; what was just being started too."""
        end = time.monotonic() + 10
        while (pids := marked(self.mark)) and time.monotonic() < end:
            send(pids, signal.SIGKILL)
            wait_dead(pids, 1)
        for process in (self._command, *self.others):
            if process is not None:
                process.wait(10)

    def left_behind(self) -> list[int]:
        """Processes that are still there some seconds after it has ended."""
        wait_gone(lambda: not marked(self.mark), 20)
        return marked(self.mark)

    # what is seen of it

    def agents(self) -> dict[int, int]:
        """The agents' process ids, by node."""
        agents = {number: int(record["agent"]) for number, record in self._nodes().items()}
        return {number: pid for number, pid in agents.items() if is_marked(pid, self.mark)}

    def workers(self, number: int | None = None) -> list[int]:
        """The workers' process ids, of one node or of all, in the order of ranks."""
        nodes = sorted(self._nodes().items())
        pids = [int(pid) for i, record in nodes for pid in record["workers"] if number is None or i == number]
        return [pid for pid in pids if is_marked(pid, self.mark)]

    def _nodes(self) -> dict[int, dict[str, Any]]:
        found = {}
        for path in self.job.logs.glob("node-*.json"):
            with contextlib.suppress(OSError, ValueError):
                found[int(path.stem.removeprefix("node-"))] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def poll(self) -> list[dict[str, Any]]:
        """Looks at it; the events that are new."""
        beats = self._beats()  # before the events: steps of a new life must not count for the one before
        whole = self.whole()
        self._tail = self._tail or Tail(self.job.events_path)
        new = [event for event in self._tail.records(wrong_event) if event["up"] > self._since]
        if not any(event["state"] == State.RUNNING for event in new):
            self._see(beats)
        self._seen |= set(whole)
        for event in new:
            self._take(event)
        self.events += new
        return new

    def pause(self) -> list[dict[str, Any]]:
        """Waits a moment, then looks."""
        time.sleep(POLL)
        return self.poll()

    def _take(self, event: dict[str, Any]) -> None:
        if event["state"] == State.INTERRUPTED:
            step = int(event.get("step") or 0)
            if self._running and step < self.reached:
                self.problems.append(
                    f"the job says that it was interrupted at step {step}, and did step {self.reached}"
                )
            self._running = False
            self._see([step])
        elif event["state"] == State.RUNNING:
            step, up, world = int(event["step"]), float(event["up"]), int(event["world_size"])
            self.resumes.append(Resume(up, int(event["attempt"]), world, self.reached, step, frozenset(self._seen)))
            self.reached, self._seen, self._running = step, set(), True

    def _see(self, steps: Sequence[int]) -> None:
        self.reached = max([self.reached, *steps])
        self.farthest = max(self.farthest, self.reached)

    def _beats(self) -> list[int]:
        """The last step of each worker, from the memory they share with their agent."""
        folder = next((e["folder"] for e in reversed(self.events) if e.get("folder")), None)
        if folder is None:
            return []
        try:
            return [step for step in node_state.steps_left_in(Path(folder, node_state.BEATS)) if step >= 0]
        except (FileNotFoundError, ValueError, TypeError):  # it is gone, or just being made
            return []

    @property
    def state(self) -> State:
        """As its directory tells it."""
        return State(self.events[-1]["state"]) if self.events else State.PENDING

    @property
    def is_running(self) -> bool:
        return self.state is State.RUNNING

    @property
    def attempt(self) -> int:
        """The number of the workers' present life; -1 before the first."""
        return max((int(e["attempt"]) for e in self.events if e["state"] == State.STARTING), default=-1)

    @property
    def is_up(self) -> bool:
        """Whether the workers of the newest life are there."""
        records = self._nodes().values()
        return any(int(record["attempt"]) == self.attempt for record in records)

    def whole(self) -> list[int]:
        """The steps of the checkpoints that are complete now, without those that were damaged, oldest first."""
        steps = []
        for folder in checkpoint.listing(self.job.checkpoints):
            step = checkpoint.step_of(folder)
            with contextlib.suppress(OSError):  # it is just being replaced or deleted
                number = os.stat(folder / checkpoint.MANIFEST).st_ino and os.stat(folder).st_ino
                if self._damaged.get(step) != number:
                    steps.append(step)
        return steps

    def count_damaged(self, step: int) -> None:
        """From now on this checkpoint doesn't count, until another one of that step is written."""
        self._damaged[step] = os.stat(checkpoint.folder(self.job.checkpoints, step)).st_ino
        self._seen.discard(step)

    def forget(self) -> None:
        """The local folder is gone: what is told of earlier times in the one that comes was seen already."""
        self._since, self._tail = float(clock.now()["up"]), None
        self._seen, self._running = set(), False
        self._damaged.clear()

    def is_saving(self) -> bool:
        """Whether a checkpoint is being written."""
        try:
            return any(name.endswith(".partial") for name in os.listdir(self.job.checkpoints))
        except OSError:
            return False
