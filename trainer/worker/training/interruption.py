"""How a worker learns that it should stop or save, and how all workers agree on the step.

A signal only sets a flag; nothing else happens in its handler. Workers without a flag pay one attribute read a step.
Once flagged, a worker counts itself in at the store and looks there every step. When all are in, rank 0 names the next
step as the last before it adds its gradient to the current one; whoever has finished the current step has therefore
seen the name, and all leave, or save, after the same step. Rank 0 also says whether there is time to save.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from trainer.job import node_state
from trainer.worker.distributed.ranks import Ranks

SAVE, LEAVE, LEAVE_UNSAVED, OUT_OF_TIME = "save", "leave", "leave unsaved", "out of time"
STOP = "stop"  # leave, and what is learned so far is the model


@dataclass(frozen=True)
class Verdict:
    """What all workers do after the step that is done: one of the words above, and why."""

    what: str
    why: str

    @property
    def leaves(self) -> bool:
        return self.what != SAVE


class Interruption:
    """Whether, and after which step, this worker leaves or saves.

    deadline: seconds of `time.monotonic()` at which training time is up, or None.
    save_seconds: how long a save takes, as far as is known; rank 0's counts.
    """

    def __init__(self, ranks: Ranks, folder: Path) -> None:
        self.deadline: float | None = None
        self.save_seconds: Callable[[], float] = lambda: 0.0
        self.noticed = False
        self._ranks, self._folder = ranks, folder
        self._signalled = False
        self._ask: node_state.Ask | None = None
        self._handled = 0  # the newest of this node's asks that was answered
        self._turn = 0
        self._counted_in = False
        self._last_step: int | None = None
        self._verdict: Verdict | None = None
        signal.signal(signal.SIGUSR1, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signalled = self.noticed = True

    def check_clock(self) -> None:
        """Notices that the training time is up. Cheap enough for every step."""
        if self.deadline is not None and time.monotonic() >= self.deadline:
            self.noticed = True

    def before(self, step: int) -> Verdict | None:
        """What happens before `step` is done, if anything. Call it on every worker before each step once `noticed`."""
        if not self._is_meant():
            return None
        if self._ranks.world_size == 1:
            return self._close(self._decide())
        store, turn = self._ranks.store, f"agree/{self._turn}"
        if not self._counted_in:
            self._counted_in = True
            store.add(f"{turn}/in", 1)
        if self._ranks.rank == 0 and self._last_step is None:
            if store.add(f"{turn}/in", 0) == self._ranks.world_size:
                self._last_step, self._verdict = step, self._decide()
                verdict = self._verdict
                store.set(f"{turn}/after", f"{step}\n{verdict.what}\n{verdict.why}")
        elif self._last_step is None and store.check([f"{turn}/after"]):
            last, what, why = store.get(f"{turn}/after").decode().split("\n", 2)
            self._last_step, self._verdict = int(last), Verdict(what, why)
        if self._last_step is not None and step > self._last_step and self._verdict:
            return self._close(self._verdict)
        return None

    def at_once(self) -> Verdict | None:
        """What happens now, if anything: for workers that meet at every step anyway. Call it on all of them at once."""
        meant = self._ranks.gather(self._is_meant())
        if not all(meant):
            return None
        verdict = self._decide()
        return self._close(Verdict(*self._ranks.broadcast([verdict.what, verdict.why])))

    def seconds_left(self) -> float | None:
        """Until this node's workers are ended whatever they do; None if nobody has set a time."""
        ask = node_state.asked(self._folder)
        return None if ask is None or ask.deadline is None else ask.deadline - time.monotonic()

    def _is_meant(self) -> bool:
        """Whether there is something to agree on: a signal that was told again is not."""
        if self._signalled:
            self._signalled = False
            ask = node_state.asked(self._folder)
            if ask is not None and ask.id > self._handled:
                self._ask = ask
        self.noticed = self._ask is not None or self._out_of_time or self._counted_in
        return self.noticed

    @property
    def _out_of_time(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def _decide(self) -> Verdict:
        ask = self._ask
        if ask is None:
            return Verdict(OUT_OF_TIME, "out of time")
        if not ask.leave:
            return Verdict(SAVE, ask.why)
        left = None if ask.deadline is None else ask.deadline - time.monotonic()
        needed = 1.5 * self.save_seconds()
        if left is not None and left < needed:
            why = f"{ask.why}; {left:.1f} s left are too few to save in about {needed:.1f} s"
            return Verdict(LEAVE_UNSAVED, why)
        return Verdict(STOP if ask.stop else LEAVE, ask.why)

    def _close(self, verdict: Verdict) -> Verdict:
        """Ends this agreement; the next one begins with nothing."""
        self._turn += 1
        if self._ask is not None and (verdict.leaves or not self._ask.leave):  # a save answers no wish to leave
            self._handled, self._ask = max(self._handled, self._ask.id), None
        self._counted_in, self._last_step, self._verdict = False, None, None
        self.noticed = self._signalled or self._ask is not None
        return verdict
