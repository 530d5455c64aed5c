"""The training of a `Module` algorithm: spread, taken up where it was left, trained by the loop, kept as an artifact."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn

from trainer.algorithm import Module
from trainer.job import checkpoint, node_state
from trainer.job.busy import busy
from trainer.job.directory import Job, State
from trainer.job.model import artifact
from trainer.job.model.weights import named_tensors
from trainer.job.remote.download import await_checkpoint, storage_of
from trainer.storage.retry import patiently
from trainer.worker.capacity import batch_size
from trainer.worker.capacity.decision import decide
from trainer.worker.checkpointing.ema import Averages
from trainer.worker.checkpointing.state import MODEL, Position, Training, weights_in
from trainer.worker.distributed.extensions import compiling
from trainer.worker.monitoring.profile import Profile
from trainer.worker.strategy import choice as strategies
from trainer.worker.strategy import initial
from trainer.worker.strategy import precision as numbers
from trainer.worker.strategy.exact import ExactGradient, parts_of, settle
from trainer.worker.strategy.replicated import Spread, check_scalar
from trainer.worker.training.beginning import begin, resume, seed_all, set_deadline, told_of
from trainer.worker.training.interruption import STOP
from trainer.worker.training.loop import Loop, total_steps
from trainer.worker.training.mfu import mfu_of
from trainer.worker.training.session import Session
from trainer.worker.training.throughput import told

# weights × samples of a worker's step (× tokens) below which threads cost more than they bring: waking one takes longer
# than the work itself, and on a busy machine several times as long
SMALL_STEP = 4_000_000


def fit_module(algorithm: Module, session: Session, facts: dict[str, Any]) -> dict[str, Any]:
    """Trains a `Module` algorithm by the loop. `facts`: what is told of the job once it runs."""
    config, ranks, opened = session.config, session.ranks, session.opened
    precision = numbers.choose(config["train"]["precision"], ranks.device)
    numbers.settle(precision)
    name, reason = decide(session, precision, facts["device"])
    strategy = {**config["strategy"], "name": name}
    facts |= {"strategy_reason": reason} if reason else {}
    reason = batch_size.settle(session, strategy, precision)
    facts |= {"batch_size_reason": reason} if reason else {}
    facts["batch_size"] = config["train"]["batch_size"]
    steps = opened.train.steps(config["train"]["batch_size"])
    total = total_steps(config["train"], steps)
    exactly = config["train"]["elastic"] == "exact"
    if exactly:
        settle(ranks.device)
        strategy["name"] = "single"

    def training_of(model: nn.Module) -> Training:
        optimizer = algorithm.optimizer(model)
        plan = {"algorithm": config["algorithm"], "steps": total}
        return Training(model, optimizer, algorithm.schedule(optimizer, total), Position(), plan=plan)

    split = strategies.splits(strategy)
    seed = partial(seed_all, config["job"]["seed"])

    def fresh(restored: bool) -> tuple[Training, Spread, Averages | None]:
        seed()
        model, values = initial.build(algorithm, opened.schema, ranks, seed, split=split, restored=restored)
        facts["parameters"] = sum(p.numel() for p in model.parameters())
        settle_threads(facts, session, algorithm, exactly)
        if ranks.rank:  # the same initial weights everywhere, but dropout of one's own
            seed_all(config["job"]["seed"] + 1_000_003 * ranks.rank)
        compiles = ranks.rank == 0 and strategy["name"] == "deepspeed"
        with busy(session.job, partial(compiling, ranks.rank)) if compiles else nullcontext():
            training, spread = strategies.spread(
                algorithm, model, training_of, ranks, precision, strategy, config["train"], total, values
            )
        decay = config["train"]["ema"]
        return training, spread, Averages(training, decay, spread.refresh) if decay else None

    there = split and ranks.broadcast(ranks.rank == 0 and bool(checkpoint.listing(session.job.checkpoints)))
    training, spread, averages = fresh(there)
    session.saver.spread = strategy["name"] in ("fsdp", "deepspeed") and ranks.world_size > 1
    session.saver.first = frozenset(f"{MODEL}{name}" for name, _ in training.model.named_buffers())
    found, touched = resume(session, lambda folder, manifest: training.restore(folder, manifest, ranks))
    if found is None and (touched or there):  # nothing was taken up, or a damaged one by half
        training, spread, averages = fresh(False)
    session.reporter.best = dict(training.position.best)
    exact = exact_gradient(algorithm, training.model, spread, session) if exactly else None
    progress = session.reporter.progress
    progress.total, progress.step = total, training.position.step
    progress.epoch = training.position.epoch + training.position.epoch_step / steps
    progress.samples, progress.training_seconds = training.position.samples, training.position.seconds
    patiently(lambda: session.reporter.forget_after(training.position.step))
    set_deadline(session)
    if ranks.rank == 0:
        facts |= {
            "strategy": "exact sums" if exactly else named(strategy),
            "precision": precision,
            "steps": total,
        }
        facts |= told_of(session, training.position.step, training.position.seconds)
        facts["notes"] = [*facts.get("notes", []), *training.told]
        patiently(lambda: session.job.add_event(State.RUNNING, **facts))
    session.reporter.gauges += mfu_of(algorithm, session, precision)
    progress.more = told(session, spread, session.job.progress() or {})
    begin(session, training.position.step)
    profile = profile_of(session, total, training.position.step)
    loop = Loop(algorithm, training, spread, session, total, exact, averages, profile=profile)
    state, ended = loop.run()
    stopped = loop.verdict is not None and loop.verdict.what == STOP and training.position.step > 0
    if ranks.rank == 0 and (state is State.COMPLETED or stopped):
        weights = final_weights(session, training, averages)
        artifact.write_module(session.job.model, algorithm, weights, opened.schema, config, session.reporter.best)
    return {"state": state.value, "reason": ended, "step": training.position.step, "has_model": stopped}


def settle_threads(facts: dict[str, Any], session: Session, algorithm: Module, exactly: bool) -> None:
    """One thread where a step is small, or where sums must not depend on how many there are."""
    ranks, batch = session.ranks, session.config["train"]["batch_size"]
    work = facts["parameters"] * batch * (algorithm.sequence_length or 1)
    if ranks.device.type == "cpu" and (exactly or work < ranks.world_size * SMALL_STEP):
        facts["threads"] = 1
        torch.set_num_threads(1)


def named(strategy: Mapping[str, Any]) -> str:
    """A strategy as it is told of."""
    return f"deepspeed, stage {strategy['stage']}" if strategy["name"] == "deepspeed" else str(strategy["name"])


def final_weights(session: Session, training: Training, averages: Averages | None) -> dict[str, torch.Tensor]:
    """The trained weights: this worker's own, or, where it has only parts of them, those of the last checkpoint."""
    assert training.layout
    if training.layout.spans():
        folder = checkpoint.folder(session.job.checkpoints, training.position.step)
        if url := os.environ.get(node_state.APART):
            await_checkpoint(storage_of(Job(session.job.dir, url)), session.job.dir, folder.name)
        return weights_in(folder, checkpoint.read_manifest(folder), averaged=averages is not None)
    with averages.in_place() if averages else nullcontext():
        return named_tensors(training.model)


def exact_gradient(algorithm: Module, model: nn.Module, spread: Spread, session: Session) -> ExactGradient:
    """The gradient of `train.elastic=exact`."""
    config = session.config
    parts = parts_of(config["train"]["batch_size"], config["train"]["gradient_accumulation"], session.ranks.world_size)
    check, mark = partial(check_scalar, algorithm), session.laps.mark
    return ExactGradient(
        spread.loss, model, session.ranks, seed=config["job"]["seed"], parts=parts, check=check, mark=mark
    )


def profile_of(session: Session, total: int | None, step: int) -> Profile | None:
    """The profile that `train.profile` asks for."""
    if not session.config["train"]["profile"]:
        return None
    left = None if total is None else total - step
    return Profile(session.job.profile, session.ranks.rank, session.ranks.device, session.laps, left)
