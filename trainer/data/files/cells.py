"""Cells of any type that a table has, as plain ones: numbers, times, truth values or strings. Missing ones as null or NaN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trainer.data.files.spelling import MISSING, PLAIN, Spelling, duration, is_time, otherwise
from trainer.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

At = tuple[str, int]  # a row: its file and its number there, from 0
_ENOUGH = 200  # distinct words tell what a column holds


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


def plain(cells: pa.Array, name: str, place: Place) -> pa.Array:
    """Cells as numbers, times, booleans or strings. Raises UserError for nested ones and bytes that are no text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(cells, pa.ChunkedArray):
        cells = cells.combine_chunks()
        if isinstance(cells, pa.ChunkedArray):
            cells = cells.chunk(0) if cells.num_chunks else pa.array([], cells.type)
    kind = cells.type
    if pa.types.is_dictionary(kind):
        words = cells.dictionary
        if pa.types.is_string_view(words.type):  # which Arrow doesn't decode
            words = pc.cast(words, pa.string())
        return plain(words.take(cells.indices), name, place)
    if pa.types.is_decimal(kind):
        return pc.cast(cells, pa.float64())
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pc.cast(cells, pa.string())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return as_text(cells, name, place)
    if pa.types.is_nested(kind) or pa.types.is_interval(kind) or pa.types.is_binary_view(kind):
        raise UserError(f"{place(0)}, column {name!r}: holds {kind}, not numbers or strings; choose data.columns=[…]")
    return cells


def as_text(cells: pa.Array, name: str, place: Place) -> pa.Array:
    """Bytes as the text that they are in UTF-8, as writers without a type for text store it. Raises UserError for others."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return pc.cast(pc.cast(cells, pa.binary()), pa.string())
    except pa.ArrowInvalid:
        for at, cell in enumerate(cells.to_pylist()):
            if cell is not None and not _is_utf8(cell):
                raise UserError(
                    f"{place(at)}, column {name!r}: holds bytes that are no text in UTF-8; leave it out with data.drop=[{name}]"
                ) from None
        raise


def _is_utf8(cell: bytes) -> bool:
    try:
        cell.decode()
    except UnicodeDecodeError:
        return False
    return True


def strings(cells: pa.Array) -> pa.Array:
    """Plain cells as words without the spaces round them; null where one is missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(cells.type):
        cells = pc.if_else(pc.is_nan(cells), pa.scalar(None, cells.type), cells)
    if pa.types.is_boolean(cells.type):
        return pc.if_else(cells, "True", "False")  # as Python and pandas write them to a csv
    return pc.utf8_trim_whitespace(pc.cast(cells, pa.string()))


def present(cells: pa.Array) -> pa.Array:
    """Strings without the spaces round them, null where they say that a number is missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(cells)
    return pc.if_else(pc.is_in(trimmed, pa.array(MISSING)), pa.scalar(None, pa.string()), trimmed)


def kind_of(
    cells: pa.Array, name: str, place: Place, *, typed: bool, spelling: Spelling, forced: bool = False
) -> str | None:
    """What a column of strings holds: "numbers", "times" or "words"; None if every cell is missing.

    typed: strings are strings, and may be times. forced: they are words unless they spell numbers. Raises UserError for a
    column most of whose words are numbers or dates in another spelling.
    """
    numbers = 0.0 if typed else share_of_numbers(cells, spelling)
    if numbers is None:
        return None
    if numbers > 0.5:
        return "numbers"
    if not forced and (share(cells, is_time) or 0.0) > 0.5:
        return "times"
    if not typed and not forced and (problem := otherwise(name, some_words(cells), spelling)):
        raise UserError(f"{place(0)}, {problem}")
    return "words"


def different(cells: pa.Array) -> int:
    """How many different cells there are, missing ones apart."""
    import pyarrow.compute as pc

    return int(pc.count_distinct(cells).as_py())


def some_words(cells: pa.Array) -> list[str]:
    """Distinct words of a column of strings, missing ones apart, enough to tell what it holds."""
    import pyarrow.compute as pc

    return pc.unique(pc.drop_null(present(cells))).to_pylist()[:_ENOUGH]


def share(cells: pa.Array, fits: Callable[[str], bool]) -> float | None:
    """The share of the cells that fit among those that aren't missing; None if all are missing."""
    import pyarrow.compute as pc

    words = pc.value_counts(pc.drop_null(present(cells))).to_pylist()[:_ENOUGH]
    if not words:
        return None
    return sum(w["counts"] for w in words if fits(w["values"])) / sum(w["counts"] for w in words)


def share_of_numbers(cells: pa.Array, spelling: Spelling) -> float | None:
    """The share of cells that spell a number among those that aren't missing; None if all are missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if spelling.is_plain:
        found = pc.drop_null(present(cells))
        try:
            pc.cast(found, pa.float64())
            return 1.0 if len(found) else None
        except pa.ArrowInvalid:
            pass
    return share(cells, lambda word: is_number(word, spelling))


def numbers(cells: pa.Array, name: str, place: Place, advice: str, spelling: Spelling = PLAIN) -> np.ndarray:
    """float64, NaN for missing cells. Raises UserError for the first cell that is no finite number."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(cells.type):
        try:
            values = pc.cast(cells if spelling.is_plain else _respelled(present(cells), spelling), pa.float64())
        except pa.ArrowInvalid:
            values = _parsed(cells, name, place, advice, spelling)
    else:
        values = pc.cast(cells, pa.float64(), safe=False)
    array = values.to_numpy(zero_copy_only=False)
    infinite = np.isinf(array)
    if infinite.any():
        at = int(infinite.argmax())
        raise _not_a_number(place(at), name, cells[at].as_py(), advice, "is not a finite number")
    return array


def _respelled(words: pa.Array, spelling: Spelling) -> pa.Array:
    """As Arrow reads numbers. Raises ArrowInvalid if one is not in this spelling."""
    import pyarrow as pa
    import pyarrow.compute as pc

    fits = pc.match_substring_regex(words, spelling.pattern())
    if not pc.all(fits, skip_nulls=True).as_py() and pc.any(pc.invert(fits)).as_py():
        raise pa.ArrowInvalid("another spelling")
    if spelling.thousands is not None:
        words = pc.replace_substring_regex(words, spelling.groups(), "")
    return words if spelling.decimal == "." else pc.replace_substring(words, spelling.decimal, ".")


def _parsed(cells: pa.Array, name: str, place: Place, advice: str, spelling: Spelling) -> pa.Array:
    """Strings with spaces round them, or missing ones, as float64."""
    import pyarrow as pa
    import pyarrow.compute as pc

    trimmed = present(cells)
    try:
        return pc.cast(trimmed if spelling.is_plain else _respelled(trimmed, spelling), pa.float64())
    except pa.ArrowInvalid:
        for at, cell in enumerate(trimmed.to_pylist()):
            if cell is not None and not is_number(cell, spelling):
                raise _not_a_number(place(at), name, cell, advice) from None
        raise


def is_number(cell: str, spelling: Spelling) -> bool:
    """As Arrow reads numbers: Python's float would also take 1_000."""
    import pyarrow as pa

    try:
        words = pa.array([cell])
        (words if spelling.is_plain else _respelled(words, spelling)).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _not_a_number(place: str, name: str, cell: object, advice: str, what: str = "is not a number") -> UserError:
    return UserError(f"{place}, column {name!r}: {str(cell)[:60]!r} {what}; {advice}")


def seconds(cells: pa.Array, name: str, place: Place) -> np.ndarray:
    """Times as float64: seconds since 1970 in UTC, of a day's times since midnight, of durations. NaN for missing ones.

    cells: temporal, or strings as `trainer.data.files.spelling` reads times. Raises UserError for a string that is no time.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(cells.type):
        words = pc.dictionary_encode(present(cells))
        if any(duration(word) is not None for word in words.dictionary.to_pylist()[:_ENOUGH]):
            return _durations(words, name, place)
        cells = _times(cells, name, place)
    kind = cells.type
    if pa.types.is_date(kind):
        cells, kind = pc.cast(cells, pa.timestamp("s")), pa.timestamp("s")
    per_second = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[kind.unit]
    whole = pc.cast(cells, pa.int32() if pa.types.is_time32(kind) else pa.int64())
    return pc.divide(pc.cast(whole, pa.float64(), safe=False), per_second).to_numpy(zero_copy_only=False)


def is_span(cells: pa.Array) -> bool | None:
    """Whether times are durations or times of day, and not dates; None where all are missing. cells: as `seconds` takes them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(cells.type):
        return (
            None if cells.null_count == len(cells) else pa.types.is_time(cells.type) or pa.types.is_duration(cells.type)
        )
    words = pc.drop_null(present(cells))
    return duration(words[0].as_py()) is not None if len(words) else None


def _durations(words: pa.DictionaryArray, name: str, place: Place) -> np.ndarray:
    known = words.dictionary.to_pylist()
    found = [duration(word) for word in known]
    indices = words.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
    # 59:30 beside 1:02:10 is minutes and seconds, and alone it is a time of day
    short = [":" in word and word.count(":") == 1 for word in known]
    for i, word in enumerate(known):
        if found[i] is None or short[i] != short[0]:
            example = "1:02:03" if found[i] is None else f"{known[0]!r}, from which it differs in its parts"
            raise UserError(
                f"{place(int((indices == i).argmax()))}, column {name!r}: {word[:40]!r} is not a duration such as {example}; "
                f"write all as H:MM:SS, or set data.categorical=[{name}]"
            )
    return np.array([*found, np.nan], np.float64)[indices]


def _times(cells: pa.Array, name: str, place: Place) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    words = present(cells)
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.timestamp("ns"), pa.timestamp("ns", "UTC")):
        try:
            return pc.cast(words, kind)
        except pa.ArrowInvalid:
            continue
    for at, cell in enumerate(words.to_pylist()):
        if cell is not None and not _is_time(cell):
            raise UserError(
                f"{place(at)}, column {name!r}: {cell[:40]!r} is not a time such as 2024-12-31 23:59:59; mend the cell, "
                f"or set data.categorical=[{name}]"
            )
    raise UserError(
        f"{place(0)}, column {name!r}: some times have a zone and others none; write all alike, or set data.drop=[{name}]"
    )


def _is_time(word: str) -> bool:
    import pyarrow as pa

    for kind in (pa.timestamp("ns"), pa.timestamp("ns", "UTC")):
        try:
            pa.array([word]).cast(kind)
            return True
        except pa.ArrowInvalid:
            continue
    return False
