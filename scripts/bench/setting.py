"""A worker's session as the worker's own code sets it up, for benches that run the loop in their own process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from trainer import node  # noqa: E402
from trainer.algorithm import Module  # noqa: E402
from trainer.checkpoint import Retention  # noqa: E402
from trainer.config import checkpoint_interval  # noqa: E402
from trainer.data.opened import Opened  # noqa: E402
from trainer.data.samples import Samples  # noqa: E402
from trainer.data.schema import Schema  # noqa: E402
from trainer.job import Job  # noqa: E402
from trainer.worker.cadence import Cadence  # noqa: E402
from trainer.worker.interruption import Interruption  # noqa: E402
from trainer.worker.loop import Loop  # noqa: E402
from trainer.worker.metrics import Reporter  # noqa: E402
from trainer.worker.ranks import Ranks  # noqa: E402
from trainer.worker.saver import Saver  # noqa: E402
from trainer.worker.session import Session  # noqa: E402
from trainer.worker.state import Training  # noqa: E402
from trainer.worker.strategy import spread  # noqa: E402
from trainer.worker.trackers import TensorBoard  # noqa: E402

SEED = 0


def defaults(group: str) -> dict[str, Any]:
    """A config group as conf/ has it."""
    return dict(yaml.safe_load((ROOT / "conf" / group / "default.yaml").read_text()))


def new_saver(job: Job, ranks: Ranks, beat: memoryview, tag: str = "0") -> Saver:
    def told() -> None:
        beat[1] += 1

    return Saver(job.checkpoints, ranks, tag, Retention(), told)


def new_beat(job: Job, ranks: Ranks) -> memoryview:
    """The two numbers that an agent watches, in the job's logs instead of a folder of the agent's."""
    if ranks.rank == 0:
        job.logs.mkdir(parents=True, exist_ok=True)
    ranks.barrier()
    return node.beat_of(job.logs, ranks.local_rank, ranks.local_world_size)


def train(
    algorithm: Module,
    model: nn.Module,
    samples: Samples,
    ranks: Ranks,
    job: Job,
    steps: int,
    every: int | str,
    batch: int = 32,
) -> Session:
    """Trains by the trainer's loop. `every`: as `checkpoint.every`. Returns the session at its end."""
    config = {
        "train": {**defaults("train"), "max_steps": steps, "batch_size": batch},
        "checkpoint": {**defaults("checkpoint"), "every": every},
        "job": {"seed": SEED},
    }
    beat = new_beat(job, ranks)
    optimizer = algorithm.optimizer(model)
    training = Training(model, optimizer, algorithm.schedule(optimizer, steps))
    loss = spread(algorithm, model, "ddp" if ranks.world_size > 1 else "single", "fp32", ranks)
    reporter = Reporter(job, TensorBoard() if ranks.rank == 0 else None, writes=ranks.rank == 0, maximize=())
    saver, cadence = new_saver(job, ranks, beat), Cadence(ranks, **checkpoint_interval(every))
    interruption = Interruption(ranks, job.logs)
    interruption.save_seconds = lambda: saver.seconds
    opened = Opened(Schema(), samples, None)
    session = Session(job, config, ranks, opened, reporter, interruption, saver, cadence, beat)
    cadence.begin(0)
    reporter.start(config)
    Loop(algorithm, training, loss, session, steps, "fp32").run()
    reporter.finish({})
    return session
