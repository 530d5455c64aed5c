"""Job directories as workers leave them, for tests of what reads them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from trainer.job.directory import Job, State, append_line, write_json

CONFIG = """\
algorithm:
  _target_: algorithms.linear.Linear
  lr: 0.03
data:
  _target_: trainer.data.sources.{data}
  train: {train}
train:
  epochs: 10
  max_steps: null
  batch_size: 32
strategy:
  name: auto
launcher:
  _target_: launchers.local.Local
  workers: 2
tracking:
  _target_: trainer.worker.trackers.TensorBoard
job:
  name: {name}
  dir: {dir}
  seed: 7
"""
FACTS = {
    "world_size": 2,
    "parameters": 810_000,
    "samples": 1438,
    "validation_samples": 359,
    "columns": 64,
    "device": "cpu",
    "threads": 1,
    "strategy": "ddp",
    "steps": 500,
    "epochs": 10,
    "maximize": ["accuracy"],
}


def make_job(directory: Path, *, data: str = "Digits", train: str = "null") -> Job:
    """A job that was submitted."""
    job = Job(directory)
    job.logs.mkdir(parents=True)
    text = CONFIG.format(name=job.name, dir=job.dir, data=data, train=train)
    job.config_path.write_text(text, encoding="utf-8")
    job.add_event(State.PENDING, reason="submitted")
    return job


def start(job: Job, attempt: int = 0, step: int = 0, **facts: Any) -> None:
    """Its workers come up."""
    job.add_event(State.STARTING, attempt=attempt, workers=2)
    job.add_event(State.RUNNING, attempt=attempt, step=step, **{**FACTS, **facts})


def validate(job: Job, step: int, **values: float) -> None:
    """One report."""
    line = {"time": time.time(), "step": step, "epoch": step / 50, "samples": step * 32, "values": values}
    append_line(job.metrics_path, line)


def progress(job: Job, step: int, **other: Any) -> None:
    """Where it stands."""
    now = {"time": time.time(), "step": step, "total": 500, "epoch": step / 50, "samples": step * 32}
    write_json(job.progress_path, {**now, "loss": 0.25, "samples_per_second": 35214.2, "unit": "step", **other})


def end(job: Job, state: State = State.COMPLETED, error: dict[str, Any] | None = None, **other: Any) -> None:
    """Its result and last event."""
    metrics = {
        "train_loss": {"last": {"value": 0.2, "step": 500}, "best": {"value": 0.1, "step": 450}},
        "validation_loss": {"last": {"value": 0.3, "step": 500}, "best": {"value": 0.25, "step": 400}},
        "validation_accuracy": {"last": {"value": 0.95, "step": 500}, "best": {"value": 0.975, "step": 400}},
    }
    if state is State.COMPLETED:
        job.model.mkdir(exist_ok=True)
    result = {
        "status": state.value,
        "metrics": metrics,
        "steps": 500,
        "epochs": 10.0,
        "samples": 16000,
        "world_size": 2,
        "seconds": {"wall": 12.345, "training": 8.1},
        "samples_per_second": 35214.2,
        "model": str(job.model) if state is State.COMPLETED else None,
        "error": error,
    }
    write_json(job.result_path, {**result, **other})
    job.add_event(state, attempt=0, step=500)
