"""What the Algorithm contract hands over."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trainer.algorithm import Batch, SparseRows


class OnTheCPU:
    """Stands in for a tensor, and keeps what was asked of it."""

    device = torch.device("cpu")

    def __init__(self, asked: list[Any]) -> None:
        self.asked = asked

    def pin_memory(self) -> OnTheCPU:
        self.asked.append("pinned")
        return self

    def to(self, device: torch.device, non_blocking: bool) -> OnTheCPU:
        self.asked.append((device.type, non_blocking))
        return self


def test_a_batch_goes_to_a_gpu_from_pinned_memory_so_that_nothing_waits_for_the_gpu() -> None:
    asked: list[Any] = []
    tensor: Any = OnTheCPU(asked)
    Batch(tensor, tensor, 1, 1).to(torch.device("cuda", 0))
    Batch(SparseRows(tensor, tensor, tensor, 3), None, 1, 1).to(torch.device("cuda", 0))
    assert asked == ["pinned", ("cuda", True)] * 5


def test_a_batch_that_stays_on_the_cpu_is_not_copied() -> None:
    batch = Batch(torch.ones(2, 3), torch.zeros(2), 2, 2)
    moved = batch.to(torch.device("cpu"))
    assert moved.x is batch.x
    assert moved.y is batch.y


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_many_batches_in_flight_arrive_as_they_were() -> None:
    """Pinned memory is used again only once its copy is done."""
    device = torch.device("cuda", 0)
    busy = torch.randn(4096, 4096, device=device)
    sums = []
    for i in range(200):
        busy = busy @ busy.softmax(1)
        sums.append(Batch(torch.full((1000,), float(i)), None, 1, 1).to(device).x.sum())
    assert torch.stack(sums).tolist() == [i * 1000.0 for i in range(200)]
