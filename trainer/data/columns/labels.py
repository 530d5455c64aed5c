"""Turns the cells of the label into numbers, and says whether they are classes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from trainer.data.columns.features import MOST_CATEGORIES
from trainer.data.columns.narrowing import EXACT
from trainer.data.files import cells as cell
from trainer.data.files.cells import At, Place
from trainer.data.files.spelling import Spelling
from trainer.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

_FEW = 20  # whole numbers, at most so many different ones, are classes if most occur more than once
_SHARE = 0.05  # more of them are if they are 0, 1, 2, … without a gap, and so few among the rows


@dataclass(kw_only=True)
class Label:
    """How the label becomes float64: numbers as they are, times as seconds, strings as codes by first appearance, and so
    numbers beyond 2^53 that may be classes.

    kind: "string", "int", "float", or "id" for such numbers; None until a cell has told.
    values: the distinct ones with the place where each was first seen; None once there are too many numbers.
    rows: encoded so far. forced: classes, whatever it looks like. beyond: whether a number is beyond 2^53.
    origin: what float32 must be counted from; see `trainer.data.columns.narrowing`.
    """

    name: str
    kind: str | None = None
    time: bool = False
    typed: bool = True
    decimal: str = "."
    thousands: str | None = None
    forced: bool = False
    values: dict[str | float | int, At] | None = field(default_factory=dict)
    rows: int = 0
    beyond: bool = False
    origin: float = 0.0
    distinct: int = 0  # of the values looked at, and how many float32 leaves
    left: int = 0

    @property
    def coded(self) -> bool:
        """Whether what is kept are positions among the values."""
        return self.kind in ("string", "id")

    def encode(self, cells: pa.Array, place: Place) -> np.ndarray:
        """Raises UserError for a missing label, and for a word among numbers."""
        import pyarrow as pa

        cells = cell.plain(cells, self.name, place)
        self.rows += len(cells)
        if self.kind is None and not pa.types.is_null(cells.type):
            self._decide(cells, place)
        if self.coded:
            return self._codes(cells, place)
        text = pa.types.is_string(cells.type)
        if self.time or pa.types.is_temporal(cells.type):
            values, whole = cell.seconds(cells, self.name, place), False
        else:
            whole = pa.types.is_integer(cells.type) or (text and _spells_integers(cells))
            values = cell.numbers(cells, self.name, place, "mend the cell", self._spelling)
        if np.isnan(values).any():
            raise _no_label(place(int(np.isnan(values).argmax())), self.name)
        if not whole:
            self.kind = "float"
        if whole and len(values) and float(np.abs(values).max()) >= EXACT:
            self.beyond = True
            self._note_exactly(cells, place)
        else:
            self._note(values, place)
        return values

    def _decide(self, cells: pa.Array, place: Place) -> None:
        import pyarrow as pa

        if not pa.types.is_string(cells.type):
            self.kind = "string" if pa.types.is_boolean(cells.type) else "int"
            self.time = pa.types.is_temporal(cells.type)
            return
        found = cell.kind_of(cells, self.name, place, typed=self.typed, spelling=self._spelling, forced=self.forced)
        self.time, self.kind = found == "times", "int" if found in ("numbers", "times") else "string"

    @property
    def _spelling(self) -> Spelling:
        return Spelling(self.decimal, self.thousands)

    def candidates(self) -> tuple[str | int, ...]:
        """The values sorted, if they could be classes at all: words, or not too many whole numbers."""
        if self.kind == "string":
            return tuple(sorted(str(v) for v in self.values or ()))
        if not self.values or any(v != int(v) for v in self.values):
            return ()
        return tuple(sorted(int(v) for v in self.values))

    def classes(self) -> tuple[str | int, ...]:
        """The values sorted, if they are taken for classes; else none.

        Words are. Whole numbers are if they are few and most occur more than once, or are 0, 1, 2, … (or from 1) without a
        gap and few among the rows: a price of 99 different whole numbers is a number.
        """
        found = self.candidates()
        if self.kind == "string" or self.forced or len(found) <= 2:
            return found
        if len(found) <= _FEW:
            return found if len(found) * 2 <= self.rows else ()
        numbered = int(found[0]) in (0, 1) and int(found[-1]) - int(found[0]) == len(found) - 1
        return found if self.kind != "float" and numbered and len(found) <= _SHARE * self.rows else ()

    def _note(self, values: np.ndarray, place: Place) -> None:
        if self.values is None:
            return
        distinct, firsts = np.unique(values, return_index=True)
        for value, first in zip(distinct.tolist(), firsts.tolist(), strict=True):
            self._seen(value, place.at(first))
            if self.values is None:
                return

    def _note_exactly(self, cells: pa.Array, place: Place) -> None:
        import pyarrow.compute as pc

        words = pc.dictionary_encode(cell.strings(cells))
        indices = words.indices.to_numpy(zero_copy_only=False)
        for i, word in enumerate(words.dictionary.to_pylist()):
            if self.values is None:
                return
            self._seen(int(word), place.at(int((indices == i).argmax())))

    def _seen(self, value: float | int, at: At) -> None:
        assert self.values is not None
        if value not in self.values:
            self.values[value] = at
            if len(self.values) > MOST_CATEGORIES and not self.forced:
                self.values = None

    def _codes(self, cells: pa.Array, place: Place) -> np.ndarray:
        import pyarrow as pa
        import pyarrow.compute as pc

        strings = cell.strings(cells) if not pa.types.is_null(cells.type) else cells.cast(pa.string())
        empty = pc.fill_null(pc.equal(strings, ""), True).to_numpy(zero_copy_only=False)
        if empty.any():
            raise _no_label(place(int(empty.argmax())), self.name)
        keys = pc.dictionary_encode(strings)
        indices = keys.indices.to_numpy(zero_copy_only=False)
        assert self.values is not None
        words = [self._value(w, place, indices, i) for i, w in enumerate(keys.dictionary.to_pylist())]
        for i, word in enumerate(words):
            if word not in self.values:
                self.values[word] = place.at(int((indices == i).argmax()))
        order = {word: code for code, word in enumerate(self.values)}
        return np.array([order[w] for w in words], dtype=np.float64)[indices]

    def _value(self, word: str, place: Place, indices: np.ndarray, i: int) -> str | int:
        if self.kind == "string":
            return word
        if not re.fullmatch(r"[-+]?\d+", word):
            raise UserError(
                f"{place(int((indices == i).argmax()))}, column {self.name!r}: {word[:60]!r} is not a number; mend the cell"
            )
        return int(word)


def _no_label(place: str, name: str) -> UserError:
    return UserError(f"{place}, column {name!r}: the label is missing; fill it in or take the row out")


def _spells_integers(cells: pa.Array) -> bool:
    import pyarrow.compute as pc

    return bool(pc.all(pc.match_substring_regex(cells, r"^\s*[-+]?\d+\s*$")).as_py())
