"""`train.elastic=exact`: the same weights on any number of workers, bit for bit.

A global batch is cut into parts, as many whoever trains. A worker computes its parts one after the other, each as a
batch of its own, so that a part's gradient has the same bits wherever it is made; what is random in it is seeded by
(seed, step, part). The gradients are then added in one order, a binary tree over the part numbers:

    parts   0   1   2   3   4   5   6   7
            └─+─┘   └─+─┘   └─+─┘   └─+─┘
              └───+───┘       └───+───┘
                  └───────+───────┘

A worker adds what lies within its own parts. Of the sums that are left (one a worker if 2, 4 or 8 share 8 parts, two
where 3 do) each worker gets one segment from all, adds it in the tree's order and gives the result to all.

It costs smaller batches in more calls, up to log2(parts) gradients of memory, an exchange after the backward instead
of beside it (of an all-reduce's size where a worker has one sum), one thread a worker on CPUs and deterministic kernels
on GPUs. Other processors or another release of torch have other bits all the same.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainer.algorithm import Batch
from trainer.data.tables.order import share
from trainer.errors import UserError
from trainer.worker.distributed.alike import give
from trainer.worker.distributed.ranks import Ranks
from trainer.worker.monitoring.timing import BACKWARD, FORWARD

PARTS = 8  # of a global batch, for each part of gradient accumulation


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
    return batch.converted(_aligned)


def _aligned(tensor: Tensor) -> Tensor:
    return tensor.clone() if tensor.data_ptr() % 64 else tensor  # torch allocates at multiples of 64


def blocks(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The largest nodes of the tree that make up the parts from `start` to `stop`: (first part, how many)."""
    while start < stop:
        size = 1
        while start % (2 * size) == 0 and start + 2 * size <= stop:
            size *= 2
        yield start, size
        start += size


@dataclass
class Sum:
    """Of the `size` parts from `start` on: all gradients in one row, the losses of all parts behind them.

    views: the gradients of each parameter.
    """

    start: int
    size: int
    row: Tensor
    views: list[Tensor] = field(default_factory=list)


def merge(sums: list[Sum], *, rest: bool = False) -> list[Sum]:
    """Adds up the last sums where they are siblings in the tree, or all with `rest`. Returns those not needed any more.

    With every sum that comes, in order of their parts, the tree is gone through from the left.
    """
    spare = []
    while len(sums) > 1 and (rest or (sums[-2].size == sums[-1].size and sums[-2].start % (2 * sums[-1].size) == 0)):
        right = sums.pop()
        sums[-1].row.add_(right.row)
        sums[-1].size += right.size
        spare.append(right)
    return spare


def total(sums: Iterable[Sum]) -> Sum:
    """The sum of all parts, of the sums in order."""
    done: list[Sum] = []
    for each in sums:
        done.append(each)
        merge(done)
    merge(done, rest=True)
    return done[0]


def swap(messages: list[dist.P2POp]) -> None:
    """Sends and receives; returns once all is there."""
    for work in dist.batch_isend_irecv(messages) if messages else ():
        work.wait()


class ExactGradient:
    """The gradient of a global batch, the same bits on any number of workers.

    for i, batch in enumerate(this worker's parts of a step):
        part(batch, step, i)
    mean = combine()         the gradient is on the parameters of all workers now, and `mean` is the batch's loss

    loss: of a batch, by this worker's own model. check: called with the first loss, before its backward.
    mark: called at the end of each forward and backward.
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
        check: Callable[[Any], object] = lambda loss: None,
        mark: Callable[[int], None] = lambda part: None,
    ) -> None:
        settle(ranks.device)
        self.loss, self.model, self.ranks, self.seed, self.parts, self.check = loss, model, ranks, seed, parts, check
        self.mark = mark
        self.first, stop = share(parts, ranks.rank, ranks.world_size)
        self.count = stop - self.first  # parts of this worker, in each step
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        kinds = {p.dtype for p in self.parameters}
        if kinds != {torch.float32} and kinds != {torch.float64}:
            found = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds)) or "none"
            raise UserError(
                f"train.elastic=exact: all weights must be float32, or all float64, and there is {found}; "
                f"choose train.elastic=fast"
            )
        self.weights = sum(p.numel() for p in self.parameters)
        self.segment = -(-(self.weights + parts) // ranks.world_size)
        self._sums: list[Sum] = []  # of this step, as far as added
        self._spare: list[Sum] = []
        self._target: Sum | None = None  # that the parameters' gradients lie in
        self._result = self._make() if ranks.world_size > 1 else None
        self._inbox = torch.empty(0)  # segments of other workers' sums
        self._known: dict[int, Tensor] = {}  # shares of a batch's samples, by its size
        self._step = self._total = 0
        self._unchecked = True
        if ranks.world_size > 1:
            for tensor in [*model.parameters(), *model.buffers()]:
                give(tensor)

    def part(self, batch: Batch, step: int, i: int) -> None:
        """Adds the gradient of this worker's i-th part of a step. `step`: any number that tells steps apart."""
        part = self.first + i
        self._step, self._total = step, batch.total
        if not batch.size:
            return
        seed_by(self.seed, step, part)
        target = self._sum_for(part)
        self._aim(target)
        batch = aligned(batch)
        before = {n: t.clone() for n, t in _buffers(self.model).items()} if self._unchecked else None
        loss = self.loss(batch)
        self.mark(FORWARD)
        if before is not None:
            self._unchecked = False
            self.check(loss)
            _refuse_changed(self.model, before)
        (loss * (batch.size / batch.total)).backward()
        target.row[self.weights + part] = loss.detach()
        self.mark(BACKWARD)

    def combine(self) -> Tensor:
        """Leaves the gradient of the whole batch on the parameters. Returns its mean loss, float64, on the device."""
        self._spare += merge(self._sums, rest=self._result is None)
        result = self._result or self._sums[0]
        if self._result:
            self._exchange(result)
        self._aim(result)
        self._target = None  # whoever clears the gradients takes them away
        self._spare += self._sums
        self._sums = []
        seed_by(self.seed, self._step, self.parts)  # an optimizer that draws, draws the same everywhere
        return result.row[self.weights : self.weights + self.parts].double().dot(self._shares())

    def _sum_for(self, part: int) -> Sum:
        """Where the gradient of the next part is to be added: a sum of zeros, or that of its sibling in the tree."""
        if part % 2 and self._sums and self._sums[-1].start == part - 1:
            self._sums[-1].size = 2
            return self._sums[-1]
        self._spare += merge(self._sums)
        target = self._spare.pop() if self._spare else self._make()
        target.row.zero_()
        target.start, target.size = part, 1
        self._sums.append(target)
        return target

    def _exchange(self, result: Sum) -> None:
        """The sum over all workers: each adds up one segment of it and gives it to the others."""
        rank, world, segment = self.ranks.rank, self.ranks.world_size, self.segment
        others = [r for r in range(world) if r != rank]
        there = min(self.parts, self._total)  # parts that have a sample
        ends = [share(self.parts, r, world) for r in range(world)]
        nodes = [(r, *n) for r, (start, stop) in enumerate(ends) for n in blocks(min(start, there), min(stop, there))]
        own = [s.row.split(segment) for s in self._sums]
        room = (len(nodes) - len(own)) * segment
        if self._inbox.numel() < room:
            self._inbox = result.row.new_empty(room)
        mine, theirs = iter([row[rank] for row in own]), iter(self._inbox.split(segment))
        sums = [Sum(first, size, next(mine if r == rank else theirs)) for r, first, size in nodes]
        receives = [dist.P2POp(dist.irecv, s.row, r) for s, (r, _, _) in zip(sums, nodes, strict=True) if r != rank]
        swap([dist.P2POp(dist.isend, row[r], r) for row in own for r in others] + receives)
        segments = result.row.split(segment)
        segments[rank].copy_(total(sums).row)
        gives = [dist.P2POp(dist.isend, segments[rank], r) for r in others]
        swap(gives + [dist.P2POp(dist.irecv, segments[r], r) for r in others])

    def _shares(self) -> Tensor:
        """Of the batch's samples, for each part."""
        if self._total not in self._known:
            ends = [share(self._total, part, self.parts) for part in range(self.parts)]
            sizes = torch.tensor([stop - start for start, stop in ends], dtype=torch.float64)
            self._known[self._total] = (sizes / self._total).to(self.ranks.device)
        return self._known[self._total]

    def _make(self) -> Sum:
        row = torch.empty(
            self.ranks.world_size * self.segment, dtype=self.parameters[0].dtype, device=self.ranks.device
        )
        views = row[: self.weights].split([p.numel() for p in self.parameters])
        return Sum(0, 0, row, [view.view_as(p) for view, p in zip(views, self.parameters, strict=True)])

    def _aim(self, target: Sum) -> None:
        """From here on the parameters' gradients are those of `target`."""
        if target is not self._target:
            for parameter, view in zip(self.parameters, target.views, strict=True):
                parameter.grad = view
            self._target = target


def _buffers(model: nn.Module) -> dict[str, Tensor]:
    """The model's saved tensors that are no parameters."""
    kept = model.state_dict(keep_vars=True).items()
    return {name: t for name, t in kept if isinstance(t, Tensor) and not isinstance(t, nn.Parameter)}


def _refuse_changed(model: nn.Module, before: dict[str, Tensor]) -> None:
    """Running statistics, as batch normalisation keeps them: each worker would have its own."""
    for name, now in _buffers(model).items():
        old = before.get(name)
        if old is None or old.shape != now.shape or not bool(((old == now) | (old != old)).all()):
            module, _, buffer = name.rpartition(".")
            kind = type(model.get_submodule(module)).__name__
            raise UserError(
                f"train.elastic=exact: the model's {module or 'root'} ({kind}) changes its {buffer} with every batch "
                f"that its worker sees; normalise by layer or group, or choose train.elastic=fast"
            )
