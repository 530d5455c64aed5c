"""Which bytes are alive while a model computes: every tensor that an operation makes is counted until it is freed.

Tensors may be real, or fake ones (torch's FakeTensorMode), which have shapes and no memory. Operations are counted too.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from trainer.worker.capacity.footprint import Course


def _attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))


def _attention_backward(gradient: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return int(sdpa_backward_flop_count(gradient.shape, query.shape, key.shape, value.shape))


# torch counts matrix products, convolutions and the GPU's kernels of attention, but not the CPU's
FLOPS = {
    **flop_registry,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


class Allocations(TorchDispatchMode):
    """Counts the bytes of storages made while it is on; a storage is counted once, whatever views there are of it.

    known: tensors that are there already and don't count. live: bytes now. peak: the most so far.
    moments: the most of other bytes beside each number of bytes of gradients. flops: floating-point operations so far.
    torch's FlopCounterMode is not used, as it keeps outputs of modules alive.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.live = self.peak = self.gradients = self.flops = 0
        self.moments: dict[int, int] = {0: 0}
        self._seen = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = FLOPS.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.layout == torch.strided:
                self.add(leaf)
        self._note()
        return out

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._freed, key, size)

    def finish(self, parameter: Tensor) -> None:
        """A gradient is complete; the next part of a batch adds to it."""
        if parameter.grad is not None:
            self.gradients += parameter.grad.untyped_storage().nbytes()
            self._note()

    def _freed(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live -= size

    def _note(self) -> None:
        others = self.live - self.gradients
        self.moments[self.gradients] = max(others, self.moments.get(self.gradients, 0))


def follow(
    model: nn.Module,
    loss: Callable[[], Tensor],
    inputs: Iterable[Tensor],
    *,
    optimizer: torch.optim.Optimizer | None = None,
    parts: int = 1,
) -> Course:
    """The course of a step: a forward and a backward for each of `parts`, then the optimizer's step if there is one.

    loss: computes the loss of a part. inputs: what the batch holds. The model's gradients are dropped at the end.
    """
    count = Allocations([*model.parameters(), *model.buffers()])
    for tensor in inputs:
        count.add(tensor)
    done: set[int] = set()

    def finish(parameter: Tensor) -> None:
        if id(parameter) not in done:
            done.add(id(parameter))
            count.finish(parameter)

    hooks = [p.register_post_accumulate_grad_hook(finish) for p in model.parameters() if p.requires_grad]
    try:
        with count:
            for _ in range(parts):
                loss().backward()
            course = tuple((others, gradients) for gradients, others in sorted(count.moments.items()))
            count.peak = count.live
            if optimizer is not None:
                optimizer.step()
            scratch = count.peak - count.live
    finally:
        for hook in hooks:
            hook.remove()
        for parameter in model.parameters():
            parameter.grad = None
    return Course(course, scratch, count.flops)
