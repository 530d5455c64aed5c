"""The workers of a job as threads of one process: they meet as real ones do, and nothing is sent anywhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from trainer.worker.distributed.ranks import Ranks

T = TypeVar("T")
PATIENCE = 30.0  # seconds after which a worker that waits for the others takes them for lost


class Exchange:
    """Where the threads meet."""

    def __init__(self, world: int) -> None:
        self.barrier = threading.Barrier(world, timeout=PATIENCE)
        self.values: list[Any] = [None] * world
        self.meetings = 0

    def gather(self, rank: int, value: Any) -> list[Any]:
        self.values[rank] = value
        if self.barrier.wait() == 0:
            self.meetings += 1
        found = list(self.values)
        self.barrier.wait()
        return found


@dataclass
class Thread(Ranks):
    """A worker's place among threads."""

    exchange: Exchange | None = None

    def gather(self, value: Any) -> list[Any]:
        assert self.exchange
        return [json.loads(text) for text in self.exchange.gather(self.rank, json.dumps(value))]

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        assert self.exchange
        return torch.stack(self.exchange.gather(self.rank, values.clone())).sum(0)


def workers(world: int) -> list[Thread]:
    """The places of `world` workers."""
    store, exchange = dist.HashStore(), Exchange(world)
    return [Thread(rank, world, rank, world, store=store, exchange=exchange) for rank in range(world)]


def together(places: list[Thread], work: Callable[[Thread], T]) -> list[T]:
    """What each worker's `work` gives, all at once. Raises the first error."""
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def run(place: Thread) -> None:
        try:
            results[place.rank] = work(place)
        except BaseException as error:
            if not isinstance(error, threading.BrokenBarrierError):
                errors.append(error)
            if place.exchange:
                place.exchange.barrier.abort()

    threads = [threading.Thread(target=run, args=(place,), daemon=True) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE)
        assert not thread.is_alive(), "a worker hangs"
    if errors:
        raise errors[0]
    return [results[place.rank] for place in places]
