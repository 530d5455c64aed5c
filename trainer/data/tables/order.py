"""The order of samples: a function of (seed, epoch, position) alone, whatever the number of workers.

Rows lie in blocks. Each epoch permutes the blocks; consecutive ones form windows of about WINDOW bytes, in which the
rows are permuted. What fits one window is simply permuted. So a set larger than memory is read a window at a time, and
no number of workers, no resumption changes which rows a step learns from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

BLOCK = 4096  # rows written, read and split together
WINDOW = 256 << 20  # bytes of encoded rows shuffled together

_SPLIT, _BLOCKS, _ROWS = range(3)  # what random numbers are drawn for
_MASK = (1 << 64) - 1


def generator(*key: int) -> np.random.Generator:
    """Random numbers of their own for a key; seeds may be negative."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([k & _MASK for k in key])))


def split_rows(seed: int, block: int, rows: int, held_out: int) -> np.ndarray:
    """True for the `held_out` of a block's rows that go to validation."""
    mask = np.zeros(rows, dtype=bool)
    mask[generator(seed, _SPLIT, block).permutation(rows)[:held_out]] = True
    return mask


@dataclass(frozen=True)
class Order:
    """The order of `rows` rows that lie in blocks of `per_block` (the last may be smaller), `window` rows at a time.

    A row's id is its place in the unshuffled set.
    """

    rows: int
    seed: int
    per_block: int = BLOCK
    window: int = 1 << 62

    def epoch(self, epoch: int) -> Callable[[int, int], np.ndarray]:
        """A function of (start, stop): the int64 ids at these positions of an epoch. Quick if asked in order."""
        if self.rows <= self.window:
            order = generator(self.seed, _ROWS, epoch, 0).permutation(self.rows)
            return lambda start, stop: order[start:stop]
        return _Windows(self, epoch).ids


class _Windows:
    """The ids of one epoch, window by window; holds one window's permutation at a time."""

    def __init__(self, order: Order, epoch: int) -> None:
        self.order, self.epoch = order, epoch
        blocks = generator(order.seed, _BLOCKS, epoch).permutation(-(-order.rows // order.per_block))
        each = max(1, order.window // order.per_block)
        self.windows = [blocks[i : i + each] for i in range(0, len(blocks), each)]
        sizes = [int(self._sizes(w).sum()) for w in self.windows]
        self.starts = np.concatenate([[0], np.cumsum(sizes)])
        self.at, self.current = -1, np.empty(0, np.int64)

    def ids(self, start: int, stop: int) -> np.ndarray:
        found = []
        while start < stop:
            window = int(np.searchsorted(self.starts, start, side="right")) - 1
            begin, end = int(self.starts[window]), min(int(self.starts[window + 1]), stop)
            found.append(self._permuted(window)[start - begin : end - begin])
            start = end
        return found[0] if len(found) == 1 else np.concatenate([np.empty(0, np.int64), *found])

    def _permuted(self, window: int) -> np.ndarray:
        if window != self.at:
            blocks, each = self.windows[window], self.order.per_block
            ids = np.concatenate(
                [np.arange(b * each, b * each + n) for b, n in zip(blocks, self._sizes(blocks), strict=True)]
            )
            generator(self.order.seed, _ROWS, self.epoch, window).shuffle(ids)
            self.at, self.current = window, ids
        return self.current

    def _sizes(self, blocks: np.ndarray) -> np.ndarray:
        return np.minimum(self.order.per_block, self.order.rows - blocks * self.order.per_block)


def share(n: int, rank: int, world: int) -> tuple[int, int]:
    """Where `rank`'s part of n things begins and ends: contiguous, sizes differ by at most one, larger ones first."""
    each, more = divmod(n, world)
    start = rank * each + min(rank, more)
    return start, start + each + (rank < more)


@dataclass(slots=True)
class Steps:
    """The batches of a few consecutive steps of one worker, their rows one after the other.

    lengths: rows of each batch; sizes: those that count (0 where a row only stands in for none); total: rows of each
    whole step over all workers and parts.
    """

    ids: np.ndarray
    lengths: list[int]
    sizes: list[int]
    total: int


def plan(
    ids: Callable[[int, int], np.ndarray],
    rows: int,
    batch_size: int,
    *,
    rank: int = 0,
    world: int = 1,
    accumulate: int = 1,
    parts: int | None = None,
    start: int = 0,
    group: int = 1,
) -> Iterator[Steps]:
    """One worker's batches from step `start`, up to `group` steps at a time, the last uneven step on its own.

    Step s is the positions [s·B, (s+1)·B). Each worker takes a contiguous near-equal share of it, cut into
    `accumulate` near-equal parts. With `parts` the step itself is cut into so many near-equal parts, the same for any
    number of workers, and each worker takes a share of these, whole.
    """
    whole = rows // batch_size
    pick, lengths, sizes = _cut(batch_size, rank, world, accumulate, parts)
    for first in range(start, whole, group):
        steps = min(group, whole - first)
        taken = ids(first * batch_size, (first + steps) * batch_size)
        if len(pick) != batch_size or world > 1:
            taken = taken.reshape(steps, batch_size)[:, pick].ravel()
        yield Steps(taken, lengths * steps, sizes * steps, batch_size)
    if (rest := rows % batch_size) and start <= whole:
        pick, lengths, sizes = _cut(rest, rank, world, accumulate, parts)
        yield Steps(ids(whole * batch_size, rows)[pick], lengths, sizes, rest)


def _cut(n: int, rank: int, world: int, accumulate: int, parts: int | None) -> tuple[np.ndarray, list[int], list[int]]:
    """Which of a global batch's n rows a worker takes, in which lengths, of which sizes count."""
    if parts is None:
        start, stop = share(n, rank, world)
        runs = [share(stop - start, part, accumulate) for part in range(accumulate)]
        runs = [(start + begin, start + end) for begin, end in runs]
    else:
        runs = [share(n, part, parts) for part in range(*share(parts, rank, world))]
    sizes = [end - begin for begin, end in runs]
    pick = [np.arange(begin, end) if end > begin else np.zeros(1, np.int64) for begin, end in runs]
    return np.concatenate(pick), [max(1, s) for s in sizes], sizes
