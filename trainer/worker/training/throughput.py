"""What a worker tells of its pace when a report is made, and what rank 0 makes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trainer.worker.monitoring.timing import BACKWARD, DATA, FORWARD, by_name
from trainer.worker.strategy.replicated import Spread
from trainer.worker.training.session import Session


class Pace:
    """One worker's, from report to report."""

    def __init__(self, session: Session, spread: Spread) -> None:
        self._session, self._spread = session, spread
        self._own, self._backward, self._steps, self._time = 0.0, 0.0, 0, time.perf_counter()
        spread.mark = session.laps.mark

    def own(self) -> list[float]:
        """For each rank a number, all but this one's 0: the seconds since the last report in which it waited for nobody.

        Their sums over the ranks tell everybody all of them.
        """
        laps, ranks = self._session.laps, self._session.ranks
        laps.read()
        before, backward = self._own, self._backward
        self._backward = laps.of(BACKWARD)
        if share := self._spread.waited():
            laps.waited += share * max(0.0, self._backward - backward)
        self._own = laps.seconds[DATA] + (0.0 if self._spread.meets_in_forward else laps.of(FORWARD))
        numbers = [0.0] * ranks.world_size
        numbers[ranks.rank] = max(0.0, self._own - before)
        return numbers if ranks.world_size > 1 else []

    def hear(self, step: int, paces: Sequence[float]) -> None:
        """Every rank's seconds, on all of them."""
        laps, now = self._session.laps, time.perf_counter()
        if self._session.ranks.rank == 0 and paces:
            for words in self._session.stragglers.hear(step, paces, now - self._time, laps.steps - self._steps):
                print(words, flush=True)
        self._steps, self._time = laps.steps, now


def told(session: Session, spread: Spread, earlier: Mapping[str, Any]) -> Callable[[float], dict[str, Any]]:
    """What progress.json, and so result.json, says of times: those of this session and of the ones before it.

    The function is given the seconds of this session. communication_within: that what passes between the workers in
    their steps is counted as part of forward, backward and optimizer, as nothing cheap can tell it from them.
    """
    before, found = dict(earlier.get("split") or {}), list(earlier.get("stragglers") or [])

    def now(seconds: float) -> dict[str, Any]:
        split = by_name(session.laps.split(), seconds, before)
        return {
            "split": split,
            "communication_within": session.ranks.world_size > 1 and not spread.tells_waits,
            "stragglers": [*found, *session.stragglers.episodes],
        }

    return now
