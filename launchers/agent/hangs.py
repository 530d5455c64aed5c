"""Finds workers that hang: none of a node's has moved for longer than it may take."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from trainer.job import node_state

LOOK_SECONDS = 0.2
FIRST_STEP = 10  # times the patience for the first step, which compiles, or builds what an estimator needs
NAMED = 8  # workers that a line tells of, at most
STACK_SECONDS = 0.5  # for the stack traces to be written


class Beats:
    """The beats of a node's workers, as the agent reads them."""

    def __init__(self, folder: Path, workers: int) -> None:
        self._folder = folder
        self._numbers = node_state.make(folder, workers)
        self.workers = workers

    def steps(self) -> list[int | None]:
        """The last step that each worker has done; None for one that has not begun."""
        steps = [self._numbers[2 * i] for i in range(self.workers)]
        return [None if step == node_state.UNSTARTED else step for step in steps]

    @property
    def reached(self) -> int | None:
        """The last step that was done."""
        done = [step for step in self.steps() if step is not None]
        return max(done) if done else None

    def all(self) -> list[int]:
        return list(self._numbers)

    def standings(self) -> list[tuple[int, int]]:
        """The last step of each worker, and what it is at."""
        return node_state.standings(self._folder, self.workers)

    @property
    def behind(self) -> list[int]:
        """The workers that are not as far as the one that is farthest."""
        places = self.standings()
        return [i for i, place in enumerate(places) if place < max(places)]

    def told(self) -> str:
        """Where each worker stands, those that are behind first, as the end of a line; "" if none says what it is at."""
        places = self.standings()
        if not any(part for _, part in places):
            return ""
        if len(set(places)) == 1:
            return f"; each is {node_state.standing(*places[0])}"
        order = sorted(range(len(places)), key=lambda i: (places[i], i))[:NAMED]
        return "; " + ", ".join(f"worker {i} is {node_state.standing(*places[i])}" for i in order)


class HangWatch:
    """A thread that calls `on_hang(words)` once, if the workers have begun and then none has moved for `timeout` seconds."""

    def __init__(self, beats: Beats, timeout: float, pids: Sequence[int], on_hang: Callable[[str], None]) -> None:
        self._beats, self._timeout, self._pids, self._on_hang = beats, timeout, list(pids), on_hang
        self._ended = threading.Event()
        threading.Thread(target=self._run, daemon=True, name="hang").start()

    def stop(self) -> None:
        self._ended.set()

    def _run(self) -> None:
        known, since, began = self._beats.all(), time.monotonic(), None
        while not self._ended.wait(min(LOOK_SECONDS, self._timeout / 4)):
            now, steps = self._beats.all(), self._beats.steps()
            if now != known or None in steps:
                known, since = now, time.monotonic()
            began = steps if began is None and None not in steps else began
            patience = self._timeout * (FIRST_STEP if steps == began else 1)
            if time.monotonic() - since > patience:
                self._on_hang(self._words(patience))
                return

    def _words(self, patience: float) -> str:
        """Who hangs: workers that are stopped, else those that are behind, else all."""
        last, _ = max(self._beats.standings())
        stopped = [i for i, pid in enumerate(self._pids) if _is_stopped(pid)]
        who = stopped or self._beats.behind
        names = f"worker {', '.join(map(str, who))}" if who else "the workers"
        how = " (stopped by a signal)" if stopped else ""
        return f"{names}{how} made no step for {patience:.3g} s after step {last:,}{self._beats.told()}"


def _is_stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
    except (OSError, IndexError):
        return False
