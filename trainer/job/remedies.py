"""What a job can change to need less memory: settings that it hasn't taken yet. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHOWN = 3


def in_words(found: list[str]) -> str:
    """The first of them, as the end of a message."""
    *others, last = found[:SHOWN]
    return f"what would help: {', '.join(others)} or {last}"


def for_module(
    config: Mapping[str, Any],
    *,
    strategy: str,
    batch_size: int,
    world_size: int,
    on_gpu: bool,
    spread_first: bool = False,
    blocks: bool = True,
) -> list[str]:
    """Of a `Module`, those first that change the least.

    strategy: the one in use. spread_first: weights, gradients and optimizer are what takes the most, not activations.
    blocks: whether the model has some whose activations could be computed again.
    """
    train = config["train"]
    parts = train["gradient_accumulation"]
    fewer, spread = [], _spread(config, strategy, world_size, on_gpu)
    if 2 * parts * world_size <= batch_size:
        fewer.append(f"train.gradient_accumulation={2 * parts}")
    if blocks and not train["activation_checkpointing"]:
        fewer.append("train.activation_checkpointing=true")
    if train["precision"] in ("fp32", "tf32") or (train["precision"] == "auto" and not on_gpu):
        fewer.append("train.precision=bf16")
    if batch_size // 2 >= parts * world_size:
        fewer.append(f"train.batch_size={batch_size // 2}")
    found = spread + fewer if spread_first else fewer[:2] + spread[:1] + fewer[2:] + spread[1:]
    return found + _workers(world_size, on_gpu) + ["a smaller model", "a device with more memory", "more nodes"]


def for_estimator(*, world_size: int, on_gpu: bool) -> list[str]:
    """Of an `Estimator`, to which most settings of `train` mean nothing."""
    return [
        *_workers(world_size, on_gpu),
        "fewer data.columns",
        "fewer rows in data.train",
        "a machine with more memory",
    ]


def _spread(config: Mapping[str, Any], strategy: str, world_size: int, on_gpu: bool) -> list[str]:
    """Less of what is there whatever the batch."""
    options, found = config["strategy"], []
    if strategy in ("single", "ddp") and world_size > 1 and config["train"]["elastic"] != "exact":
        found.append("strategy=fsdp")
    if strategy == "fsdp" and not options["reshard_after_forward"]:
        found.append("strategy.reshard_after_forward=true")
    if strategy == "fsdp" and on_gpu and not options["offload_parameters"]:
        found.append("strategy.offload_parameters=true")
    if strategy == "deepspeed" and options["stage"] < 3 and world_size > 1:
        found.append("strategy.stage=3")
    if strategy == "deepspeed" and on_gpu and not options["offload_optimizer"]:
        found.append("strategy.offload_optimizer=true")
    if config["train"]["ema"]:
        found.append("train.ema=null")
    return found


def _workers(world_size: int, on_gpu: bool) -> list[str]:
    """Those of a CPU share its memory."""
    return [] if on_gpu or world_size == 1 else [f"launcher.workers={world_size // 2}"]
