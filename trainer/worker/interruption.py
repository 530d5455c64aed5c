"""How a worker learns that it should stop, and how all workers agree on the step.

A signal only sets a flag; nothing else happens in its handler. Workers without a flag pay one attribute read a step.
Once flagged, a worker counts itself in at the store and looks there every step. When all are in, rank 0 names the next
step as the last before it adds its gradient to the current one; whoever has finished the current step has therefore
seen the name, and all leave after the same step.
"""

from __future__ import annotations

import signal
import time
from types import FrameType

from trainer.worker.ranks import Ranks


class Interruption:
    """Whether, and after which step, this worker leaves.

    deadline: seconds of `time.monotonic()` at which training time is up, or None.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.deadline: float | None = None
        self.noticed = False
        self.asked = False  # by a signal, not by the clock
        self._ranks = ranks
        self._counted_in = False
        self._last_step: int | None = None
        signal.signal(signal.SIGUSR1, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.asked = self.noticed = True

    def check_clock(self) -> None:
        """Notices that the training time is up. Cheap enough for every step."""
        if self.deadline is not None and time.monotonic() >= self.deadline:
            self.noticed = True

    def leaves_before(self, step: int) -> bool:
        """Whether the job stops before `step` is done. Call it on every worker before each step once `noticed`."""
        if self._ranks.world_size == 1:
            return True
        store = self._ranks.store
        if not self._counted_in:
            self._counted_in = True
            store.add("stop/noticed", 1)
        if self._ranks.rank == 0 and self._last_step is None:
            if store.add("stop/noticed", 0) == self._ranks.world_size:
                self._last_step = step
                store.set("stop/after", str(step))
        elif self._last_step is None and store.check(["stop/after"]):
            self._last_step = int(store.get("stop/after"))
        return self._last_step is not None and step > self._last_step
