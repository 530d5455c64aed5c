"""How a model is spread over the workers: which strategy, and the training that it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from trainer.algorithm import Module
from trainer.errors import UserError
from trainer.worker.checkpointing.state import Training
from trainer.worker.distributed.ranks import Ranks
from trainer.worker.strategy import blocks
from trainer.worker.strategy.initial import Values
from trainer.worker.strategy.replicated import Replicated, Spread


def choose(name: str, world_size: int) -> str:
    """The strategy to use. Raises UserError if it can't be had on so many workers."""
    if name == "auto":
        return "single" if world_size == 1 else "ddp"
    if name == "single" and world_size > 1:
        raise UserError(f"strategy: single trains with one worker, and there are {world_size}; choose strategy=ddp")
    return name


def splits(options: Mapping[str, Any]) -> bool:
    """Whether each worker holds only a part of the parameters. options: of the strategy; its name was chosen."""
    return options["name"] == "fsdp" or (options["name"] == "deepspeed" and options["stage"] == 3)


def spread(
    algorithm: Module,
    model: nn.Module,
    training_of: Callable[[nn.Module], Training],
    ranks: Ranks,
    precision: str,
    options: Mapping[str, Any],
    train: Mapping[str, Any],
    total: int | None,
    values: Values | None = None,
) -> tuple[Training, Spread]:
    """Spreads a fresh model on its device. `training_of` makes the optimizer and what else there is of a training.

    options: of the strategy; its name is that which was chosen. total: the steps of the training, if known.
    values: those of the model's parameters, if `initial.build` has made it without; the strategy is one that `splits`.
    Raises UserError for what a strategy can't do.
    """
    name, clip = options["name"], train["gradient_clip"]
    if train["activation_checkpointing"]:
        blocks.compute_again(model)
    if train["compile"]:
        compile_in_place(model, by_block=splits(options))
    if name == "fsdp":
        from trainer.worker.strategy.fsdp import Sharded, shard

        shard(model, ranks, precision, options, values)
        training = training_of(model)
        return training, Sharded(algorithm, training, ranks, precision, clip)
    if name == "deepspeed":
        from trainer.worker.strategy.deepspeed import initialize

        return initialize(algorithm, model, training_of, ranks, precision, options, train, total, values)
    training = training_of(model)
    return training, Replicated(
        algorithm, training, ranks, precision, clip, averaged=name == "ddp" and ranks.world_size > 1
    )


def compile_in_place(model: nn.Module, *, by_block: bool) -> None:
    """`torch.compile` of the forward, block by block where a strategy works at a block's ends. Names stay."""
    import shutil

    if not torch.cuda.is_available() and not (shutil.which("g++") or shutil.which("clang++")):
        raise UserError("train.compile: there is no C++ compiler here (g++ or clang++), which torch.compile needs")
    for module in (blocks.blocks_of(model) if by_block else []) or [model]:
        module.compile()
