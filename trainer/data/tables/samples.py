"""Samples ready for a model: batches in the order of training or of the rows, and chunks for estimators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.algorithm import Batch
from trainer.data.tables.order import Order, Steps, plan, share

_GROUP_BYTES = 4 << 20  # gathered at once, then handed out as views
_GROUP_STEPS = 64

Labels = Callable[[np.ndarray], np.ndarray]


class Samples(ABC):
    """Rows of a training or validation set.

    rows: how many; columns: the width of x (for text the length of a sequence). groups: of how many groups they are, if the
    algorithm learns from groups.
    A subclass says how rows are taken by id and how a run of rows is cut into batches.
    """

    channels: Mapping[str, Path] = {}  # of data=channels, where each lies
    groups: int = 0

    def __init__(self, order: Order, columns: int, row_bytes: float) -> None:
        self.order = order
        self.rows = order.rows
        self.columns = columns
        self.row_bytes = max(1.0, row_bytes)

    def steps(self, batch_size: int) -> int:
        """Steps of an epoch, the last one may be smaller."""
        return -(-self.rows // batch_size)

    def stream(
        self,
        *,
        seed: int,
        epoch: int,
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        accumulate: int = 1,
        parts: int | None = None,
        start: int = 0,
    ) -> Iterator[Batch]:
        """One worker's batches of an epoch in its order, `accumulate` a step, from step `start`.

        batch_size: of the whole step, over all workers and parts. The order depends on (seed, epoch) alone.
        parts: cuts a step into so many batches, whatever the number of workers; a worker's are its share of them, in
        order, as many in each step (`share(parts, rank, world)` says which).
        """
        order = Order(self.rows, seed, self.order.per_block, self.order.window)
        group = self._group(batch_size, world)
        return self._batches(
            plan(
                order.epoch(epoch),
                self.rows,
                batch_size,
                rank=rank,
                world=world,
                accumulate=accumulate,
                parts=parts,
                start=start,
                group=group,
            )
        )

    def sequential(
        self, *, batch_size: int, rank: int = 0, world: int = 1, parts: int | None = None
    ) -> Iterator[Batch]:
        """The rows as they lie, each exactly once over all workers.

        Each worker takes its contiguous share of every `batch_size` rows, so all have as many batches; or, of the
        `parts` that these are cut into, its share as `stream` has it.
        """
        group = self._group(batch_size, world)
        return self._batches(plan(np.arange, self.rows, batch_size, rank=rank, world=world, parts=parts, group=group))

    def chunks(self, *, rank: int = 0, world: int = 1, rows: int = 65536) -> Iterator[tuple[Any, np.ndarray | None]]:
        """The worker's contiguous share of all rows as numpy (x float32 [n, columns] or a scipy CSR matrix, y)."""
        start, stop = share(self.rows, rank, world)
        for first in range(start, stop, rows):
            x, y = self._take(np.arange(first, min(first + rows, stop)))
            yield self._numpy(x), None if y is None else y.numpy()

    def grouped_chunks(
        self, *, rank: int = 0, world: int = 1, rows: int = 65536
    ) -> Iterator[tuple[Any, np.ndarray | None, np.ndarray]]:
        """As `chunks`, of whole groups, with the number of each row's group, ascending. A group is one worker's alone, and comes
        in one chunk, of more than `rows` if it has more."""
        raise TypeError(
            'these rows have no groups: an algorithm says that it learns from them by `needs`, with "group"'
        )

    def _group(self, batch_size: int, world: int) -> int:
        rows = max(1, batch_size // world)
        return max(1, min(_GROUP_STEPS, int(_GROUP_BYTES / (rows * self.row_bytes))))

    def _batches(self, steps: Iterable[Steps]) -> Iterator[Batch]:
        for group, x, y in self._taken(steps):
            total = group.total
            labels = repeat(None) if y is None else y.split(group.lengths)
            for part, label, size in zip(self._cut(x, group.lengths), labels, group.sizes):  # noqa: B905 - repeat has no end
                yield Batch(part, label, size, total)

    def _taken(self, steps: Iterable[Steps]) -> Iterator[tuple[Steps, Any, Tensor | None]]:
        for group in steps:
            yield (group, *self._take(group.ids))

    @abstractmethod
    def _take(self, ids: np.ndarray) -> tuple[Any, Tensor | None]:
        """x and y of these rows."""

    def _cut(self, x: Any, lengths: Sequence[int]) -> Iterable[Any]:
        return x.split(lengths)

    def _numpy(self, x: Any) -> Any:
        return x.numpy()


class InMemory(Samples):
    """A table in memory: x float32 [rows, columns], y int64 or float32 [rows] or None."""

    def __init__(self, x: Tensor, y: Tensor | None) -> None:
        row_bytes = x.element_size() * x.shape[1] + (0 if y is None else y.element_size())
        super().__init__(Order(len(x), 0), x.shape[1], row_bytes)
        self.x, self.y = x, y

    def _take(self, ids: np.ndarray) -> tuple[Tensor, Tensor | None]:
        index = torch.from_numpy(ids)
        return self.x.index_select(0, index), None if self.y is None else self.y.index_select(0, index)

    def chunks(self, *, rank: int = 0, world: int = 1, rows: int = 65536) -> Iterator[tuple[Any, np.ndarray | None]]:
        start, stop = share(self.rows, rank, world)
        for first in range(start, stop, rows):
            part = slice(first, min(first + rows, stop))
            yield self.x[part].numpy(), None if self.y is None else self.y[part].numpy()
