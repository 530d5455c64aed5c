"""Which ranks did not arrive where the others waited for them, and where each stands.

A thread leaves a note at the store every few seconds: the last step done, and what the rank is at. One whose collective
timed out leaves another one, that it waited in vain; after a moment those without it are the ones that did not arrive.
Workers of the same node are looked up in the memory that they share with their agent.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from trainer.errors import LateWorker, LostWorker
from trainer.job import node_state
from trainer.worker.distributed.ranks import Ranks
from trainer.worker.failures.record import is_lost_peer, is_time_out

T = TypeVar("T")

NOTE_SECONDS = 5.0
GATHER_SECONDS = 3.0  # for the others to say that they waited too: they began to at about the same time
ASK_SECONDS = 2.0  # for a store that may be gone
NAMED = 8  # ranks that a line tells of, at most

Standings = dict[int, tuple[int, int]]  # by rank: the last step done, what it is at


@contextmanager
def explained(ranks: Ranks, folder: Path) -> Iterator[None]:
    """What of other ranks' making goes wrong inside, is raised as an error that says which they are and where they stand."""
    standing = Standing(ranks, folder)
    standing.start()
    try:
        yield
    except Exception as error:  # a peer that is gone shows in many forms
        better = standing.explain(error)
        if better is error:
            raise
        raise better from error
    finally:
        standing.close()


class Standing:
    """What this rank and the others tell of where they stand."""

    def __init__(self, ranks: Ranks, folder: Path) -> None:
        self._ranks, self._folder = ranks, folder
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="standing")

    def start(self) -> None:
        if self._ranks.world_size > self._ranks.local_world_size:  # else all is in the memory of one node
            self._thread.start()

    def close(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(ASK_SECONDS)

    def explain(self, error: Exception) -> Exception:
        """The error of a collective that failed as another one that says who did not arrive; any other one as it is."""
        if (
            self._ranks.world_size == 1
            or isinstance(error, LostWorker)
            or not (is_time_out(error) or is_lost_peer(error))
        ):
            return error
        late: list[int] | None = None
        if is_time_out(error):
            late = _within(ASK_SECONDS + GATHER_SECONDS, self._late)
        where = {**(_within(ASK_SECONDS, self._notes) or {}), **self._here()}
        own = self._ranks.rank
        at = node_state.standing(*where[own])
        if not is_time_out(error):
            others = told({rank: place for rank, place in where.items() if rank != own})
            return LateWorker(f"rank {own} lost another one {at}; {others}", timed_out=False)
        if late is None:
            missed = "who did not arrive is not known, as the store does not answer"
        elif not late:
            missed = "all ranks waited, so that none is to blame but what connects them"
        else:
            names = ", ".join(map(str, late[:NAMED])) + (f" and {len(late) - NAMED} more" if len(late) > NAMED else "")
            missed = f"rank {names} did not arrive"
        return LateWorker(f"a collective timed out: {missed}; {told(where, late or [])}", timed_out=True)

    def _here(self) -> Standings:
        """Those of this node."""
        first = self._ranks.rank - self._ranks.local_rank
        return {first + i: s for i, s in enumerate(node_state.standings(self._folder, self._ranks.local_world_size))}

    def _run(self) -> None:
        known = None
        with suppress(Exception):  # the store is gone: whoever works with it says so
            while not known or not self._ended.wait(NOTE_SECONDS):
                now = list(self._here()[self._ranks.rank])
                if now != known:
                    self._ranks.tell(f"stands/{self._ranks.rank}", json.dumps(now))
                known = now

    def _notes(self) -> Standings:
        """What the ranks of other nodes last told."""
        store = self._ranks.store
        found: Standings = {}
        if self._ranks.world_size == self._ranks.local_world_size:
            return found
        for rank in range(self._ranks.world_size):
            if store.check([f"stands/{rank}"]):
                step, part = json.loads(store.get(f"stands/{rank}"))
                found[rank] = (step, part)
        return found

    def _late(self) -> list[int]:
        """The ranks that have not said that they waited too."""
        store, others = self._ranks.store, set(range(self._ranks.world_size)) - {self._ranks.rank}
        store.set(f"waited/{self._ranks.rank}", "")
        end = time.monotonic() + GATHER_SECONDS
        while others and time.monotonic() < end:
            others = {rank for rank in others if not store.check([f"waited/{rank}"])}
            time.sleep(0.05)
        return sorted(others)


def told(where: Mapping[int, tuple[int, int]], first: list[int] | None = None) -> str:
    """Where ranks stand, those named first and those farthest behind before the others."""
    order = sorted(where, key=lambda rank: (rank not in (first or []), where[rank], rank))
    words = [f"rank {rank} is {node_state.standing(*where[rank])}" for rank in order[:NAMED]]
    return ", ".join(words) + (f", and {len(order) - NAMED} more" if len(order) > NAMED else "")


def _within(seconds: float, ask: Callable[[], T]) -> T | None:
    """What is asked of a store; None if it doesn't answer in time."""
    found: list[T] = []

    def run() -> None:
        with suppress(Exception):  # it is gone, which shows in many forms
            found.append(ask())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else None
