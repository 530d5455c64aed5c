"""Whether float32 tells the values of a column apart, and, where it doesn't, from which origin and in which unit it does.

A column of epoch seconds has one float32 for two minutes of them; counted from its middle it has all. What a batch
then holds is (value - origin) / unit, see `trainer.data.schema.Column`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

_SAMPLE = 1 << 16  # distinct values of a column that are looked at
_LOST = 0.01  # share of them that may fall together: continuous values do so by chance
_COARSE = 1e-2
EXACT = 2.0**53  # float64 tells all whole numbers below apart
_LARGEST, _SMALLEST = 1e30, 1e-30  # beyond these squares and products of float32 are far from reliable


@dataclass(frozen=True)
class Narrowed:
    """origin, unit: what to count a column from, and in what. distinct: of the values looked at, plain: those that float32
    tells apart as they are, left: those that it tells apart in this way."""

    origin: float = 0.0
    unit: float = 1.0
    distinct: int = 0
    plain: int = 0
    left: int = 0

    @property
    def loses(self) -> bool:
        return self.distinct - self.left > _LOST * self.distinct


@dataclass
class Watch:
    """Sees a column's values as they pass, every one for its size and ever fewer of them for what they are.

    time: they are seconds.
    """

    time: bool = False
    largest: float = 0.0
    merged: tuple[int, int] = (0, 0)  # different cells of a block, and how many float64 leaves of them
    _blocks: int = 0
    _next: int = 0
    _sample: np.ndarray = field(default_factory=lambda: np.empty(0))

    def see(self, values: np.ndarray) -> None:
        """values: float64 [n], NaN where a cell is missing."""
        if len(values):
            largest = float(np.fmax.reduce(np.abs(values)))
            self.largest = max(self.largest, largest) if largest == largest else self.largest
        if self._blocks == self._next and len(self._sample) < _SAMPLE:
            found = np.unique(values)
            self._sample = np.unique(np.concatenate([self._sample, found[~np.isnan(found)]]))[:_SAMPLE]
            self._next = 2 * self._next + 1
        self._blocks += 1

    def merges(self, different: int, values: np.ndarray) -> None:
        """Hears how many different cells a block of whole numbers beyond 2^53 has, which are these in float64."""
        left = len(np.unique(values[values == values]))
        if different - left > self.merged[0] - self.merged[1]:
            self.merged = different, left

    def verdict(self) -> Narrowed:
        """The values as they are where float32 holds them, else whatever keeps most of them apart."""
        found, (distinct, left) = self._verdict(), self.merged
        return replace(found, distinct=distinct, left=min(left, found.left)) if distinct > left else found

    def _verdict(self) -> Narrowed:
        known = self._sample
        plain = self._with(0.0, 1.0)
        if not len(known) or not (
            plain.loses or self._is_coarse() or not (self.largest == 0 or _SMALLEST <= self.largest <= _LARGEST)
        ):
            return plain
        middle = float(known[len(known) // 2])
        tries = [self._with(origin, self._unit(origin)) for origin in (middle, 0.0)]
        return replace(max(tries, key=lambda narrowed: narrowed.left), plain=plain.left)

    def _is_coarse(self) -> bool:
        """Whether a step of float32 is a good part of what the values differ in, or of a second where they are times."""
        step = self.largest * 2.0**-24
        return step > _COARSE * (1.0 if self.time else float(np.ptp(self._sample)) or np.inf)

    def _unit(self, origin: float) -> float:
        """1, or a power of two where the distances from the origin are not a float32's."""
        largest = max(float(np.abs(self._sample - origin).max()), 0.0 if origin else self.largest)
        if largest == 0 or _SMALLEST <= largest <= _LARGEST:
            return 1.0
        return 2.0 ** min(max(round(math.log2(largest)), -1000), 1000)

    def _with(self, origin: float, unit: float) -> Narrowed:
        with np.errstate(over="ignore", under="ignore"):
            narrow = ((self._sample - origin) / unit).astype(np.float32)
        left = len(np.unique(narrow[np.isfinite(narrow)]))
        return Narrowed(origin, unit, len(self._sample), left, left)


def lost_in_sparse(indices: np.ndarray, values: np.ndarray) -> list[str]:
    """A line for the column of sparse rows of which float32 loses most, where it loses much: zeros are theirs, so that they
    can't be counted from elsewhere. indices: int [n]; values: float64 [n]."""
    if not len(values):
        return []
    with np.errstate(over="ignore", under="ignore"):
        narrow = values.astype(np.float32)
    columns, places = np.unique(indices, return_inverse=True)
    distinct, left = (_distinct(places, found, len(columns)) for found in (values, narrow))
    worst = int((distinct - left).argmax())
    if distinct[worst] - left[worst] <= _LOST * distinct[worst]:
        return []
    return [
        f"column {columns[worst]}: of {distinct[worst]:,} different values 32 bits tell {left[worst]:,} apart; subtract what "
        "they share, or scale them"
    ]


def _distinct(places: np.ndarray, values: np.ndarray, columns: int) -> np.ndarray:
    """How many different values each column has."""
    order = np.lexsort((values, places))
    at, found = places[order], values[order]
    new = np.ones(len(at), bool)
    new[1:] = (at[1:] != at[:-1]) | (found[1:] != found[:-1])
    return np.bincount(at[new], minlength=columns)
