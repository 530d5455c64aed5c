"""Finds workers that compute more slowly than the others.

In synchronous training all ranks take the same time for a step, as the fast ones wait for the slow one in the backward's
collectives. Compared is therefore what a rank does before it meets the others: it waits for its data and computes its
forward, or, where the forward itself gathers weights (`fsdp`, ZeRO's stage 3), the wait for data alone. Each rank's
seconds travel with the loss that is summed for a report, so that being looked at costs no message of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

FACTOR = 1.5  # times the median of the other ranks
BETTER = 1.25  # below this a rank that was slow is so no more
SHARE = 0.1  # of a step's time that it must cost the others
LOOK_SECONDS = 2.0
LOOK_STEPS = 10
LOOKS = 2  # in a row, before a rank is named: a busy moment is no straggler


@dataclass
class Stragglers:
    """What rank 0 knows of the ranks' paces.

    episodes: each with rank, factor, since and until: the steps after which it was found slow, and was so no more
    (None as long as it is).
    """

    local_world_size: int = 1
    episodes: list[dict[str, Any]] = field(default_factory=list)
    _own: list[float] = field(default_factory=list)
    _seconds: float = 0.0
    _steps: int = 0
    _suspected: dict[int, int] = field(default_factory=dict)

    def hear(self, step: int, own: Sequence[float], seconds: float, steps: int) -> list[str]:
        """Each rank's own seconds in the last `steps` steps, which took `seconds`. Returns what is to be said, if anything."""
        before = self._own or [0.0] * len(own)
        self._own = [a + b for a, b in zip(before, own, strict=True)]
        self._seconds += seconds
        self._steps += steps
        if len(own) < 2 or self._seconds < LOOK_SECONDS or self._steps < LOOK_STEPS:
            return []
        words = self._judge(step)
        self._own, self._seconds, self._steps = [], 0.0, 0
        return words

    def _judge(self, step: int) -> list[str]:
        words = []
        for rank, own in enumerate(self._own):
            usual = median(self._own[:rank] + self._own[rank + 1 :])
            known = next((e for e in self.episodes if e["rank"] == rank and e["until"] is None), None)
            factor = own / usual if usual else float("inf")
            slow = factor >= FACTOR and own - usual >= SHARE * self._seconds
            if known is None and slow:
                self._suspected[rank] = self._suspected.get(rank, 0) + 1
                if self._suspected[rank] == LOOKS:
                    ms = 1e3 / self._steps
                    self.episodes.append(
                        {"rank": rank, "factor": round(min(factor, 1e6), 2), "since": step, "until": None}
                    )
                    words.append(
                        f"{self._name(rank)} is slow: {own * ms:.3g} ms a step for its data and its forward, "
                        f"where the others take {usual * ms:.3g} ms and wait for it (step {step:,})"
                    )
            elif not slow:
                self._suspected.pop(rank, None)
                if known is not None and factor < BETTER:
                    known["until"] = step
                    words.append(f"{self._name(rank)} is as fast as the others again (step {step:,})")
        return words

    def _name(self, rank: int) -> str:
        several = len(self._own) > self.local_world_size
        return f"rank {rank} (node {rank // self.local_world_size})" if several else f"rank {rank}"
