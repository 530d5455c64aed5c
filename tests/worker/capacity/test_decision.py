"""`strategy=auto` takes the simplest that fits, says why, and never stands in a job's way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.worker.processes import on_workers
from tests.worker.sessions import session_of
from trainer.job.directory import Job, State
from trainer.worker.capacity import decision
from trainer.worker.distributed.ranks import Ranks

STRANGE = """
import torch
from trainer import Module

class Strange(Module):
    def build(self, schema):
        model = torch.nn.Linear(schema.columns, schema.classes)
        if model.weight.abs().sum().item() == 0:
            raise AssertionError
        return model

    def loss(self, model, batch):
        return torch.nn.functional.cross_entropy(model(batch.x), batch.y)

    def optimizer(self, model):
        return torch.optim.SGD(model.parameters(), lr=0.1)
"""


def decided(ranks: Ranks, folder: Path, memory: list[int], overrides: list[str]) -> Any:
    decision.device_memory = lambda kind, workers: memory[ranks.rank]  # type: ignore[assignment]
    return decision.decide(session_of(folder, *overrides, ranks=ranks), "fp32", "CPU")


def test_one_worker_is_reason_enough(tmp_path: Path) -> None:
    assert decision.decide(session_of(tmp_path), "fp32", "CPU") == ("single", "one worker")


def test_a_strategy_that_was_asked_for_needs_no_reason(tmp_path: Path) -> None:
    assert decision.decide(session_of(tmp_path, "strategy=fsdp"), "fp32", "CPU") == ("fsdp", None)


@pytest.mark.parametrize(
    ("memory", "name", "words"),
    [
        ([10**9, 10**9], "ddp", "2 workers, 650 parameters fit each"),
        ([10**9, 30_000], "ddp", "the whole model fits each device"),  # the smallest device counts
        ([20_000, 20_000], "fsdp", "ddp would take"),
        ([1000, 1000], "fsdp", "neither fits"),
    ],
)
def test_all_workers_take_the_simplest_that_fits_the_smallest_device(
    tmp_path: Path, memory: list[int], name: str, words: str
) -> None:
    one, other = on_workers(2, decided, tmp_path, memory, ["train.batch_size=2"])
    assert one == other
    assert one[0] == name
    assert words in one[1]


def test_a_job_that_goes_on_on_the_same_workers_keeps_its_strategy(tmp_path: Path) -> None:
    Job(tmp_path).add_event(
        State.RUNNING, step=0, world_size=2, device="CPU", strategy="fsdp", strategy_reason="it was full"
    )
    assert on_workers(2, decided, tmp_path, [10**9, 10**9], [])[0] == ("fsdp", "it was full")


def test_on_other_workers_it_may_change_and_says_so(tmp_path: Path) -> None:
    Job(tmp_path).add_event(
        State.RUNNING, step=0, world_size=2, device="CPU", strategy="fsdp", strategy_reason="it was full"
    )
    found = decision.decide(session_of(tmp_path), "fp32", "CPU")
    assert found == ("single", "one worker; it was fsdp on 2 workers")


def test_a_model_that_cannot_be_measured_is_trained_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "strange.py").write_text(STRANGE)
    monkeypatch.syspath_prepend(tmp_path)
    name, reason = decision.decide(session_of(tmp_path, "algorithm._target_=strange.Strange"), "fp32", "CPU")
    assert name == "single"
    assert "can't be measured" in str(reason)
