"""Measures what a step of a training needs without training: shapes go through it, and no weight is allocated."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from trainer.algorithm import Batch, Module, SparseRows
from trainer.data.schema import Schema
from trainer.errors import UserError
from trainer.process import memory
from trainer.worker.capacity.allocations import follow
from trainer.worker.capacity.footprint import Course, Estimate, Weight
from trainer.worker.monitoring import gpu_share
from trainer.worker.strategy.blocks import blocks_of, compute_again

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def device_memory(device_type: str, local_world_size: int) -> int:
    """Bytes that one worker may use: of its GPU, or of the job's share of it; or its part of the main memory that is free."""
    if device_type == "cuda":
        return gpu_share.of(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)
    return memory.free() // local_world_size


def measure(
    algorithm: Module,
    schema: Schema,
    batch: Batch,
    *,
    whole: Batch | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    parts: int = 1,
    checkpointing: bool = False,
    copies: int = 0,
) -> Estimate:
    """What a step on `batch`, one device's share and one of `parts`, needs.

    whole: the same part of the batch on a single device, if that is another. device: "cuda" or "cpu", whose kernels
    decide what is kept for the backward; without a GPU those of the CPU stand in for it. checkpointing: activations of
    repeated blocks are recomputed. copies: of the weights, that are kept beside them.
    Code that looks into tensors, which fake ones can't bear, is run for real on the CPU. Raises UserError if the model
    is too large for that.
    """
    kind = device if device == "cpu" or torch.cuda.is_available() else "cpu"
    work = partial(
        _measure,
        algorithm,
        schema,
        whole=whole,
        precision=precision,
        parts=parts,
        checkpointing=checkpointing,
        copies=copies,
    )
    with FakeTensorMode(allow_non_fake_inputs=True) as fake, torch.device(kind):
        model = algorithm.build(schema)
        size = sum(p.numel() * p.element_size() for p in model.parameters())
        try:
            return work(model, batch, kind=kind, convert=fake.from_tensor)
        except UserError:
            raise
        except Exception as error:  # a user's code may do anything with tensors, and these have no numbers
            if size * 8 > device_memory("cpu", 1):
                raise UserError(
                    f"algorithm: {type(algorithm).__name__} can't be planned, as its code looks into tensors "
                    f"({type(error).__name__}) and its {size / 1e9:.1f} GB of weights are too many to try it here"
                ) from error
    return work(algorithm.build(schema), batch, kind="cpu", convert=lambda tensor: tensor)


def _measure(
    algorithm: Module,
    schema: Schema,
    model: nn.Module,
    batch: Batch,
    *,
    whole: Batch | None,
    kind: str,
    convert: Callable[[Tensor], Tensor],
    precision: str,
    parts: int,
    checkpointing: bool,
    copies: int,
) -> Estimate:
    optimizer = algorithm.optimizer(model.train())
    buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    dtype = DTYPES.get(precision)
    runs = min(parts, 2)  # from the second part on the gradients of the one before are there

    def course(batch: Batch, *, autocast: bool, optimizer: torch.optim.Optimizer | None = None) -> Course:
        here = batch.converted(lambda tensor: convert(tensor.clone()))  # not the loader's buffer it may lie in

        def loss() -> Tensor:
            # 16 bits have the same size: one stands for both
            with torch.autocast(kind, dtype=torch.bfloat16, enabled=autocast):
                return algorithm.loss(model, here)

        return follow(model, loss, tensors(here), optimizer=optimizer, parts=runs)

    if checkpointing:
        compute_again(model)
    alone = course(whole or batch, autocast=dtype is not None, optimizer=optimizer)
    weights = weights_of(model, optimizer)
    share = alone
    if whole is not None:
        share = Course(course(batch, autocast=dtype is not None).moments, alone.scratch)
    low = share
    if dtype is not None:
        cast(model, torch.bfloat16)
        low = Course(course(batch, autocast=False).moments, share.scratch)
    return Estimate(
        weights=weights,
        whole=alone,
        share=share,
        cast=low,
        precision=precision,
        buffers=buffers,
        flops=alone.flops * parts // runs,
        parts=parts,
        copies=copies,
    )


def weights_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Weight, ...]:
    """The model's parameters, each with the optimizer state that a step has left."""
    inside = {id(p): i for i, block in enumerate(blocks_of(model)) for p in block.parameters()}
    found = []
    for p in model.parameters():
        state = [value for value in optimizer.state.get(p, {}).values() if isinstance(value, Tensor)]
        found.append(
            Weight(
                numel=p.numel(),
                rows=p.shape[0] if p.ndim else 1,
                itemsize=p.element_size(),
                trainable=p.requires_grad,
                block=inside.get(id(p), -1),
                state=sum(value.numel() * value.element_size() for value in state),
            )
        )
    return tuple(found)


def tensors(batch: Batch) -> list[Tensor]:
    x = [batch.x.indices, batch.x.values, batch.x.offsets] if isinstance(batch.x, SparseRows) else [batch.x]
    return [tensor for tensor in [*x, batch.y] if isinstance(tensor, Tensor)]


def cast(model: nn.Module, dtype: torch.dtype) -> None:
    """Makes the floating-point weights, and what the model is called with, of that type.

    Not by `Module.to`, which can't exchange fake parameters.
    """
    made: dict[int, nn.Parameter] = {}  # tied weights stay tied
    for module in model.modules():
        for name, p in list(module._parameters.items()):
            if p is not None and p.is_floating_point():
                if id(p) not in made:
                    made[id(p)] = nn.Parameter(p.detach().to(dtype), requires_grad=p.requires_grad)
                module._parameters[name] = made[id(p)]

    def lower(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(a.to(dtype) if isinstance(a, Tensor) and a.is_floating_point() else a for a in args)

    model.register_forward_pre_hook(lower)
