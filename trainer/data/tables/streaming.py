"""Tables larger than a window: rows gathered from memory-mapped blocks by a thread that runs ahead of the training."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from itertools import pairwise
from queue import Empty, Full, Queue
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from trainer.data.tables import order
from trainer.data.tables.order import Order, Steps
from trainer.data.tables.part import Part
from trainer.data.tables.samples import Labels, Samples
from trainer.data.tables.table import Table

T = TypeVar("T")
PIECE = 16 << 20  # bytes gathered at once: one such piece is used while the next one is made


class Streaming(Samples):
    """Rows of a memory-mapped table. Anonymous memory is a few pieces, whatever the size of the table.

    fill: float32 [columns] to put in place of missing cells, NaN where they stay; None if all stay.
    """

    def __init__(self, table: Table, part: Part, labels: Labels, fill: np.ndarray | None) -> None:
        row_bytes = table.columns * 4 + 8
        window = max(1, int(order.WINDOW / (row_bytes + 2 * 8)))  # ids are shuffled too
        super().__init__(Order(part.rows, 0, part.per_block, window), table.columns, row_bytes)
        self.table, self.part, self.labels, self.fill = table, part, labels, fill

    def _group(self, batch_size: int, world: int) -> int:
        rows = max(1, batch_size // world)
        return max(1, int(PIECE / (rows * self.row_bytes)))

    def _taken(self, steps: Iterable[Steps]) -> Iterator[tuple[Steps, Tensor, Tensor | None]]:
        return ahead(super()._taken(steps))

    def _take(self, ids: np.ndarray) -> tuple[Tensor, Tensor | None]:
        x = np.empty((len(ids), self.columns), np.float32)
        y = None if self.table.label is None else np.empty((len(ids), *self.table.label_shape))
        runs, inverse = by_block(ids, self.part)
        for number, run, rows in runs:
            block = self.table.block(number)
            # "clip" spares a check and a copy: the rows are there
            block.x.take(rows, axis=0, out=x[run], mode="clip")
            if y is not None and block.y is not None:
                block.y.take(rows, axis=0, out=y[run], mode="clip")
        x = x.take(inverse, axis=0, out=np.empty_like(x), mode="clip")
        if self.fill is not None:
            np.copyto(x, self.fill, where=np.isnan(x))
        return torch.from_numpy(x), None if y is None else torch.from_numpy(self.labels(y.take(inverse, axis=0)))


Run = tuple[int, slice, np.ndarray]  # a block, where its rows come among all, the rows


def by_block(ids: np.ndarray, part: Part) -> tuple[Iterator[Run], np.ndarray]:
    """The ids sorted by block, so that pages are read one after the other, and the way back to their order."""
    blocks, within = np.divmod(ids, part.per_block)
    if part.blocks <= 1 << 16:
        blocks = blocks.astype(np.uint16)  # sorted ten times as fast
    places = np.argsort(blocks, kind="stable")
    inverse = np.empty(len(ids), np.int64)
    inverse[places] = np.arange(len(ids))
    return _runs(blocks[places], within[places], part), inverse


def _runs(blocks: np.ndarray, within: np.ndarray, part: Part) -> Iterator[Run]:
    edges = [0, *(np.flatnonzero(blocks[1:] != blocks[:-1]) + 1).tolist(), len(blocks)]
    for start, stop in pairwise(edges):
        number, rows = int(blocks[start]), within[start:stop]
        local = part.local(number)
        yield number, slice(start, stop), rows if local is None else local[rows]


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, the next one made by a thread while one is used. Its errors are raised here."""
    queue: Queue[tuple[T | None, BaseException | None]] = Queue(maxsize=1)
    stopped = threading.Event()

    def put(item: T | None, error: BaseException | None) -> None:
        while not stopped.is_set():
            try:
                return queue.put((item, error), timeout=0.1)
            except Full:
                continue

    def run() -> None:
        try:
            for item in items:
                put(item, None)
                if stopped.is_set():
                    return
            put(None, None)
        except BaseException as error:  # whoever iterates gets it
            put(None, error)

    thread = threading.Thread(target=run, name="headway-data", daemon=True)
    thread.start()
    try:
        while True:
            try:
                item, error = queue.get(timeout=1.0)
            except Empty:
                continue
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        stopped.set()
        thread.join()
