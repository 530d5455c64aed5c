"""A worker's session as the worker's own code sets it up, for benches that run the loop in their own process."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import yaml
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from trainer.algorithm import Module
from trainer.config.schema import StrategyConfig, checkpoint_interval
from trainer.data.encoding.opened import Opened
from trainer.data.schema import Schema
from trainer.data.tables.samples import Samples
from trainer.job import node_state
from trainer.job.checkpoint import Retention
from trainer.job.directory import Job
from trainer.worker.checkpointing.cadence import Cadence
from trainer.worker.checkpointing.saver import Saver
from trainer.worker.checkpointing.state import MODEL, Training
from trainer.worker.distributed.heap import keep_freed_memory
from trainer.worker.distributed.ranks import Ranks
from trainer.worker.metrics import Reporter
from trainer.worker.monitoring.telemetry import watch
from trainer.worker.strategy import choice as strategies
from trainer.worker.strategy import precision as numbers
from trainer.worker.trackers import TensorBoard
from trainer.worker.training.interruption import Interruption
from trainer.worker.training.loop import Loop
from trainer.worker.training.mfu import mfu_of
from trainer.worker.training.session import Session

ROOT = Path(__file__).resolve().parents[2]

SEED = 0


def defaults(group: str) -> dict[str, Any]:
    """A config group as conf/ has it."""
    return dict(yaml.safe_load((ROOT / "conf" / group / "default.yaml").read_text()))


def new_saver(job: Job, ranks: Ranks, beat: memoryview, tag: str = "0", kind: type[Saver] = Saver) -> Saver:
    def told() -> None:
        beat[1] += 1

    return kind(job.checkpoints, ranks, tag, Retention(), told)


def new_beat(job: Job, ranks: Ranks) -> memoryview:
    """The two numbers that an agent watches, in the job's logs instead of a folder of the agent's."""
    if ranks.rank == 0:
        job.logs.mkdir(parents=True, exist_ok=True)
    ranks.barrier()
    return node_state.beat_of(job.logs, ranks.local_rank, ranks.local_world_size)


def strategy(name: str, **options: Any) -> dict[str, Any]:
    """A strategy's settings, complete."""
    return {**dataclasses.asdict(StrategyConfig()), "name": name, **options}


def train(
    algorithm: Module,
    model: nn.Module,
    samples: Samples,
    ranks: Ranks,
    job: Job,
    steps: int,
    *,
    every: int | str | None,
    options: dict[str, Any] | None = None,
    spread: dict[str, Any] | None = None,
    saves: type[Saver] = Saver,
) -> tuple[Session, Training]:
    """Trains by the trainer's loop, as a worker does. Returns the session and the training at their end.

    every: as `checkpoint.every`. options: of `train`, over conf/'s. spread: the strategy, else the simplest.
    """
    settings = {**defaults("train"), "max_steps": steps, "precision": "fp32", **(options or {})}
    config = {
        "train": settings,
        "checkpoint": {**defaults("checkpoint"), "every": every},
        "job": {"seed": SEED},
    }
    beat = new_beat(job, ranks)
    precision = settings["precision"]
    numbers.settle(precision)
    if ranks.device.type == "cpu":
        keep_freed_memory()

    def training_of(model: nn.Module) -> Training:
        optimizer = algorithm.optimizer(model)
        return Training(model, optimizer, algorithm.schedule(optimizer, steps))

    spread = spread or strategy(strategies.choose("auto", ranks.world_size))
    training, steps_of = strategies.spread(algorithm, model, training_of, ranks, precision, spread, settings, steps)
    reporter = Reporter(job, TensorBoard() if ranks.rank == 0 else None, writes=ranks.rank == 0, maximize=())
    reporter.gauges += watch(job, 0, ranks)
    saver, cadence = new_saver(job, ranks, beat, kind=saves), Cadence(ranks, **checkpoint_interval(every))
    saver.spread = spread["name"] in ("fsdp", "deepspeed") and ranks.world_size > 1
    saver.first = frozenset(f"{MODEL}{name}" for name, _ in model.named_buffers())
    interruption = Interruption(ranks, job.logs)
    interruption.save_seconds = lambda: saver.seconds
    opened = Opened(Schema(), samples, None)
    session = Session(job, config, ranks, opened, reporter, interruption, saver, cadence, beat)
    reporter.gauges += mfu_of(algorithm, session, precision)
    cadence.begin(0)
    reporter.start(config)
    Loop(algorithm, training, steps_of, session, steps).run()
    reporter.finish({})
    return session, training
