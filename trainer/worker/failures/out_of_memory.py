"""A worker that runs out of memory, told in one line: what was held, of how much, and settings that would help."""

from __future__ import annotations

import errno
import gc
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainer.algorithm import Estimator
from trainer.config.schema import load
from trainer.errors import HeadwayError
from trainer.job import remedies
from trainer.job.directory import Job, State
from trainer.job.model.weights import local
from trainer.process import memory
from trainer.process.format import size
from trainer.worker.monitoring import gpu_share
from trainer.worker.strategy.blocks import blocks_of

# how torch, its allocators, CUDA's libraries and C++ say it
WORDS = ("out of memory", "can't allocate memory", "bad_alloc", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@dataclass(frozen=True)
class Held:
    """Bytes that this process holds of its models, wherever they are."""

    weights: int
    gradients: int
    optimizer: int
    blocks: bool  # whether a model has repeated ones

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory is out."""
    if isinstance(error, HeadwayError):
        return False
    said = any(words in str(error) for words in WORDS)
    return said or isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM


def explain(error: BaseException, job: Job) -> str:
    """The line. `error` is one for which `ran_out`."""
    config, held = load(job.config_path), hold()
    running: Mapping[str, Any] = next((e for e in reversed(job.events()) if e["state"] == State.RUNNING), {})
    world_size, on_gpu = int(os.environ.get("WORLD_SIZE", "1")), torch.cuda.is_initialized()
    device, taken = _device(on_gpu)
    parts = {"weights": held.weights, "gradients": held.gradients, "optimizer": held.optimizer}
    if on_gpu:
        parts["activations and the rest"] = taken - held.total
    shown = ", ".join(f"{name} {size(number)}" for name, number in parts.items() if number > 0)
    asked = _asked(str(error))
    text = f"out of memory on {device}{f' when {size(asked)} were asked for' if asked else ''}"
    text += f" ({shown})" if held.total else ""
    if _is_estimator(config):
        found = remedies.for_estimator(world_size=world_size, on_gpu=on_gpu)
    else:
        batch = running.get("batch_size", config["train"]["batch_size"])
        found = remedies.for_module(
            config,
            strategy=strategy_in_use(config, running, world_size),
            batch_size=batch if isinstance(batch, int) else 1,
            world_size=world_size,
            on_gpu=on_gpu,
            spread_first=2 * held.total > taken,
            blocks=held.blocks or not held.total,
        )
    return f"{text}; {remedies.in_words(found)}"


def strategy_in_use(config: Mapping[str, Any], running: Mapping[str, Any], world_size: int) -> str:
    name = str(config["strategy"]["name"])
    if name == "auto":
        name = str(running.get("strategy") or ("ddp" if world_size > 1 else "single"))
    return name


def hold() -> Held:
    """What there is of models and their optimizers, found among all objects: an error may come from anywhere."""
    objects = gc.get_objects()
    parameters = [o for o in objects if issubclass(type(o), nn.Parameter)]
    optimizers = [o for o in objects if issubclass(type(o), torch.optim.Optimizer)]
    states = [value for o in optimizers for state in o.state.values() for value in state.values()]
    return Held(
        _bytes(parameters),
        _bytes(p.grad for p in parameters),
        _bytes(states),
        any(blocks_of(o) for o in objects if issubclass(type(o), nn.Module)),
    )


def _bytes(values: Iterable[Any]) -> int:
    """Of the tensors among them, each storage once."""
    found = {}
    for value in values:
        if isinstance(value, Tensor):
            storage = local(value).untyped_storage()
            if storage.device.type != "meta":
                found[storage._cdata] = storage.nbytes()
    return sum(found.values())


def _device(on_gpu: bool) -> tuple[str, int]:
    """The device with what was taken of it at most, and that number."""
    if on_gpu:
        number = torch.cuda.current_device()
        properties = torch.cuda.get_device_properties(number)
        taken, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        whole = properties.total_memory
        told = f"{size(taken)} allocated at most, {size(reserved)} reserved, of {size(gpu_share.of(whole))}"
        told += f", the job's share of {size(whole)}" if gpu_share.of(whole) < whole else ""
        return f"GPU {number} ({properties.name}: {told})", taken
    taken = memory.taken_at_most()
    return f"the CPU ({size(taken)} allocated at most, {size(memory.free())} of main memory free)", taken


def _asked(text: str) -> int | None:
    match = re.search(r"[Tt]ried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)", text)
    return round(float(match[1]) * UNITS[match[2]]) if match else None


def _is_estimator(config: Mapping[str, Any]) -> bool:
    module, _, name = str(config["algorithm"]["_target_"]).replace(":", ".").rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return isinstance(found, type) and issubclass(found, Estimator)
