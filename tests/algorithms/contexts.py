"""Contexts in which an estimator is fitted without a job, and rows for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.schema import Schema


@dataclass
class Rows:
    """Samples in memory, as an Estimator reads them."""

    x: Any
    y: np.ndarray

    def chunks(self, *, rank: int = 0, world: int = 1, rows: int = 65536) -> Iterator[tuple[Any, np.ndarray]]:
        total = self.x.shape[0]
        start, stop = total * rank // world, total * (rank + 1) // world
        for first in range(start, stop, rows):
            part = slice(first, min(first + rows, stop))
            yield self.x[part], self.y[part]


@dataclass
class Alone:
    """The context of a job with one worker. resumed: what it goes on from; saves: the folder of its checkpoints."""

    schema: Schema
    train: Any
    validation: Any = None
    stop_after: int | None = None
    resumed: Path | None = None
    saves: Path | None = None
    rank: int = 0
    world_size: int = 1
    seed: int = 7
    threads: int = 1
    test: Any = None
    reports: list[tuple[int, dict[str, float], int | None]] = field(default_factory=list)
    asked: int = 0

    def report(
        self, step: int, values: Mapping[str, float], *, total: int | None = None, epoch: float = 0.0, samples: int = 0
    ) -> None:
        self.reports.append((step, dict(values), total))

    def resume(self) -> Path | None:
        return self.resumed

    def checkpoint(self, step: int, save: Callable[[Path], None], *, last: bool = False) -> None:
        assert step == self.reports[-1][0]
        if self.saves is not None and self.rank == 0:
            self.saves.mkdir(exist_ok=True)
            save(self.saves)

    def should_stop(self) -> bool:
        self.asked += 1
        return self.stop_after is not None and self.asked >= self.stop_after

    def broadcast(self, value: Any) -> Any:
        return value

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def barrier(self) -> None:
        pass


@dataclass
class Together(Alone):
    """One of several real processes; rank 0's values travel through a queue for each of the others."""

    queues: list[Any] = field(default_factory=list)

    def broadcast(self, value: Any) -> Any:
        if self.rank:
            return self.queues[self.rank].get(timeout=60)
        for queue in self.queues[1:]:
            queue.put(value)
        return value
