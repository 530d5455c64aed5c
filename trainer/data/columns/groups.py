"""Of which group each row is, such as the query that documents were found by: a number for every row, kept beside the table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainer.data.files import cells as cell
from trainer.data.files.cells import At, Place

if TYPE_CHECKING:
    import pyarrow as pa

GROUPS = "groups.npy"
NONE = -1  # of a row without a group


class Groups:
    """Numbers groups from 0 in the order of their first rows. Ids are compared as they are written, whatever they spell: a
    whole number beyond 2^53 is told from its neighbour, and `7.0`, as a column with a missing cell has it, is `7`.

    name: the column. missing: the first row without a group; None if there is none. known: whether any row has one.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.missing: At | None = None
        self._numbers: dict[str, int] = {}
        self._parts: list[np.ndarray] = []

    @property
    def known(self) -> bool:
        return bool(self._numbers)

    def encode(self, cells: pa.Array, place: Place) -> None:
        """Takes up the next rows. Raises UserError for cells that are no ids."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if pa.types.is_decimal(cells.type):  # which `plain` makes float64
            cells = pc.cast(cells, pa.string())
        plain = cell.plain(cells, self.name, place)
        words = plain.cast(pa.string()) if pa.types.is_null(plain.type) else cell.strings(plain)
        words = pc.replace_substring_regex(words, r"^([-+]?\d+)\.0+$", r"\1")
        keys = pc.dictionary_encode(words)
        numbers = [self._number(word) for word in keys.dictionary.to_pylist()]
        found = np.array([*numbers, NONE], np.int64)[
            keys.indices.fill_null(len(numbers)).to_numpy(zero_copy_only=False)
        ]
        if self.missing is None and (found == NONE).any():
            self.missing = place.at(int((found == NONE).argmax()))
        self._parts.append(found)

    def _number(self, word: str) -> int:
        return self._numbers.setdefault(word, len(self._numbers)) if word else NONE

    @property
    def numbers(self) -> np.ndarray:
        """int64, of each row so far."""
        return np.concatenate([np.empty(0, np.int64), *self._parts])

    def save(self, folder: Path) -> None:
        """Writes int64 [rows]; nothing if no row has a group."""
        if self.known:
            np.save(folder / GROUPS, self.numbers)
