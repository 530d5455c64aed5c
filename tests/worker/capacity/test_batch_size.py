"""`train.batch_size=auto`: the largest power of two that fits, the same for as long as the job lives."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from algorithms.gpt import GPT
from tests.worker.processes import on_workers
from tests.worker.sessions import session_of
from trainer.algorithm import Batch, Module
from trainer.data.schema import Schema
from trainer.job.directory import Job, State
from trainer.worker.capacity import batch_size, footprint, probe
from trainer.worker.capacity.batch_size import largest
from trainer.worker.capacity.estimate import measure
from trainer.worker.distributed.ranks import Ranks

pytestmark = pytest.mark.slow

TEXT = Schema(columns=64, text=True)
TRAIN: dict[str, Any] = {
    "gradient_accumulation": 1, "elastic": "fast", "activation_checkpointing": False, "ema": None,
}  # fmt: skip
FULL = ["algorithm._target_=tests.worker.capacity.test_batch_size.Full", "data=digits", "train.log_every=1000"]


@dataclass(kw_only=True)
class Full(Module):
    """A model whose worker 1 can't hold more than `most` samples."""

    most: int = 10

    def build(self, schema: Schema) -> nn.Module:
        return nn.Linear(schema.columns, schema.classes)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        if os.environ["RANK"] == "1" and batch.size > self.most:
            torch.empty(1 << 50)
        return nn.functional.cross_entropy(model(batch.x), batch.y)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.1)

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {"loss": model(batch.x).sum()}


def text(size: int, world: int, parts: int) -> Batch:
    n = -(-size // (world * parts))
    return Batch(torch.zeros(n, 65, dtype=torch.int64), None, n, size)


def found(memory: int, strategy: str = "single", rows: int | None = None, world: int = 1, **train: Any) -> Any:
    options = {"rows": rows, "world": world, "device": "cpu", "precision": "fp32", "memory": memory}
    return largest(GPT(), TEXT, text, {**TRAIN, **train}, {"name": strategy}, **options)


@pytest.mark.parametrize("strategy", ["single", "ddp", "fsdp"])
def test_it_fits_and_twice_as_many_samples_would_not(strategy: str) -> None:
    memory, world = 200_000_000, 1 if strategy == "single" else 2
    size, reason = found(memory, strategy, world=world)
    needs = {n: getattr(footprint, strategy)(measure(GPT(), TEXT, text(n, world, 1)), world) for n in (size, 2 * size)}
    assert needs[size].fits(memory)
    assert not needs[2 * size].fits(memory)
    assert "of 184 MB usable on each device" in reason


def test_more_parts_leave_room_for_more_samples() -> None:
    assert found(200_000_000, gradient_accumulation=4)[0] >= 2 * found(200_000_000)[0]


def test_an_epoch_has_at_least_16_steps_and_a_cpu_1024_samples_at_most() -> None:
    assert found(10**12, rows=1000) == (32, "more would leave fewer than 16 steps an epoch")
    assert found(10**12, elastic="exact", rows=10**6) == (1024, "the most that is tried on a CPU")


def test_where_nothing_fits_it_is_the_least_and_says_so() -> None:
    size, reason = found(1000, world=3, gradient_accumulation=2)
    assert size == 8
    assert reason.startswith("the least, though it takes")


def settled(ranks: Ranks, folder: Path) -> Any:
    session = session_of(folder, "train.batch_size=auto", ranks=ranks)
    reason = batch_size.settle(session, {"name": "ddp"}, "fp32")
    return session.config["train"]["batch_size"], reason


def test_all_workers_have_the_same_number(tmp_path: Path) -> None:
    assert on_workers(2, settled, tmp_path) == [(64, "more would leave fewer than 16 steps an epoch")] * 2


def test_a_job_that_goes_on_keeps_its_number_on_other_workers_too(tmp_path: Path) -> None:
    Job(tmp_path).add_event(State.RUNNING, step=0, world_size=1, batch_size=16, batch_size_reason="it was full")
    assert on_workers(2, settled, tmp_path) == [(16, "it was full")] * 2


def proven(ranks: Ranks, folder: Path, overrides: list[str]) -> int:
    session = session_of(folder, *FULL, *overrides)
    return probe.halved(session.config, ranks, session.config["strategy"], "fp32", 128, 2)


@pytest.mark.parametrize("overrides", [["strategy=ddp"], ["strategy=fsdp", "train.gradient_accumulation=2"]])
def test_real_steps_halve_it_until_every_worker_holds_its_share(tmp_path: Path, overrides: list[str]) -> None:
    assert on_workers(2, proven, tmp_path, overrides) == [16 * (2 if "strategy=fsdp" in overrides else 1)] * 2
