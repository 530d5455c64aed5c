"""Turns the cells of one feature column into numbers.

What a column holds is decided by its first cells that aren't missing, and later cells that don't fit are errors that
name their row, or else one typing error would turn a column of numbers into one of categories. Missing are: null and
NaN; in text formats also the empty cell, and in a column of numbers NA, N/A, null, None, NaN and ?.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from trainer.data.files import cells as cell
from trainer.data.files import spelling
from trainer.data.files.cells import At, Place
from trainer.data.files.spelling import Spelling
from trainer.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

MOST_CATEGORIES = 1000  # a column of strings with more distinct values is text
_MANY = 50  # categories; of more it is worth a line that most hold digits


@dataclass(kw_only=True)
class Feature:
    """How one column becomes a number: numbers as they are, times as seconds, categories as codes by first appearance,
    missing as NaN; then less `origin`, in `unit`s, as `trainer.data.columns.narrowing` found that float32 needs it.

    kind: "numeric", "categorical", or None until a cell has told. time: whether its numbers are times; span: whether these
    are durations or times of day, and not dates, once known.
    typed: strings in it are strings; else they may spell numbers, with this decimal mark and these thousands.
    frozen: no further category gets a code: it counts as missing, and as `unknown`.
    missing: the first missing cell's place; None if there is none.
    distinct, left: of the values looked at, and how many of them float32 tells apart; 0 if all.
    unknown, known: cells whose category training never saw, and others; unseen: the first such word.
    """

    name: str
    kind: str | None = None
    time: bool = False
    span: bool | None = None
    typed: bool = True
    decimal: str = "."
    thousands: str | None = None
    frozen: bool = False
    long: bool = False  # any number of categories is meant
    categories: dict[str, int] = field(default_factory=dict)
    missing: At | None = None
    origin: float = 0.0
    unit: float = 1.0
    distinct: int = 0
    left: int = 0
    unknown: int = 0
    known: int = 0
    unseen: str = ""

    def encode(self, cells: pa.Array, place: Place) -> np.ndarray:
        """float64: codes or numbers, NaN for missing ones. Raises UserError for a cell that doesn't fit."""
        import pyarrow as pa

        cells = cell.plain(cells, self.name, place)
        if pa.types.is_null(cells.type):
            values = np.full(len(cells), np.nan)
        elif self._decide(cells, place) == "numeric":
            values = self._numbers(cells, place)
        else:
            values = self._codes(cells, place)
        if self.missing is None and np.isnan(values).any():
            self.missing = place.at(int(np.isnan(values).argmax()))
        if self.origin or self.unit != 1:
            values = (values - self.origin) / self.unit
        return values

    def _decide(self, cells: pa.Array, place: Place) -> str:
        import pyarrow as pa

        if self.kind is not None:
            return self.kind
        if not pa.types.is_string(cells.type):
            self.time = pa.types.is_temporal(cells.type)
            self.kind = "categorical" if pa.types.is_boolean(cells.type) else "numeric"
            return self.kind
        found = cell.kind_of(cells, self.name, place, typed=self.typed, spelling=self._spelling)
        if found is None:
            return "numeric"  # every cell is missing
        self.time, self.kind = found == "times", "categorical" if found == "words" else "numeric"
        return self.kind

    def _numbers(self, cells: pa.Array, place: Place) -> np.ndarray:
        import pyarrow as pa

        if self.frozen and not self.time and pa.types.is_temporal(cells.type):
            raise UserError(f"{place(0)}, column {self.name!r}: holds times, and training had numbers there")
        if pa.types.is_temporal(cells.type) or (self.time and pa.types.is_string(cells.type)):
            self._same_times(cells, place)
            return cell.seconds(cells, self.name, place)
        return cell.numbers(cells, self.name, place, self._advice(), self._spelling)

    def _same_times(self, cells: pa.Array, place: Place) -> None:
        """Raises UserError for dates where others are durations or times of day: the seconds of both mean something else."""
        span = cell.is_span(cells)
        if None not in (span, self.span) and span != self.span:
            kinds = ("dates", "durations or times of day")
            raise UserError(
                f"{place(0)}, column {self.name!r}: holds {kinds[bool(span)]}, and {kinds[bool(self.span)]} before"
            )
        self.span = span if self.span is None else self.span

    @property
    def _spelling(self) -> Spelling:
        return Spelling(self.decimal, self.thousands)

    def _advice(self) -> str:
        return "mend the cell" + ("" if self.frozen else f", or set data.categorical=[{self.name}]")

    def _codes(self, cells: pa.Array, place: Place) -> np.ndarray:
        import pyarrow.compute as pc

        keys = pc.dictionary_encode(cell.strings(cells))
        counts = np.bincount(keys.indices.drop_null().to_numpy(zero_copy_only=False), minlength=len(keys.dictionary))
        codes = np.full(len(keys.dictionary) + 1, np.nan)
        for i, word in enumerate(keys.dictionary.to_pylist()):
            if word == "":
                continue
            code = self._code(word)
            codes[i] = np.nan if code is None else code
            if code is None:
                self.unknown, self.unseen = self.unknown + int(counts[i]), self.unseen or word
            else:
                self.known += int(counts[i])
        return codes[keys.indices.fill_null(len(keys.dictionary)).to_numpy(zero_copy_only=False)]

    def _code(self, word: str) -> int | None:
        known = self.categories
        if word in known:
            return known[word]
        if self.frozen:
            value = spelling.value(word)
            return None if value is None else self._by_value.get(value)
        known[word] = len(known)
        if len(known) > MOST_CATEGORIES and not self.long:
            raise UserError(
                f"column {self.name!r} is text (more than {MOST_CATEGORIES:,} different values, "
                f"for example {word[:40]!r}), which only algorithms for text take; "
                f"leave it out with data.drop=[{self.name}] or set data.categorical=[{self.name}]"
            )
        return known[word]

    @cached_property
    def _by_value(self) -> dict[float | int, int]:
        """The categories that spell numbers, times or truth values, by what they mean: `1.0` is `1`, and `true` is `True`."""
        found: dict[float | int, int] = {}
        doubled = set()
        for word, code in self.categories.items():
            value = spelling.value(word)
            if value is not None and found.setdefault(value, code) != code:
                doubled.add(value)  # training told them apart
        return {value: code for value, code in found.items() if value not in doubled}


def worth_a_line(features: Iterable[Feature]) -> list[str]:
    """What a person should hear of how columns were taken."""
    lines = []
    for feature in features:
        digits = [word for word in feature.categories if re.search(r"\d", word)]
        if not feature.long and len(feature.categories) > _MANY and len(digits) * 2 > len(feature.categories):
            lines.append(
                f"column {feature.name!r}: {len(feature.categories):,} different words such as {digits[0][:40]!r} are learned as "
                f"categories; data.drop=[{feature.name}] leaves it out"
            )
    return lines


def told_unknown(features: Iterable[Feature], share: float = 0.1) -> list[str]:
    """A line for each column a good part of whose categories training never saw."""
    return [
        f"column {f.name!r}: {f.unknown / (f.unknown + f.known):.0%} of the cells hold what training never saw, such as "
        f"{f.unseen[:40]!r}; they count as missing"
        for f in features
        if f.unknown > share * (f.unknown + f.known)
    ]
