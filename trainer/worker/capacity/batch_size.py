"""`train.batch_size=auto`: the largest batch that fits all devices, a power of two, found before anything is trained.

    estimate    shapes go through the model at 1, 2, 4 … samples a device, until the next would be too much
    prove       on GPUs: real steps in processes beside the workers', half as many samples each time memory is out, so
                that the workers' own memory is as fresh as if nothing had been tried

A job that goes on keeps its number: the steps that it has done were of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.algorithm import Module
from trainer.config.instantiate import build
from trainer.data.schema import Schema
from trainer.job.directory import State
from trainer.process.format import size as in_bytes
from trainer.worker.capacity import footprint, probe
from trainer.worker.capacity.decision import Batches, least, of_samples
from trainer.worker.capacity.estimate import device_memory, measure
from trainer.worker.strategy.exact import PARTS
from trainer.worker.training.session import Session

STEPS = 16  # an epoch has at least so many: a model that is updated less often hardly learns
MOST = {"cuda": 65_536, "cpu": 1_024}  # samples; a CPU gains nothing from more


def settle(session: Session, strategy: Mapping[str, Any], precision: str) -> str | None:
    """Puts the number in place of `auto` in the session's config, the same on all workers. Returns why it is that."""
    ranks, train = session.ranks, session.config["train"]
    if train["batch_size"] != "auto":
        return None
    events = reversed(session.job.events()) if ranks.rank == 0 else iter(())
    known = next((e for e in events if e["state"] == State.RUNNING and "batch_size" in e), None)
    known = ranks.broadcast(known and [known["batch_size"], known.get("batch_size_reason")])
    if known:
        train["batch_size"] = known[0]
        return str(known[1])
    memory = min(ranks.gather(device_memory(ranks.device.type, ranks.local_world_size)))
    train["batch_size"], reason = ranks.broadcast(
        _estimate(session, strategy, precision, memory) if ranks.rank == 0 else None
    )
    if ranks.device.type == "cuda":
        fewest = least(ranks.world_size, train["gradient_accumulation"])
        proven = probe.halved(session.config, ranks, strategy, precision, train["batch_size"], fewest)
        if proven != train["batch_size"]:
            train["batch_size"], reason = proven, "the largest that real steps fitted"
    return str(reason)


def _estimate(session: Session, strategy: Mapping[str, Any], precision: str, memory: int) -> tuple[int, str]:
    fewest = least(session.ranks.world_size, session.config["train"]["gradient_accumulation"])
    try:
        algorithm: Module = build(session.config["algorithm"], "algorithm")
        opened = session.opened
        return largest(
            algorithm,
            opened.schema,
            of_samples(opened.train),
            session.config["train"],
            strategy,
            rows=opened.train.rows,
            world=session.ranks.world_size,
            device=session.ranks.device.type,
            precision=precision,
            memory=memory,
        )
    except Exception as error:  # a user's model may be like none that can be measured, and train all the same
        said = str(error).strip().splitlines() or [type(error).__name__]
        return max(32, fewest), f"the model can't be measured: {said[0]}"


def largest(
    algorithm: Module,
    schema: Schema,
    batches: Batches,
    train: Mapping[str, Any],
    strategy: Mapping[str, Any],
    *,
    rows: int | None,
    world: int,
    device: str,
    precision: str,
    memory: int,
) -> tuple[int, str]:
    """The largest batch of a training that fits by estimate, and what keeps it from being larger.

    rows: of an epoch, if known. memory: of each device.
    """
    parts, exactly = train["gradient_accumulation"], train["elastic"] == "exact"
    most = MOST[device]
    cap = f"the most that is tried on a {'GPU' if device == 'cuda' else 'CPU'}"
    if rows is not None and rows // STEPS < most:
        most, cap = max(1, rows // STEPS), f"more would leave fewer than {STEPS} steps an epoch"
    usable = memory * footprint.USABLE

    def needs(size: int) -> int:
        here, there = (1, PARTS * parts) if exactly else (world, parts)
        there = min(there, size)
        estimate = measure(
            algorithm,
            schema,
            batches(size, here, there),
            device=device,
            precision=precision,
            parts=there,
            checkpointing=train["activation_checkpointing"],
            copies=1 if train["ema"] else 0,
        )
        found = _footprint(estimate, strategy, world)
        # sums of gradients that wait for others, see `exact`
        return found.total + (found.gradients * there.bit_length() if exactly else 0)

    size = least(world, parts)
    taken = needs(size)
    if taken > usable:
        return size, f"the least, though it takes {in_bytes(taken)} of {in_bytes(usable)} usable by estimate"
    growth = 0
    while 2 * size <= most:
        if taken + 2 * growth > usable:  # what samples take grows by as much as there are more of them
            break
        more = needs(2 * size)
        if more > usable:
            break
        size, taken, growth = 2 * size, more, more - taken
    else:
        return size, cap
    return size, f"{in_bytes(taken)} of {in_bytes(usable)} usable on each device"


def _footprint(estimate: footprint.Estimate, strategy: Mapping[str, Any], world: int) -> footprint.Footprint:
    name = strategy["name"]
    if name == "fsdp":
        return footprint.fsdp(estimate, world)
    if name == "deepspeed":
        offload = "all" if strategy["offload_parameters"] else "optimizer" if strategy["offload_optimizer"] else None
        return footprint.zero(estimate, world, strategy["stage"], offload)
    return footprint.ddp(estimate, world) if name == "ddp" else footprint.single(estimate, world)
