"""Which rows of a table belong to training and which to validation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from trainer.data.tables.order import BLOCK, split_rows
from trainer.errors import UserError


@dataclass(frozen=True)
class Part:
    """All rows of a table of `of` rows, or one side of a split by fraction.

    Of each block of BLOCK rows exactly round(BLOCK · fraction), at least one, are held out, chosen by (seed, block):
    so the split is exact, needs no memory and is the same on every worker. The last, smaller block is rounded too.
    """

    of: int
    seed: int = 0
    fraction: float = 0.0
    held_out: bool = False

    @property
    def name(self) -> str:
        """What is kept of the split is called by."""
        return f"{self.seed}-{self.fraction}"

    @property
    def per_block(self) -> int:
        """Rows in each block but the last."""
        return self._in_block(min(BLOCK, self.of))

    @property
    def rows(self) -> int:
        whole, rest = divmod(self.of, BLOCK)
        return whole * self._in_block(BLOCK) + (self._in_block(rest) if rest else 0)

    @property
    def blocks(self) -> int:
        return -(-self.of // BLOCK)

    def local(self, block: int) -> np.ndarray | None:
        """The rows of a block that belong to it, ascending; None for all."""
        if not self.fraction:
            return None
        rows = min(BLOCK, self.of - block * BLOCK)
        return _local(self.seed, block, rows, self._taken(rows), self.held_out)

    def _taken(self, rows: int) -> int:
        taken = round(rows * self.fraction)
        if rows == BLOCK or self.of < BLOCK:
            taken = min(max(1, taken), rows - 1)
        return taken

    def _in_block(self, rows: int) -> int:
        if not self.fraction:
            return rows
        return self._taken(rows) if self.held_out else rows - self._taken(rows)


@lru_cache(maxsize=4096)
def _local(seed: int, block: int, rows: int, taken: int, held_out: bool) -> np.ndarray:
    return np.flatnonzero(split_rows(seed, block, rows, taken) == held_out).astype(np.uint16)


@dataclass(frozen=True, eq=False)
class GroupPart:
    """All rows of a table, or one side of a split that cuts no group.

    groups: int64, the group of each row, from 0. Of all groups round(groups · fraction), at least one, are held out, chosen by
    the seed. Raises UserError if that leaves none on a side.
    """

    groups: np.ndarray
    seed: int = 0
    fraction: float = 0.0
    held_out: bool = False

    def __post_init__(self) -> None:
        if self.fraction and self._count < 2:
            raise UserError(
                f"data.validation={self.fraction:g} is split off by whole groups, and all rows are of one; "
                "give data.validation a file, or null for none"
            )

    @property
    def name(self) -> str:
        return f"groups-{self.seed}-{self.fraction}"

    @property
    def rows(self) -> int:
        return int(self._sizes[self._chosen].sum())

    @property
    def blocks(self) -> int:
        return -(-len(self.groups) // BLOCK)

    def local(self, block: int) -> np.ndarray | None:
        if not self.fraction:
            return None
        return np.flatnonzero(self._chosen[self.groups[block * BLOCK : (block + 1) * BLOCK]])

    def by_group(self) -> tuple[np.ndarray, np.ndarray]:
        """int64 [rows], the table's rows group after group, and [groups + 1], where each group begins and the last one ends."""
        order = np.argsort(self.groups, kind="stable")
        sizes = self._sizes[self._chosen]
        return order[self._chosen[self.groups[order]]], np.concatenate([[0], np.cumsum(sizes)])

    @cached_property
    def _sizes(self) -> np.ndarray:
        return np.bincount(self.groups)

    @property
    def _count(self) -> int:
        return len(self._sizes)

    @cached_property
    def _chosen(self) -> np.ndarray:
        if not self.fraction:
            return np.ones(self._count, bool)
        held = min(max(1, round(self._count * self.fraction)), self._count - 1)
        return split_rows(self.seed, 0, self._count, held) == self.held_out
