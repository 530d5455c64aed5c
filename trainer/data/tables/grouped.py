"""Rows that are learned from group by group: their own samples, in the order of the groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from trainer.data.files.cells import At, Place, where
from trainer.data.schema import Schema
from trainer.data.source import Source
from trainer.data.tables.order import Order
from trainer.data.tables.part import GroupPart
from trainer.data.tables.samples import Samples
from trainer.errors import UserError


class Grouped(Samples):
    """The groups of a part, one after the other, whatever lies between their rows in the file.

    base: all rows of the table. A chunk holds whole groups, and each of a worker's.
    """

    def __init__(self, base: Samples, part: GroupPart) -> None:
        super().__init__(Order(part.rows, 0, base.order.per_block, base.order.window), base.columns, base.row_bytes)
        self._base = base
        self._ids, self._starts = part.by_group()
        self.groups = len(self._starts) - 1

    def other(self, part: GroupPart) -> Grouped:
        """Another part of the same table, whose rows are held once."""
        return Grouped(self._base, part)

    def chunks(self, *, rank: int = 0, world: int = 1, rows: int = 65536) -> Iterator[tuple[Any, np.ndarray | None]]:
        for x, y, _ in self.grouped_chunks(rank=rank, world=world, rows=rows):
            yield x, y

    def grouped_chunks(
        self, *, rank: int = 0, world: int = 1, rows: int = 65536
    ) -> Iterator[tuple[Any, np.ndarray | None, np.ndarray]]:
        first, end = _share_of_groups(self._starts, rank, world)
        while first < end:
            fits = int(np.searchsorted(self._starts, self._starts[first] + rows, side="right")) - 1
            stop = min(max(fits, first + 1), end)
            x, y = self._take(np.arange(self._starts[first], self._starts[stop]))
            numbers = np.repeat(np.arange(first, stop), np.diff(self._starts[first : stop + 1]))
            yield self._numpy(x), None if y is None else y.numpy(), numbers
            first = stop

    def _group(self, batch_size: int, world: int) -> int:
        return self._base._group(batch_size, world)

    def _take(self, ids: np.ndarray) -> tuple[Any, Tensor | None]:
        return self._base._take(self._ids[ids])

    def _cut(self, x: Any, lengths: Sequence[int]) -> Iterable[Any]:
        return self._base._cut(x, lengths)

    def _numpy(self, x: Any) -> Any:
        return self._base._numpy(x)


def groups_of(
    numbers: np.ndarray | None, ungrouped: At | None, name: str | None, source: Source | None, what: str
) -> np.ndarray:
    """The groups of rows, where each has one. Raises UserError otherwise, and where no two rows are of one group.

    numbers: int64, of each row; ungrouped: the first row without one; name: of the column; source: None for rows of Python;
    what: where they are from.
    """
    if numbers is None or ungrouped is not None:
        sparse = source is not None and source.grouped
        lacks = "the line has no qid:…" if sparse else f"column {name!r}: the group is missing"
        row = Place().row if source is None else source.row
        at = where(ungrouped or ("", 0), row)
        raise UserError(f"{at}, {lacks}, within which rows are ranked; fill it in or take the row out")
    if len(numbers) > 1 and int(numbers.max()) == len(numbers) - 1:
        raise UserError(
            f"{what}: each of the {len(numbers):,} rows is a group of its own by {name!r}, so there is nothing to rank; "
            "name the column that rows of one group have alike"
        )
    return numbers


def said_of_groups(schema: Schema, group: str | None, train: Samples, validation: Samples | None) -> str:
    """What the label is, in words."""
    name = schema.label.name if schema.label else ""
    more = f", {validation.groups:,} to validate" if validation is not None else ""
    return f"{name}, ranked within {train.groups:,} group{'s' * (train.groups != 1)} by {group}{more}"


def _share_of_groups(starts: np.ndarray, rank: int, world: int) -> tuple[int, int]:
    """From which group to which `rank` takes them: contiguous, cut where the rows are shared most evenly, none without one if
    there are enough.

    starts: where each group begins, and the last one ends.
    """
    groups, edges = len(starts) - 1, [0]
    for worker in range(1, world):
        even = starts[-1] * worker / world
        after = int(np.searchsorted(starts, even))
        nearest = after - 1 if after and even - starts[after - 1] <= starts[after] - even else after
        edges.append(max(edges[-1], min(max(nearest, edges[-1] + 1), groups - (world - worker))))
    edges.append(groups)
    return edges[rank], edges[rank + 1]
