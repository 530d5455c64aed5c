"""A job that was given a share of a GPU counts and takes no more. Where there is no GPU, CUDA's answers stand in for one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainer.worker.capacity.estimate import device_memory
from trainer.worker.monitoring import gpu_share
from trainer.worker.monitoring.gpu_share import SHARE

GPU = torch.device("cuda", 0)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What CUDA was told to keep within, on a GPU of 80,000 bytes."""
    told: list[Any] = []
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(total_memory=80_000))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *given: told.append(given))
    return told


def test_the_share_is_what_is_counted_and_what_is_allocated(monkeypatch: pytest.MonkeyPatch, limits: list[Any]) -> None:
    monkeypatch.setenv(SHARE, "0.25")
    assert device_memory("cuda", 1) == 20_000
    gpu_share.keep_within(GPU)
    gpu_share.keep_within(GPU, 0.8)
    assert limits == [(0.25, GPU), (0.2, GPU)]


@pytest.mark.parametrize("given", ["", "1", "1.0"])
def test_the_whole_is_not_limited(monkeypatch: pytest.MonkeyPatch, limits: list[Any], given: str) -> None:
    monkeypatch.setenv(SHARE, given)
    assert device_memory("cuda", 1) == 80_000
    gpu_share.keep_within(GPU)
    assert limits == []


def test_a_cpu_has_no_shares(monkeypatch: pytest.MonkeyPatch, limits: list[Any]) -> None:
    monkeypatch.setenv(SHARE, "0.5")
    gpu_share.keep_within(torch.device("cpu"))
    assert limits == []
