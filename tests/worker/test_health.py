from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from tests.worker.nvml import GIB, Machine
from trainer.errors import HeadwayError
from trainer.worker import health
from trainer.worker.health import refuse_unhealthy

SOUND: dict[str, Any] = {
    "ecc_corrected": 3,
    "ecc_uncorrected": 0,
    "remap_pending": 0,
    "remap_failed": 0,
    "memory_used": GIB // 4,
    "memory_total": 80 * GIB,
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "FREEING_SECONDS", 0.0)


def refusal(local_rank: int = 0) -> str:
    with pytest.raises(HeadwayError) as refused:
        refuse_unhealthy(local_rank)
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


@pytest.mark.parametrize(
    "sound", [SOUND, {}, {"process": os.getpid(), "process_memory": GIB}, {"desktop": 1, "desktop_memory": 30 * GIB}]
)
def test_a_sound_gpu_is_taken_whatever_it_does_not_tell(machine: Machine, sound: dict[str, Any]):
    machine.gpu(**sound)
    refuse_unhealthy(0)


@pytest.mark.parametrize(
    ("broken", "said", "advice"),
    [
        (
            {"ecc_uncorrected": 2},
            "uncorrectable memory errors since its driver was loaded: 2",
            "nvidia-smi --gpu-reset",
        ),
        ({"remap_pending": 1}, "broken memory waits to be taken out of use", "nvidia-smi --gpu-reset"),
        ({"remap_failed": 1}, "could not be remapped", "have it replaced"),
        ({"retirement_pending": 1}, "broken memory waits to be taken out of use", "nvidia-smi --gpu-reset"),
    ],
)
def test_a_broken_gpu_is_named_and_refused(machine: Machine, broken: dict[str, Any], said: str, advice: str):
    machine.gpu(0, **SOUND)
    machine.gpu(1, **SOUND, **{"retirement_pending": 0})
    machine.gpu(1, **broken)
    refuse_unhealthy(0)
    message = refusal(1)
    assert message.startswith(f"GPU 1 (NVIDIA H100 80GB HBM3, GPU-001) on {socket.gethostname()} is refused: ")
    assert said in message
    assert advice in message
    assert "CUDA_VISIBLE_DEVICES" in message


def test_a_gpu_whose_memory_another_process_holds_is_refused_with_that_processs_name(machine: Machine):
    machine.gpu(**SOUND, process=os.getppid(), process_memory=20 * GIB)
    with open(f"/proc/{os.getppid()}/comm") as file:
        name = file.read().strip()
    assert f"process {os.getppid()} ({name}) holds 20.0 GiB of its memory; end it, or " in refusal()


def test_memory_that_nobody_to_be_seen_holds_is_no_less_gone(machine: Machine):
    machine.gpu(**{**SOUND, "memory_used": 60 * GIB})
    assert "60.0 GiB of its memory are held by a process that can't be seen from here" in refusal()


def test_a_worker_that_was_killed_may_take_a_moment_to_give_its_memory_back(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(health, "FREEING_SECONDS", 60.0)
    monkeypatch.setattr(health.time, "sleep", lambda seconds: machine.gpu(process=None))
    machine.gpu(**SOUND, process=os.getppid(), process_memory=GIB)
    refuse_unhealthy(0)


def test_a_gpu_that_is_lost_is_refused(machine: Machine):
    machine.gpu(**SOUND, lost=1)
    assert refusal().startswith(f"GPU 0 on {socket.gethostname()} is lost; reset it (nvidia-smi --gpu-reset)")


def test_nothing_is_refused_where_nvml_can_not_be_read(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    machine.gpu(ecc_uncorrected=2)
    monkeypatch.delenv("NVML_STUB")
    refuse_unhealthy(0)
