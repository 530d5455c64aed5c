"""Turns the cells of an interval's upper bound into numbers, where the label is the lower one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trainer.data.columns.labels import Label
from trainer.data.files import cells as cell
from trainer.data.files.cells import Place
from trainer.data.files.spelling import PLAIN, Spelling
from trainer.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

_INFINITE = r"^\s*\+?(?i:inf(inity)?)\s*$"


@dataclass(kw_only=True)
class UpperBound:
    """name: the column. A missing cell, and an infinite one, is no bound: infinity."""

    name: str
    spelling: Spelling = PLAIN

    def encode(self, cells: pa.Array, place: Place, label: Label, lower: np.ndarray) -> np.ndarray:
        """float64. Raises UserError for a cell that is no number, and for one that is below the label, which is `lower`."""
        import pyarrow as pa
        import pyarrow.compute as pc

        cells = cell.plain(cells, self.name, place)
        if pa.types.is_null(cells.type):
            return np.full(len(cells), np.inf)
        if pa.types.is_string(cells.type):
            cells = pc.if_else(pc.match_substring_regex(cells, _INFINITE), None, cells)
        elif pa.types.is_floating(cells.type):
            cells = pc.if_else(pc.equal(cells, np.inf), None, cells)
        upper = cell.numbers(cells, self.name, place, "mend the cell, or leave it empty for no bound", self.spelling)
        upper = np.where(np.isnan(upper), np.inf, upper)
        if not label.coded and (upper < lower).any():
            at = int((upper < lower).argmax())
            raise UserError(
                f"{place(at)}: {lower[at]:g} in column {label.name!r} to {upper[at]:g} in {self.name!r} is no interval; "
                "the label is the lower bound"
            )
        return upper
