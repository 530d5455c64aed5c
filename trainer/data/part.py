"""Which rows of a table belong to training and which to validation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from trainer.data.order import BLOCK, split_rows


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
