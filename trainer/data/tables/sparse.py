"""Sparse tables: rows as `SparseRows`, from memory or from memory-mapped blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.algorithm import SparseRows
from trainer.data.tables import order
from trainer.data.tables.order import Order, Steps
from trainer.data.tables.part import Part
from trainer.data.tables.samples import Labels, Samples
from trainer.data.tables.streaming import PIECE, ahead, by_block
from trainer.data.tables.table import SparseBlock, Table


class Sparse(Samples):
    """Sparse rows in memory."""

    def __init__(self, rows: SparseBlock, columns: int, y: Tensor | None) -> None:
        count = len(rows.offsets) - 1
        super().__init__(Order(count, 0), columns, 12 * len(rows.values) / max(1, count))
        self.x, self.y = rows, y

    def _take(self, ids: np.ndarray) -> tuple[SparseRows, Tensor | None]:
        y = None if self.y is None else self.y.index_select(0, torch.from_numpy(ids))
        return tensors(self.x.rows(ids), self.columns), y

    def _cut(self, x: SparseRows, lengths: Sequence[int]) -> Iterable[SparseRows]:
        start = 0
        for n in lengths:
            offsets = x.offsets[start : start + n + 1]
            first, last = int(offsets[0]), int(offsets[-1])
            yield SparseRows(x.indices[first:last], x.values[first:last], offsets - first, x.columns)
            start += n

    def _numpy(self, x: SparseRows) -> Any:
        from scipy.sparse import csr_matrix

        shape = (len(x.offsets) - 1, self.columns)
        return csr_matrix((x.values.numpy(), x.indices.numpy(), x.offsets.numpy()), shape)


class SparseStreaming(Sparse):
    """Sparse rows of a memory-mapped table larger than a window."""

    def __init__(self, table: Table, part: Part, labels: Labels, columns: int) -> None:
        window = max(1, int(order.WINDOW / table.row_bytes()))
        Samples.__init__(self, Order(part.rows, 0, part.per_block, window), columns, table.row_bytes())
        self.table, self.part, self.labels = table, part, labels

    def _group(self, batch_size: int, world: int) -> int:
        return max(1, int(PIECE / (max(1, batch_size // world) * self.row_bytes)))

    def _taken(self, steps: Iterable[Steps]) -> Iterator[tuple[Steps, Any, Tensor | None]]:
        return ahead(super()._taken(steps))

    def _take(self, ids: np.ndarray) -> tuple[SparseRows, Tensor | None]:
        pieces, y = [], np.empty(len(ids))
        runs, inverse = by_block(ids, self.part)
        for number, run, rows in runs:
            block = self.table.block(number)
            pieces.append(fitted(block.x.rows(rows), self.table.base, self.columns, self.table.kept))
            if block.y is not None:
                y[run] = block.y[rows]
        gathered = joined(pieces).rows(inverse)
        y = y[inverse]
        return tensors(gathered, self.columns), torch.from_numpy(self.labels(y))


def tensors(rows: SparseBlock, columns: int) -> SparseRows:
    return SparseRows(
        torch.from_numpy(rows.indices.astype(np.int64)),
        torch.from_numpy(rows.values),
        torch.from_numpy(rows.offsets),
        columns,
    )


def fitted(rows: SparseBlock, base: int, columns: int, kept: np.ndarray | None = None) -> SparseBlock:
    """Indices that count from 0; those of columns that training never saw are dropped.

    kept: the file's indices of the columns, sorted, where they are few among very many.
    """
    if kept is None:
        indices = rows.indices - base
        keep = (indices >= 0) & (indices < columns)
    else:
        indices = np.minimum(np.searchsorted(kept, rows.indices), columns - 1).astype(rows.indices.dtype)
        keep = kept[indices] == rows.indices
    if keep.all():
        return SparseBlock(rows.offsets, indices, rows.values)
    kept = np.concatenate([[0], np.cumsum(keep)])
    return SparseBlock(kept[rows.offsets], indices[keep], rows.values[keep])


def joined(pieces: Sequence[SparseBlock]) -> SparseBlock:
    offsets = [np.zeros(1, np.int64)]
    for piece in pieces:
        offsets.append(piece.offsets[1:] + offsets[-1][-1])
    return SparseBlock(
        np.concatenate(offsets),
        np.concatenate([p.indices for p in pieces]),
        np.concatenate([p.values for p in pieces]),
    )
