"""When a checkpoint is due: every so many steps, every so many seconds, or as often as pays.

All workers must save at the same step, and none should look at a clock or talk to the others in every step. So they
agree on the step at which they will look again (`look_at`); only there rank 0 tells the others whether to save.
"""

from __future__ import annotations

import math
import time

from trainer.worker.distributed.ranks import Ranks

NEVER = 1 << 62
SHORTEST, LONGEST = 1.0, 1800.0  # bounds of the interval that is chosen, in seconds
FIRST = 15.0  # until a save has been measured
WRITING_SHARE = 0.25  # at most this much of the time something is being written
PRIOR = 6 * 3600.0  # seconds between interruptions, as long as nothing is known


def best_interval(stall: float, writing: float, between: float) -> float:
    """Seconds between checkpoints that lose the least time.

    Young's first-order optimum √(2·C·M) (Young, 1974; Daly, 2006), C = seconds that a save costs the steps, M = seconds
    between interruptions; bounded, and long enough that writing takes no more than a quarter of the time.
    """
    young = math.sqrt(2 * max(stall, 1e-6) * between)
    return min(LONGEST, max(SHORTEST, writing / WRITING_SHARE, young))


def expected_between(running: float, interruptions: int) -> float:
    """Seconds between interruptions, from those seen in `running` seconds and one assumed in PRIOR."""
    return (PRIOR + running) / (1 + interruptions)


class Cadence:
    """The next step at which workers consider a checkpoint, and whether they then take one.

    steps: save every so many steps. seconds: save so often, or "auto". With neither, never.
    """

    def __init__(self, ranks: Ranks, *, steps: int | None = None, seconds: float | str | None = None) -> None:
        self.look_at = NEVER
        self.interval = FIRST if seconds == "auto" else seconds if isinstance(seconds, float) else 0.0
        self._ranks, self._steps, self.is_auto = ranks, steps, seconds == "auto"
        self._timed = seconds is not None
        self._began = self._looked = (0, 0.0)

    def begin(self, step: int) -> None:
        """From this step on, which is done or restored."""
        self._began = self._looked = (step, time.monotonic())
        if self._timed:
            self.look_at = step + 1
        elif self._steps:
            self.look_at = (step // self._steps + 1) * self._steps

    def due(self, step: int, busy: bool) -> bool:
        """Whether to save now, the same on all workers. `busy`: this one is still writing. Call it on all at once."""
        if self._timed:
            return self._due_by_time(step, busy)
        assert self._steps
        if any(self._ranks.gather(busy)):
            self.look_at = step + max(1, self._steps // 20)
            return False
        self.look_at = (step // self._steps + 1) * self._steps
        return True

    def adjust(self, stall: float, writing: float, running: float, interruptions: int) -> str | None:
        """Chooses the interval anew, if that is left to us. Returns a line for the log if it has changed much."""
        if not self.is_auto:
            return None
        between = expected_between(running, interruptions)
        interval = best_interval(stall, writing, between)
        changed = not 0.8 < interval / self.interval < 1.25
        self.interval = interval if changed else self.interval
        if not changed:
            return None
        return (
            f"checkpoint every {interval:.3g} s: a save keeps the steps waiting for {stall * 1000:.3g} ms and is written "
            f"in {writing:.3g} s, an interruption is expected every {between / 3600:.2g} h"
        )

    def _due_by_time(self, step: int, busy: bool) -> bool:
        now = time.monotonic()
        (began, since), (looked, last) = self._began, self._looked
        rate = max((now - last) / max(1, step - looked), 1e-9)  # seconds a step
        left = self.interval - (now - since)
        wait = min(max(1, int(left / rate)), max(1, 2 * (step - began)))
        soon = max(1, int(0.05 * self.interval / rate))
        answers = self._ranks.gather([left <= rate / 2, wait, soon, busy])
        saves, wait, soon, _ = answers[0]  # rank 0's clock counts
        self._looked = (step, now)
        if not saves:
            self.look_at = step + wait
        elif any(answer[3] for answer in answers):
            self.look_at, saves = step + soon, False
        else:
            self._began = (step, now)
            self.look_at = step + 1
        return bool(saves)
