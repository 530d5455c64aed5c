"""`strategy=fsdp`: parameters, gradients and optimizer state split over the workers (FSDP2, torch's `fully_shard`).

A block's parameters are gathered when it computes and freed after it (arXiv:2304.11277).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard

from trainer.algorithm import Batch, Module
from trainer.job.model.weights import is_spread, local
from trainer.worker.checkpointing.state import Training
from trainer.worker.distributed.ranks import Ranks
from trainer.worker.distributed.used import Use
from trainer.worker.strategy import precision as numbers
from trainer.worker.strategy.blocks import blocks_of
from trainer.worker.strategy.initial import Values
from trainer.worker.strategy.replicated import Spread


def shard(
    model: nn.Module, ranks: Ranks, precision: str, options: Mapping[str, Any], values: Values | None = None
) -> None:
    """Splits a model, in place, block by block. Before its optimizer is made.

    values: those of its parameters, if they are on the meta device.

    In bf16 and fp16 each block is gathered in 16 bits and gradients are summed in fp32; weights stay in fp32.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")  # of names FSDP itself uses
    ranks.form_group()
    mesh = init_device_mesh(ranks.device.type, (ranks.world_size,))
    dtype = numbers.DTYPES.get(precision)
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32) if dtype else MixedPrecisionPolicy()
    offload = (
        CPUOffloadPolicy(pin_memory=ranks.device.type == "cuda") if options["offload_parameters"] else OffloadPolicy()
    )
    for p in model.parameters():
        if not p.is_contiguous():  # such as a transposed one: it can be cut in rows only as they lie
            p.data = p.data.contiguous()
    blocks = blocks_of(model)
    for block in blocks:
        fully_shard(
            block,
            mesh=mesh,
            reshard_after_forward=options["reshard_after_forward"],
            mp_policy=policy,
            offload_policy=offload,
        )
    # the root's own are needed again at once, in the backward, and by a loss that looks at weights beside the model's call
    fully_shard(model, mesh=mesh, reshard_after_forward=False, mp_policy=policy, offload_policy=offload)
    if values is not None:
        fill(model, torch.device("cpu") if options["offload_parameters"] else ranks.device, values)


@torch.no_grad()
def fill(model: nn.Module, device: torch.device, values: Values) -> None:
    """Puts this worker's shards on a device, with their values, one after the other: the first worker, which gives them
    out, has then room for the next."""
    names = {id(p): name for name, p in model.named_parameters()}

    def filled(tensor: Tensor) -> Tensor:
        if not tensor.is_meta:  # a buffer, or a tied weight once more
            return tensor
        made = torch.empty_like(tensor, device=device)
        values.scatter(names[id(tensor)], tensor.shape, local(made))
        return made

    model._apply(filled)  # as `to_empty` does, so that FSDP hears of it


class Sharded(Spread):
    """The steps of a model that `shard` has split."""

    meets_in_forward = True

    def __init__(self, algorithm: Module, training: Training, ranks: Ranks, precision: str, clip: float | None) -> None:
        super().__init__(algorithm, training, ranks, precision, clip)
        assert isinstance(training.model, FSDPModule)
        self._sharded = training.model
        self._synchronises = True
        self._learned = {name: p for name, p in training.model.named_parameters() if p.requires_grad}
        self._use = Use(self._learned, ranks)
        self._followed: set[int] = set()
        self._awaited = {
            prefix: cast(nn.Module, module).register_forward_pre_hook(partial(self._follow, prefix))
            for prefix, module in training.model.named_modules()
            if isinstance(module, FSDPModule)
        }
        if hasattr(self._sharded, "set_reduce_scatter_unused_params"):  # else torch adds up gradients of different
            self._sharded.set_reduce_scatter_unused_params(True)  # parameters where workers don't use the same

    def _follow(self, prefix: str, module: nn.Module, arguments: Any) -> None:
        """Hears, from now on, of the gradients of what has just been gathered: it is the same tensors in every step."""
        self._awaited.pop(prefix).remove()
        for name, p in module.named_parameters(prefix=prefix):
            if name in self._learned and not is_spread(p) and id(p) not in self._followed:
                self._followed.add(id(p))
                p.register_post_accumulate_grad_hook(self._use.hook(name))

    def part(self, batch: Batch, last: bool) -> Tensor:
        """Gradients of all but the last part stay here, whole."""
        if last != self._synchronises:  # it walks through all modules
            self._sharded.set_requires_gradient_sync(last)
            self._synchronises = last
        return super().part(batch, last)

    def update(self) -> None:
        for name in self._use.unused():
            self._learned[name].grad = None
        super().update()

    def refresh(self) -> None:
        """What has been gathered is of the weights before: it is freed."""
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
