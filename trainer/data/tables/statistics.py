"""Mean, deviation and range of every column over the training rows, in one pass over the blocks, in float64.

Blocks are merged as in Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
variances" (1979), which does not cancel where the mean is large against the deviation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainer.data.tables.part import GroupPart, Part
from trainer.data.tables.sparse import fitted
from trainer.data.tables.table import SparseBlock, Table


@dataclass
class Moments:
    """Running moments of `width` columns; NaN cells are counted as missing."""

    width: int
    rows: int = 0
    count: np.ndarray = field(init=False)
    mean: np.ndarray = field(init=False)
    squares: np.ndarray = field(init=False)  # of the differences from the mean
    min: np.ndarray = field(init=False)
    max: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.count, self.mean, self.squares = (np.zeros(self.width) for _ in range(3))
        self.min, self.max = np.full(self.width, np.inf), np.full(self.width, -np.inf)

    @property
    def std(self) -> np.ndarray:
        """Of the population."""
        return np.sqrt(self.squares / np.maximum(self.count, 1))

    @property
    def missing(self) -> np.ndarray:
        return self.rows - self.count

    def to_lists(self) -> list[Any]:
        arrays = (self.count, self.mean, self.squares, self.min, self.max)
        return [self.width, self.rows, *(a.tolist() for a in arrays)]

    @classmethod
    def from_lists(cls, lists: list[Any]) -> Moments:
        moments = cls(lists[0], lists[1])
        moments.count, moments.mean, moments.squares, moments.min, moments.max = map(np.array, lists[2:])
        return moments

    def add(self, x: np.ndarray) -> None:
        """Rows [n, width]."""
        x = x.astype(np.float64)
        absent = np.isnan(x)
        self.rows += len(x)
        if absent.any():
            count = (~absent).sum(0).astype(np.float64)
            mean = np.where(absent, 0, x).sum(0) / np.maximum(count, 1)
            squares = (np.where(absent, 0, x - mean) ** 2).sum(0)
        else:
            count = np.full(self.width, float(len(x)))
            mean = x.mean(0)
            squares = ((x - mean) ** 2).sum(0)
        self.min, self.max = np.fmin(self.min, np.fmin.reduce(x)), np.fmax(self.max, np.fmax.reduce(x))
        self._merge(count, mean, squares)

    def add_sparse(self, x: SparseBlock, columns: np.ndarray) -> None:
        """Rows of a sparse block; cells that aren't there are zeros. columns: of each value."""
        rows = len(x.offsets) - 1
        values = x.values.astype(np.float64)
        present = np.bincount(columns, minlength=self.width)
        mean = np.bincount(columns, values, self.width) / rows
        squares = np.bincount(columns, (values - mean[columns]) ** 2, self.width) + (rows - present) * mean**2
        self.rows += rows
        self._merge(np.full(self.width, float(rows)), mean, squares)

    def _merge(self, count: np.ndarray, mean: np.ndarray, squares: np.ndarray) -> None:
        total = self.count + count
        share = count / np.maximum(total, 1)
        apart = mean - self.mean
        self.squares += squares + apart**2 * self.count * share
        self.mean += apart * share
        self.count = total


def measure(table: Table, part: Part | GroupPart) -> tuple[Moments, Moments | None]:
    """The moments of the features and of the label over the part's rows."""
    features = Moments(table.columns)
    label = Moments(1) if table.label else None
    for number in range(part.blocks):
        block, local = table.block(number), part.local(number)
        y = block.y if local is None or block.y is None else block.y[local]
        if isinstance(block.x, SparseBlock):
            x = block.x if local is None else block.x.rows(local)
            features.add_sparse(x, fitted(x, table.base, table.columns, table.kept).indices)
        else:
            x = block.x if local is None else block.x[local]
            if len(x):
                features.add(x)
        if label is not None and y is not None and len(y):
            label.add(y.reshape(len(y), -1)[:, :1])
    return features, label


def count_labels(table: Table, part: Part | GroupPart) -> tuple[np.ndarray, np.ndarray]:
    """The distinct encoded labels of the part's rows, sorted, and how many rows have each. For classes only."""
    found: dict[float, int] = {}
    for number in range(part.blocks):
        y, local = table.block(number).y, part.local(number)
        assert y is not None
        y = y.reshape(len(y), -1)[:, 0]
        for value, n in zip(*np.unique(y if local is None else y[local], return_counts=True), strict=True):
            found[float(value)] = found.get(float(value), 0) + int(n)
    values = sorted(found)
    return np.array(values), np.array([found[v] for v in values])
