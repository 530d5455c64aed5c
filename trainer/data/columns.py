"""Turns the cells of one column into numbers: a feature's and the label's.

What a column holds is decided by its first cells that aren't missing, and later cells that don't fit are errors that
name their row, or else one typing error would turn a column of numbers into one of categories. Missing are: null and
NaN; in text formats also the empty cell, and in a column of numbers NA, N/A, null, None, NaN and ?.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from trainer.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

MOST_CATEGORIES = 1000  # a column of strings with more distinct values is text
_MOST_FLOAT_CLASSES = 20  # floats are classes if they are all whole and at most so many
_ENOUGH = 200  # distinct words tell whether a column holds numbers
_MISSING = ("", "NA", "N/A", "n/a", "nan", "NaN", "NAN", "null", "NULL", "None", "?")

At = tuple[str, int]  # a row: its file and its number there, from 0


@dataclass(frozen=True)
class Place:
    """Where the rows of a piece come from: file, number of the first, and how a person counts them."""

    path: str = ""
    first: int = 0
    row: Callable[[str, int], int] = lambda path, number: number + 1

    def at(self, i: int) -> At:
        return self.path, self.first + i

    def __call__(self, i: int) -> str:
        return where(self.at(i), self.row)


def where(at: At, row: Callable[[str, int], int]) -> str:
    """`FILE, row R`, as an error says it."""
    return f"{at[0]}, row {row(*at)}" if at[0] else f"row {row(*at)}"


@dataclass(kw_only=True)
class Feature:
    """How one column becomes float32: numbers as they are, categories as codes by first appearance, missing as NaN.

    kind: "numeric", "categorical", or None until a cell has told.
    typed: strings in it are strings; else they may spell numbers.
    frozen: no further category gets a code: it counts as missing.
    missing: the first missing cell's place; None if there is none.
    """

    name: str
    kind: str | None = None
    typed: bool = True
    frozen: bool = False
    long: bool = False  # any number of categories is meant
    categories: dict[str, int] = field(default_factory=dict)
    missing: At | None = None

    def encode(self, cells: pa.Array, place: Place) -> np.ndarray:
        """Codes or numbers, NaN for missing ones. Raises UserError for a cell that doesn't fit."""
        import pyarrow as pa

        cells = _plain(cells, self.name, place)
        if pa.types.is_null(cells.type):
            values = np.full(len(cells), np.nan)
        elif self._decide(cells) == "numeric":
            values = numbers(cells, self.name, place, self._advice())
        else:
            values = self._codes(cells, place)
        if self.missing is None and np.isnan(values).any():
            self.missing = place.at(int(np.isnan(values).argmax()))
        return values

    def _decide(self, cells: pa.Array) -> str:
        import pyarrow as pa

        if self.kind is None:
            if pa.types.is_boolean(cells.type):
                self.kind = "categorical"
            elif not pa.types.is_string(cells.type):
                self.kind = "numeric"
            else:
                share = 0.0 if self.typed else _share_of_numbers(cells)
                if share is None:
                    return "numeric"  # every cell is missing
                self.kind = "numeric" if share > 0.5 else "categorical"
        return self.kind

    def _advice(self) -> str:
        return "mend the cell" + ("" if self.frozen else f", or set data.categorical=[{self.name}]")

    def _codes(self, cells: pa.Array, place: Place) -> np.ndarray:
        import pyarrow.compute as pc

        keys = pc.dictionary_encode(_strings(cells))
        known = self.categories
        codes = np.full(len(keys.dictionary) + 1, np.nan)
        for i, word in enumerate(keys.dictionary.to_pylist()):
            if word == "":
                continue
            if word not in known and not self.frozen:
                known[word] = len(known)
                if len(known) > MOST_CATEGORIES and not self.long:
                    raise UserError(
                        f"column {self.name!r} is text (more than {MOST_CATEGORIES:,} different values, "
                        f"for example {word[:40]!r}), which only algorithms for text take; "
                        f"choose columns with data.columns=[…] or set data.categorical=[{self.name}]"
                    )
            codes[i] = known.get(word, np.nan)
        return codes[keys.indices.fill_null(len(keys.dictionary)).to_numpy(zero_copy_only=False)]


@dataclass(kw_only=True)
class Label:
    """How the label becomes float64: numbers as they are, strings as codes by first appearance.

    kind: "string", "int" or "float"; None until a cell has told.
    values: the distinct ones with the place where each was first seen; None once there are too many numbers.
    """

    name: str
    kind: str | None = None
    typed: bool = True
    values: dict[str | float, At] | None = field(default_factory=dict)

    def encode(self, cells: pa.Array, place: Place) -> np.ndarray:
        """Raises UserError for a missing label, and for a word among numbers."""
        import pyarrow as pa

        cells = _plain(cells, self.name, place)
        if self.kind is None and not pa.types.is_null(cells.type):
            text = pa.types.is_string(cells.type) or pa.types.is_boolean(cells.type)
            words = text and (self.typed or (_share_of_numbers(cells) or 0.0) <= 0.5)
            self.kind = "string" if words else "int"
        if self.kind == "string":
            return self._codes(cells, place)
        whole = pa.types.is_integer(cells.type) or (pa.types.is_string(cells.type) and _spells_integers(cells))
        values = numbers(cells, self.name, place, "mend the cell")
        if np.isnan(values).any():
            raise _no_label(place(int(np.isnan(values).argmax())), self.name)
        if not whole:
            self.kind = "float"
        self._note(values, place)
        return values

    def classes(self) -> tuple[str | int, ...]:
        """The values sorted, if they can be classes; else none."""
        if self.kind == "string":
            return tuple(sorted(str(v) for v in self.values or ()))
        if not self.values:
            return ()
        found = np.array(sorted(float(v) for v in self.values))
        if self.kind == "float" and (len(found) > _MOST_FLOAT_CLASSES or (found != np.round(found)).any()):
            return ()
        return tuple(int(v) for v in found)

    def _note(self, values: np.ndarray, place: Place) -> None:
        if self.values is None:
            return
        distinct, firsts = np.unique(values, return_index=True)
        for value, first in zip(distinct.tolist(), firsts.tolist(), strict=True):
            if value not in self.values:
                if len(self.values) >= MOST_CATEGORIES:
                    self.values = None
                    return
                self.values[value] = place.at(first)

    def _codes(self, cells: pa.Array, place: Place) -> np.ndarray:
        import pyarrow as pa
        import pyarrow.compute as pc

        strings = _strings(cells) if not pa.types.is_null(cells.type) else cells.cast(pa.string())
        empty = pc.fill_null(pc.equal(strings, ""), True).to_numpy(zero_copy_only=False)
        if empty.any():
            raise _no_label(place(int(empty.argmax())), self.name)
        keys = pc.dictionary_encode(strings)
        indices = keys.indices.to_numpy(zero_copy_only=False)
        assert self.values is not None
        for i, word in enumerate(keys.dictionary.to_pylist()):
            if word not in self.values:
                self.values[word] = place.at(int((indices == i).argmax()))
        order = {word: code for code, word in enumerate(self.values)}
        return np.array([order[w] for w in keys.dictionary.to_pylist()], dtype=np.float64)[indices]


def numbers(cells: pa.Array, name: str, place: Place, advice: str) -> np.ndarray:
    """float64, NaN for missing cells. Raises UserError for the first cell that is no finite number."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(cells.type):
        try:
            values = pc.cast(cells, pa.float64())
        except pa.ArrowInvalid:
            values = _parsed(cells, name, place, advice)
    else:
        values = pc.cast(cells, pa.float64(), safe=False)
    array = values.to_numpy(zero_copy_only=False)
    infinite = np.isinf(array)
    if infinite.any():
        at = int(infinite.argmax())
        raise _not_a_number(place(at), name, cells[at].as_py(), advice, "is not a finite number")
    return array


def _parsed(cells: pa.Array, name: str, place: Place, advice: str) -> pa.Array:
    """Strings with spaces round them, or missing ones, as float64."""
    import pyarrow as pa
    import pyarrow.compute as pc

    trimmed = _present(cells)
    try:
        return pc.cast(trimmed, pa.float64())
    except pa.ArrowInvalid:
        for at, cell in enumerate(trimmed.to_pylist()):
            if cell is not None and not _is_number(cell):
                raise _not_a_number(place(at), name, cell, advice) from None
        raise


def _present(cells: pa.Array) -> pa.Array:
    """Strings without the spaces round them, null where they say that a number is missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(cells)
    return pc.if_else(pc.is_in(trimmed, pa.array(_MISSING)), pa.scalar(None, pa.string()), trimmed)


def _is_number(cell: str) -> bool:
    """As Arrow reads numbers: Python's float would also take 1_000."""
    import pyarrow as pa

    try:
        pa.scalar(cell).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _not_a_number(place: str, name: str, cell: object, advice: str, what: str = "is not a number") -> UserError:
    return UserError(f"{place}, column {name!r}: {str(cell)[:60]!r} {what}; {advice}")


def _no_label(place: str, name: str) -> UserError:
    return UserError(f"{place}, column {name!r}: the label is missing; fill it in or take the row out")


def _plain(cells: pa.Array, name: str, place: Place) -> pa.Array:
    """Cells as numbers, booleans or strings: times are strings too. Raises UserError for nested ones."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(cells, pa.ChunkedArray):
        cells = cells.combine_chunks()
        if isinstance(cells, pa.ChunkedArray):
            cells = cells.chunk(0) if cells.num_chunks else pa.array([], cells.type)
    kind = cells.type
    if pa.types.is_dictionary(kind):
        return _plain(cells.dictionary_decode(), name, place)
    if pa.types.is_decimal(kind):
        return pc.cast(cells, pa.float64())
    if pa.types.is_temporal(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pc.cast(cells, pa.string())
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise UserError(f"{place(0)}, column {name!r}: holds {kind}, not numbers or strings; choose data.columns=[…]")
    return cells


def _strings(cells: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(cells.type):
        cells = pc.if_else(pc.is_nan(cells), pa.scalar(None, cells.type), cells)
    if pa.types.is_boolean(cells.type):
        return pc.if_else(cells, "True", "False")  # as Python and pandas write them to a csv
    return pc.utf8_trim_whitespace(pc.cast(cells, pa.string()))


def _share_of_numbers(cells: pa.Array) -> float | None:
    """The share of cells that spell a number among those that aren't missing; None if all are missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    present = pc.drop_null(_present(cells))
    if not len(present):
        return None
    with contextlib.suppress(pa.ArrowInvalid):
        pc.cast(present, pa.float64())
        return 1.0
    words = pc.value_counts(present).to_pylist()[:_ENOUGH]
    return sum(w["counts"] for w in words if _is_number(w["values"])) / sum(w["counts"] for w in words)


def _spells_integers(cells: pa.Array) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        pc.cast(pc.utf8_trim_whitespace(cells), pa.int64())
    except pa.ArrowInvalid:
        return False
    return True
