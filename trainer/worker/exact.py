"""`train.elastic=exact`: the same weights on any number of workers, bit for bit.

A global batch is cut into parts, as many whoever trains. A worker computes its parts one after the other, each as a
batch of its own, so that a part's gradient has the same bits wherever it is made; what is random in it is seeded by
(seed, step, part). The gradients are then added in one order, a binary tree over the part numbers:

    parts   0   1   2   3   4   5   6   7
            └─+─┘   └─+─┘   └─+─┘   └─+─┘
              └───+───┘       └───+───┘
                  └───────+───────┘

A worker adds what lies wholly within its own parts. Of the sums that are left (one for each worker if 2, 4 or 8 share 8
parts, up to four elsewhere) each worker gets its segment from all others, adds it in the tree's order, and gives the
result to all. Every addition has the same operands then, wherever it is done.

What it costs: smaller batches in more calls; up to log2(parts) gradients of memory; an exchange that moves as much as
an all-reduce where a worker has one sum, but after the backward instead of beside it; one thread a worker on CPUs,
deterministic kernels on GPUs. Between machines of different processors or different releases of torch bits differ all
the same.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainer.algorithm import Batch, SparseRows
from trainer.data.order import share
from trainer.errors import UserError
from trainer.worker.ranks import Ranks

PARTS = 8  # of a global batch, for each part of gradient accumulation

T = TypeVar("T")


def parts_of(batch_size: int, accumulation: int, world: int) -> int:
    """How many parts a global batch has: as if 8 workers shared it. Raises UserError if they are too few for `world`."""
    parts = min(PARTS * accumulation, batch_size)
    if world > parts:
        raise UserError(
            f"train.elastic=exact cuts a batch of {batch_size} into {parts} parts, and {world} workers are more than "
            f"that; raise {'train.batch_size' if parts == batch_size else 'train.gradient_accumulation'}, "
            f"lower launcher.workers or choose train.elastic=fast"
        )
    return parts


def settle(device: torch.device) -> None:
    """Nothing of this process may depend on how many threads or in which order kernels run. Before a model is built."""
    if device.type == "cpu":
        torch.set_num_threads(1)
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def seed_by(*key: int) -> None:
    """Seeds every library that a training may draw from, by a key."""
    seed = int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little")
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def aligned(batch: Batch) -> Batch:
    """The batch at addresses as if it were alone: kernels may sum in another order elsewhere."""
    x, y = batch.x, batch.y
    if isinstance(x, SparseRows):
        x = SparseRows(_aligned(x.indices), _aligned(x.values), _aligned(x.offsets), x.columns)
    else:
        x = _aligned(x)
    return Batch(x, y if y is None else _aligned(y), batch.size, batch.total)


def _aligned(tensor: Tensor) -> Tensor:
    return tensor.clone() if tensor.data_ptr() % 64 else tensor  # torch allocates at multiples of 64


def blocks(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The nodes of the tree that make up the parts from `start` to `stop`: (first part, how many), powers of two."""
    while start < stop:
        size = start & -start or 1 << (stop - start).bit_length()
        while start + size > stop:
            size //= 2
        yield start, size
        start += size


def fold(nodes: list[tuple[int, int, T]], add: Callable[[T, T], T]) -> T:
    """The sum of all nodes, in order of their parts, along the tree; those of an odd rest from the right."""
    done: list[tuple[int, int, T]] = []
    for start, size, value in nodes:
        done.append((start, size, value))
        while len(done) > 1 and done[-2][1] == done[-1][1] and done[-2][0] % (2 * done[-1][1]) == 0:
            (first, half, left), (_, _, right) = done[-2:]
            done[-2:] = [(first, 2 * half, add(left, right))]
    while len(done) > 1:
        (first, half, left), (_, more, right) = done[-2:]
        done[-2:] = [(first, half + more, add(left, right))]
    return done[0][2]


@dataclass
class _Sum:
    """Gradients of all parameters in one row, the losses of all parts behind them; `views`: of each parameter."""

    row: Tensor
    views: list[Tensor]
    start: int = 0  # whose sum it is
    size: int = 0


class ExactGradient:
    """The gradient of a global batch, the same bits on any number of workers.

    for i, batch in enumerate(this worker's parts of a step):
        part(batch, step, i)
    mean = combine()         the gradient is on the parameters of all workers now, and `mean` is the batch's loss

    loss: of a batch, by this worker's own model. check: called with the first loss, before its backward.
    A parameter that no part uses has a gradient of zeros.
    """

    def __init__(
        self,
        loss: Callable[[Batch], Tensor],
        model: nn.Module,
        ranks: Ranks,
        *,
        seed: int,
        parts: int,
        check: Callable[[Any], object] | None = None,
    ) -> None:
        settle(ranks.device)
        _refuse_statistics(model)
        self.loss, self.model, self.ranks, self.seed, self.parts, self.check = loss, model, ranks, seed, parts, check
        self.first, stop = share(parts, ranks.rank, ranks.world_size)
        self.count = stop - self.first  # parts of this worker, in each step
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        kinds = {p.dtype for p in self.parameters}
        if len(kinds) != 1 or not kinds <= {torch.float32, torch.float64}:
            found = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds)) or "none"
            raise UserError(
                f"train.elastic=exact: all trained weights must be float32, or all float64, and there is {found}; "
                f"choose train.elastic=fast"
            )
        self.kind = kinds.pop()
        self.weights = sum(p.numel() for p in self.parameters)
        self.segment = -(-(self.weights + parts) // ranks.world_size)
        self._sums: list[_Sum] = []  # of this step, as far as added
        self._free: list[_Sum] = []
        self._target: _Sum | None = None  # that the parameters' gradients lie in
        self._result = self._make() if ranks.world_size > 1 else None
        self._received = torch.empty(0, dtype=self.kind, device=ranks.device)
        self._step = self._total = 0
        self._sizes: dict[int, Tensor] = {}
        self._unchecked = True
        if ranks.world_size > 1:
            for tensor in [*model.parameters(), *model.buffers()]:
                dist.broadcast(tensor.detach(), 0)

    def part(self, batch: Batch, step: int, i: int) -> None:
        """Adds the gradient of this worker's i-th part of a step. `step`: any number that tells steps apart."""
        part = self.first + i
        self._step, self._total = step, batch.total
        if not batch.size:
            return
        seed_by(self.seed, step, part)
        self._aim(self._sum_for(part))
        batch = aligned(batch)
        before = _kept_buffers(self.model) if self._unchecked else None
        loss = self.loss(batch)
        if before is not None:
            self._unchecked = False
            if self.check is not None:
                self.check(loss)
            _refuse_changed(self.model, before)
        (loss * (batch.size / batch.total)).backward()
        assert self._target is not None
        self._target.row[self.weights + part] = loss.detach()

    def combine(self) -> Tensor:
        """Leaves the gradient of the whole batch on the parameters. Returns its mean loss, float64, on the device."""
        if self._result is None:
            result = fold([(s.start, s.size, s) for s in self._sums], self._add)
        else:
            result = self._exchange()
        self._free += self._sums
        self._sums = []
        self._aim(result)
        self._target = None  # whoever clears the gradients takes them away
        seed_by(self.seed, self._step, self.parts)  # an optimizer that draws, draws the same everywhere
        losses = result.row[self.weights : self.weights + self.parts].double()
        return losses.dot(self._shares())

    def _sum_for(self, part: int) -> _Sum:
        """Where the gradient of the next part is to be added: a sum of zeros, or that of its sibling in the tree."""
        sums = self._sums
        if part % 2 and sums and sums[-1].start == part - 1:
            sums[-1].size = 2  # once the backward is through
            return sums[-1]
        while len(sums) > 1 and sums[-2].size == sums[-1].size and sums[-2].start % (2 * sums[-1].size) == 0:
            self._add(sums[-2], sums[-1])
            self._free.append(sums.pop())
        target = self._free.pop() if self._free else self._make()
        target.row.zero_()
        target.start, target.size = part, 1
        sums.append(target)
        return target

    def _exchange(self) -> _Sum:
        """The sum over all workers: each adds up one segment of it and gives it to the others."""
        result, ranks, segment = self._result, self.ranks, self.segment
        assert result is not None
        whole = fold_own(self._sums, self._add)
        there = min(self.parts, self._total)  # parts that have a sample
        nodes = [
            (owner, start, size)
            for owner in range(ranks.world_size)
            for start, size in blocks(*(min(end, there) for end in share(self.parts, owner, ranks.world_size)))
        ]
        if self._received.numel() < len(nodes) * segment:
            self._received = self._received.new_empty(len(nodes) * segment)
        places = list(self._received.split(segment))
        own = slice(ranks.rank * segment, (ranks.rank + 1) * segment)
        sends, receives, mine = [], [], iter(whole)
        for place, (owner, _, _) in zip(places, nodes, strict=False):
            if owner != ranks.rank:
                receives.append(dist.P2POp(dist.irecv, place, owner))
                continue
            row = next(mine).row
            place.copy_(row[own])
            for other in range(ranks.world_size):
                if other != ranks.rank:
                    sends.append(dist.P2POp(dist.isend, row[other * segment : (other + 1) * segment], other))
        for work in dist.batch_isend_irecv([*sends, *receives]) if sends or receives else ():
            work.wait()
        pieces = [(start, size, place) for place, (_, start, size) in zip(places, nodes, strict=False)]
        dist.all_gather_into_tensor(result.row, fold(pieces, Tensor.add_))
        return result
