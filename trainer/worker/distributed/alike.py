"""Has all workers hold the same tensors, of whatever type and however they lie in memory.

Backends send what lies in memory as it lies there, and know only some types: a tensor that is transposed here and not there
would come out another. So what is sent are bytes, in the order of the elements.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainer.errors import HeadwayError
from trainer.worker.distributed.ranks import Ranks

SENT = {  # types that gloo and NCCL both know
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int8, torch.uint8,
}  # fmt: skip


def as_bytes(tensor: Tensor) -> Tensor:
    """A contiguous tensor as bytes, which are sent whatever its type is."""
    return tensor.view(-1).view(torch.uint8)


@torch.no_grad()
def give(tensor: Tensor) -> None:
    """Gives the first worker's numbers to all."""
    if tensor.numel():
        numbers = tensor.detach().contiguous()
        dist.broadcast(as_bytes(numbers), 0)
        if numbers.data_ptr() != tensor.data_ptr():
            tensor.detach().copy_(numbers)


@torch.no_grad()
def begin_alike(model: nn.Module, ranks: Ranks) -> None:
    """Gives the first worker's parameters and buffers to all; they then lie in memory as its own do, too.

    Raises HeadwayError where workers have built models of other names, shapes or types.
    """
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    every = ranks.gather({name: [*_outline(tensor), list(tensor.stride())] for name, tensor in named.items()})
    for rank, theirs in enumerate(every):
        if {n: t[:-1] for n, t in theirs.items()} != {n: t[:-1] for n, t in every[0].items()}:
            odd = sorted(
                n for n in {*theirs, *every[0]} if (theirs.get(n) or [None])[:-1] != (every[0].get(n) or [None])[:-1]
            )
            raise HeadwayError(
                f"worker {rank} has built another model than worker 0: {odd[0]} differs; build the same on every worker"
            )
    for name, tensor in named.items():
        stride = every[0][name][-1]
        if list(tensor.stride()) != stride:
            tensor.data = torch.empty_strided(tensor.shape, stride, dtype=tensor.dtype, device=tensor.device).copy_(
                tensor
            )
        give(tensor)


def _outline(tensor: Tensor) -> list[Any]:
    return [list(tensor.shape), str(tensor.dtype), tensor.requires_grad]
