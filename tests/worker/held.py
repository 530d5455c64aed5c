"""Trains a few steps for real and tells what is then held, for tests of what is planned. Workers meet over gloo."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from trainer.algorithm import Batch, Module
from trainer.data.schema import Schema
from trainer.worker.strategy.blocks import blocks_of
from trainer.worker.strategy.replicated import Call

STEPS = 2


def held_alone(algorithm: Module, schema: Schema, batch: Batch, precision: str = "fp32") -> dict[str, int]:
    """Bytes of weights, gradients and optimizer of one worker after a few steps."""
    model = algorithm.build(schema)
    return _train(algorithm, model, Call(algorithm, model), batch, precision)


def held_by_workers(
    algorithm: Module, schema: Schema, batch: Batch, strategy: str, precision: str, folder: Path, world: int = 2
) -> list[dict[str, int]]:
    """The same of each of `world` workers under ddp or fsdp."""
    from torch.multiprocessing.spawn import spawn

    arguments = (world, algorithm, schema, batch, strategy, precision, str(folder))
    spawn(_worker, arguments, nprocs=world)
    return [torch.load(folder / f"held-{rank}.pt") for rank in range(world)]


def _worker(
    rank: int,
    world: int,
    algorithm: Module,
    schema: Schema,
    batch: Batch,
    strategy: str,
    precision: str,
    folder: str,
) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    model = algorithm.build(schema)
    loss: nn.Module = Call(algorithm, model)
    if strategy == "ddp":
        loss = DistributedDataParallel(loss, gradient_as_bucket_view=True)
    else:
        low = torch.bfloat16 if precision == "bf16" else None
        policy = MixedPrecisionPolicy(param_dtype=low)
        for block in blocks_of(model):
            fully_shard(block, mp_policy=policy, reshard_after_forward=True)
        fully_shard(model, mp_policy=policy)
        precision = "fp32"  # the policy does it, not autocast
    held = _train(algorithm, model, loss, batch, precision)
    torch.save(held, f"{folder}/held-{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def _train(algorithm: Module, model: nn.Module, loss: nn.Module, batch: Batch, precision: str) -> dict[str, int]:
    optimizer = algorithm.optimizer(model)
    for _ in range(STEPS):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            value = loss(batch)
        value.backward()
        optimizer.step()
    return {
        "weights": size([*model.parameters(), *model.buffers()]),
        "gradients": size(p.grad for p in model.parameters() if p.grad is not None),
        "optimizer": size(v for state in optimizer.state.values() for v in state.values()),
    }


def size(tensors: Iterable[Any]) -> int:
    """Bytes of the memory that tensors lie in, each piece once; of a sharded one, of this worker's shard."""
    storages: dict[int, int] = {}
    for tensor in tensors:
        if isinstance(tensor, Tensor):
            local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
            storage = local.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())
