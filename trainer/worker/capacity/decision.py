"""`strategy=auto`: the simplest strategy that fits, decided by the first worker for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from trainer.algorithm import Batch, Module
from trainer.config.instantiate import build
from trainer.data.tables.samples import Samples
from trainer.job.directory import State
from trainer.process.format import count, plural
from trainer.worker.capacity import footprint
from trainer.worker.capacity.estimate import device_memory, measure
from trainer.worker.distributed.uncompiled import Unfilled
from trainer.worker.strategy.choice import choose
from trainer.worker.training.session import Session

# of a device's memory that weights, gradients and an optimizer like Adam may take without anything being measured:
# where they are so small another strategy would not save much either
SMALL = 0.25


def decide(session: Session, precision: str, device: str) -> tuple[str, str | None]:
    """The strategy, the same on all workers, and why if it was left to us. `device`: its name."""
    name, ranks = session.config["strategy"]["name"], session.ranks
    if name != "auto" or session.config["train"]["elastic"] == "exact":
        return choose(name, ranks.world_size), None
    memory = min(ranks.gather(device_memory(ranks.device.type, ranks.local_world_size)))
    found = ranks.broadcast(_decide(session, precision, device, memory) if ranks.rank == 0 else None)
    return found[0], found[1]


def last_running(session: Session) -> dict[str, Any]:
    """The event with which workers of this job last began to train; {} if none did."""
    return next((e for e in reversed(session.job.events()) if e["state"] == State.RUNNING), {})


def _decide(session: Session, precision: str, device: str, memory: int) -> tuple[str, str]:
    """A job that goes on on the same devices keeps its strategy, as free memory may change and sums with the strategy."""
    world, before = session.ranks.world_size, last_running(session)
    known = before.get("strategy") if before.get("strategy_reason") else None
    if known and (before["world_size"], before.get("device")) == (world, device):
        return known, before["strategy_reason"]
    try:
        name, reason = _fitting(session, precision, memory)
    except Exception as error:  # a user's model may be like none that can be measured, and train all the same
        said = str(error).strip().splitlines() or [type(error).__name__]
        name, reason = choose("auto", world), f"the model can't be measured: {said[0]}"
    if known and known != name:
        reason += f"; it was {known} on {plural(before['world_size'], 'worker')}"
    return name, reason


def _fitting(session: Session, precision: str, memory: int) -> tuple[str, str]:
    world, train, opened = session.ranks.world_size, session.config["train"], session.opened
    algorithm: Module = build(session.config["algorithm"], "algorithm")  # one of its own: it may keep what it builds
    with torch.device("meta"), Unfilled():
        model = algorithm.build(opened.schema)
    parameters = sum(p.numel() for p in model.parameters())
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    copies = 1 if train["ema"] else 0
    if weights * (4 + copies) <= memory * SMALL:
        if world == 1:
            return "single", "one worker"
        return "ddp", f"{plural(world, 'worker')}, {count(parameters)} parameters fit each"
    parts, first = train["gradient_accumulation"], of_samples(opened.train)
    size = least(world, parts) if train["batch_size"] == "auto" else train["batch_size"]
    estimate = measure(
        algorithm,
        opened.schema,
        first(size, world, parts),
        whole=first(size, 1, parts) if world > 1 else None,
        device=session.ranks.device.type,
        precision=precision,
        parts=parts,
        checkpointing=train["activation_checkpointing"],
        copies=copies,
    )
    return footprint.choose(estimate, memory, world)


Batches = Callable[[int, int, int], Batch]  # of (samples, workers, parts), the first worker's first part


def of_samples(samples: Samples) -> Batches:
    def first(size: int, world: int, parts: int) -> Batch:
        return next(samples.stream(seed=0, epoch=0, batch_size=size, world=world, accumulate=parts))

    return first


def least(world: int, parts: int) -> int:
    """The smallest batch, of powers of two, in which every part of every worker has a sample."""
    return 1 << (world * parts - 1).bit_length()
