from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from algorithms.gpt import GPT
from algorithms.linear import Linear
from trainer.data.schema import Schema
from trainer.worker.distributed.ranks import Ranks
from trainer.worker.metrics import Progress
from trainer.worker.training.mfu import MFU, mfu_of, peak_of

TEXT = Schema(text=True)
GPU = torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("name", "precision", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989.4),
        ("NVIDIA H100 80GB HBM3", "fp32", 66.9),
        ("NVIDIA H100 PCIe", "bf16", 756),
        ("NVIDIA H200", "bf16", 989.4),
        ("NVIDIA H200 NVL", "bf16", 835.5),
        ("NVIDIA A100-SXM4-80GB", "bf16", 312),
        ("A100-SXM4-40GB", "fp32", 19.5),
        ("NVIDIA A100 80GB PCIe", "bf16", 312),
        ("NVIDIA B200", "bf16", 2250),
        ("NVIDIA GB300", "bf16", 2500),
        ("NVIDIA GH200 480GB", "bf16", 989.4),
        ("NVIDIA H100 80GB HBM3", "fp16", 989.4),
        ("Tesla V100-SXM2-16GB", "fp16", 125),
        ("Tesla T4", "fp16", 65),
        ("NVIDIA L40S", "bf16", 362.05),
        ("NVIDIA L4", "bf16", 121),
        ("NVIDIA GeForce RTX 4090", "bf16", 165.2),
        ("Tesla T4", "fp32", 8.1),
    ],
)
def test_the_peak_is_that_of_the_gpu_and_its_arithmetic(name: str, precision: str, tflops: float):
    assert peak_of(name, precision) == tflops * 1e12


def test_tf32_has_a_peak_of_its_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert peak_of("NVIDIA A100-SXM4-80GB", "fp32") == 156e12
    assert peak_of("Tesla T4", "fp32") == 8.1e12


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "bf16"),
        ("NVIDIA H1000", "bf16"),
        ("NVIDIA L4X", "bf16"),
        ("AMD Instinct MI300X", "bf16"),
        ("Tesla T4", "bf16"),
    ],
)
def test_what_is_not_known_is_not_guessed(name: str, precision: str):
    assert peak_of(name, precision) is None


def test_mfu_is_of_the_time_since_the_last_report(monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Progress()
    progress.samples = 500  # of an earlier life
    gauge = MFU(progress, seconds_per_sample=0.02)
    assert gauge.read() == {}  # not begun
    gauge = MFU(progress, seconds_per_sample=0.02)
    progress.begin()
    now[0], progress.samples = 110.0, 600
    assert gauge.read() == {"mfu": pytest.approx(0.2)}
    now[0] = 150.0  # a validation
    assert gauge.read() == {}
    now[0], progress.samples = 152.0, 640
    assert gauge.read() == {"mfu": pytest.approx(0.4)}


def session(device: torch.device, **place: int) -> Any:
    reporter = SimpleNamespace(progress=Progress())
    return SimpleNamespace(ranks=Ranks(device=device, **place), reporter=reporter, opened=SimpleNamespace(schema=TEXT))


def test_an_algorithm_that_tells_its_flops_has_an_mfu_over_all_workers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    algorithm = GPT()
    (gauge,) = mfu_of(algorithm, session(GPU, world_size=4), "bf16")
    assert isinstance(gauge, MFU)
    assert gauge.seconds_per_sample == algorithm.flops_per_sample(TEXT) / (4 * 989.4e12)


def test_there_is_none_without_flops_a_known_gpu_or_any(monkeypatch: pytest.MonkeyPatch):
    assert mfu_of(GPT(), session(torch.device("cpu")), "fp32") == []
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    assert mfu_of(Linear(), session(GPU), "bf16") == []
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Something New")
    assert mfu_of(GPT(), session(GPU), "bf16") == []


def test_asking_for_the_flops_draws_no_random_number():
    before = torch.get_rng_state()
    GPT().flops_per_sample(TEXT)
    assert torch.equal(torch.get_rng_state(), before)
