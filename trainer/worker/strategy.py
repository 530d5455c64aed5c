"""How a model is spread over the workers: `single` or `ddp`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainer.algorithm import Batch, Module
from trainer.errors import UserError
from trainer.worker.ranks import Ranks

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Loss(nn.Module):
    """An algorithm's loss as a module, so that a wrapper sees one forward and the loss sees the model itself."""

    def __init__(self, algorithm: Module, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._loss = algorithm.loss

    def forward(self, batch: Batch) -> Tensor:
        return self._loss(self.model, batch)


def choose(name: str, world_size: int) -> str:
    """The strategy to use. Raises UserError if it can't be had on so many workers."""
    if name == "auto":
        return "single" if world_size == 1 else "ddp"
    if name == "single" and world_size > 1:
        raise UserError(f"strategy: single trains with one worker, and there are {world_size}; choose strategy=ddp")
    return name


def choose_precision(name: str, device: torch.device) -> str:
    """bf16 where the device computes in it, if left to us."""
    if name != "auto":
        return name
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"


def spread(
    algorithm: Module, model: nn.Module, strategy: str, precision: str, ranks: Ranks
) -> Callable[[Batch], Tensor]:
    """The function that computes a batch's loss; its backward leaves averaged gradients on the model's parameters."""
    loss: Any
    if strategy == "ddp" and ranks.world_size > 1:
        normalised = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
        loss = DistributedDataParallel(
            Loss(algorithm, model),
            device_ids=[ranks.local_rank] if ranks.device.type == "cuda" else None,
            **_sync_buffers(normalised),
            gradient_as_bucket_view=True,
        )
    else:

        def loss(batch: Batch) -> Tensor:
            return algorithm.loss(model, batch)

    if precision == "fp32":
        return loss
    dtype = PRECISIONS[precision]

    def autocast_loss(batch: Batch) -> Tensor:
        with torch.autocast(ranks.device.type, dtype=dtype):
            return loss(batch)

    autocast_loss.no_sync = getattr(loss, "no_sync", None)  # type: ignore[attr-defined]
    return autocast_loss


def _sync_buffers(wanted: bool) -> dict[str, Any]:
    """Whether buffers are broadcast at every forward: newer torch has another name for it, and warns of the old one."""
    newer = "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters
    return {"forward_sync_buffers" if newer else "broadcast_buffers": wanted}
