"""The state of a training: what a checkpoint holds, written and read. Weights by safetensors, the rest weights-only."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from trainer import checkpoint
from trainer.job import Job
from trainer.weights import load_tensors, named_tensors
from trainer.worker.ranks import Ranks

MODEL, TRAINING = "model.safetensors", "training.pt"


@dataclass
class Position:
    """Where a training stands. `epoch_step` steps of epoch `epoch` are done."""

    step: int = 0
    epoch: int = 0
    epoch_step: int = 0
    samples: int = 0
    seconds: float = 0.0
    best: dict[str, float] = field(default_factory=dict)
    stale: int = 0  # validations since the watched metric improved
    watched: float | None = None  # its value then
    loss_sum: float = 0.0  # since the last report
    loss_count: int = 0
    reported: int = 0  # the step of that report, the same on all workers


@dataclass
class Training:
    """All that changes while a model is trained."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Any
    position: Position = field(default_factory=Position)

    def save(self, job: Job, ranks: Ranks, keep: int) -> Path | None:
        """Writes a checkpoint of the present step with all workers; rank 0 returns its folder."""
        step = self.position.step
        if ranks.rank == 0:
            place = checkpoint.begin(job.checkpoints, step)
            self._write(place)
        ranks.barrier()
        _write_rank(checkpoint.partial(job.checkpoints, step), ranks, self.position)
        ranks.barrier()
        if ranks.rank != 0:
            return None
        target = checkpoint.commit(job.checkpoints, step)
        checkpoint.retain(job.checkpoints, keep)
        return target

    def save_alone(self, job: Job) -> Path:
        """Writes a checkpoint without the other workers: for the one that finds the training broken."""
        place = checkpoint.begin(job.checkpoints, self.position.step)
        self._write(place)
        _write_rank(place, Ranks(), self.position)
        return checkpoint.commit(job.checkpoints, self.position.step)

    def _write(self, place: Path) -> None:
        save_file(named_tensors(self.model), place / MODEL)
        training = {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "position": asdict(self.position),
        }
        torch.save(training, place / TRAINING)

    def restore(self, folder: Path, ranks: Ranks) -> None:
        """Takes up the state that a complete checkpoint holds."""
        load_tensors(self.model, folder / MODEL)
        training = torch.load(folder / TRAINING, map_location="cpu", weights_only=True)
        self.optimizer.load_state_dict(training["optimizer"])
        if self.schedule:
            self.schedule.load_state_dict(training["schedule"])
        self.position = Position(**training["position"])
        _read_rank(folder, ranks, self.position)


def _write_rank(place: Path, ranks: Ranks, position: Position) -> None:
    name, keys, at, has_gauss, cached = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if ranks.device.type == "cuda" else None,
        "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), at, has_gauss, cached],
        "python": random.getstate(),
        "loss": [position.loss_sum, position.loss_count],
        "world_size": ranks.world_size,
    }
    torch.save(state, place / f"rank-{ranks.rank}.pt")


def _read_rank(folder: Path, ranks: Ranks, position: Position) -> None:
    path = folder / f"rank-{ranks.rank}.pt"
    if not path.exists():  # more workers than before: this one's stream of random numbers starts here
        return
    state = torch.load(path, map_location="cpu", weights_only=True)
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and ranks.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"])
    name, keys, at, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), at, has_gauss, cached))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    position.loss_sum, position.loss_count = state["loss"]
