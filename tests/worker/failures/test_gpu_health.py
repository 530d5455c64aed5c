from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.worker.nvml import GIB, Machine
from trainer.errors import HeadwayError, UserError
from trainer.job.directory import Job, write_json
from trainer.worker.failures import gpu_health
from trainer.worker.failures.gpu_health import refuse_unhealthy
from trainer.worker.monitoring.gpu_share import SHARE

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
    monkeypatch.setattr(gpu_health, "FREEING_SECONDS", 0.0)


JOB = Job(Path("none"))


def refusal(local_rank: int = 0, job: Job = JOB) -> str:
    with pytest.raises(HeadwayError) as refused:
        refuse_unhealthy(local_rank, job)
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


@pytest.mark.parametrize(
    "sound", [SOUND, {}, {"process": os.getpid(), "process_memory": GIB}, {"desktop": 1, "desktop_memory": 30 * GIB}]
)
def test_a_sound_gpu_is_taken_whatever_it_does_not_tell(machine: Machine, sound: dict[str, Any]):
    machine.gpu(**sound)
    refuse_unhealthy(0, JOB)


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
    refuse_unhealthy(0, JOB)
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
    monkeypatch.setattr(gpu_health, "FREEING_SECONDS", 60.0)
    monkeypatch.setattr(gpu_health.time, "sleep", lambda seconds: machine.gpu(process=None))
    machine.gpu(**SOUND, process=os.getppid(), process_memory=GIB)
    refuse_unhealthy(0, JOB)


def worker_of(job: Job) -> Iterator[int]:
    """The process of a worker of a job, as its agent starts it."""
    environment = {**os.environ, "HEADWAY_JOB": str(job.dir.resolve())}
    process = subprocess.Popen([sys.executable, "-c", "input()"], env=environment, stdin=subprocess.PIPE)
    yield process.pid
    process.communicate()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Job, int]]:
    job = Job(tmp_path / "own")
    job.logs.mkdir(parents=True)
    for pid in worker_of(job):
        yield job, pid


@pytest.fixture
def neighbour(tmp_path: Path) -> Iterator[int]:
    yield from worker_of(Job(tmp_path / "another"))


def test_another_job_of_headways_may_be_on_the_same_gpu(machine: Machine, neighbour: int):
    machine.gpu(**{**SOUND, "memory_used": 42 * GIB}, process=neighbour, process_memory=40 * GIB)
    refuse_unhealthy(0, JOB)


def test_what_nobody_to_be_seen_holds_beside_it_is_no_less_gone(machine: Machine, neighbour: int):
    machine.gpu(**{**SOUND, "memory_used": 70 * GIB}, process=neighbour, process_memory=40 * GIB)
    assert "30.0 GiB of its memory are held by a process that can't be seen from here" in refusal()


def test_of_its_own_job_a_worker_that_trains_now_may_and_one_of_an_attempt_before_may_not(
    machine: Machine, own: tuple[Job, int]
):
    job, pid = own
    machine.gpu(**SOUND, process=pid, process_memory=20 * GIB)
    assert f"process {pid} (" in refusal(0, job)
    write_json(job.logs / "node-1.json", {"agent": 1, "workers": [pid, 3], "attempt": 2})
    refuse_unhealthy(0, job)


@pytest.mark.parametrize(
    "others", [{"process": os.getppid(), "process_memory": 40 * GIB}, {"memory_used": 60 * GIB}], ids=["seen", "unseen"]
)
def test_anybody_may_hold_the_rest_of_a_gpu_of_which_the_job_was_given_a_share(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, others: dict[str, Any]
):
    machine.gpu(**{**SOUND, **others})
    refusal()
    monkeypatch.setenv(SHARE, "0.5")
    refuse_unhealthy(0, JOB)


def test_a_share_of_a_broken_gpu_is_refused(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SHARE, "0.5")
    machine.gpu(ecc_uncorrected=2)
    assert "uncorrectable memory errors" in refusal()


@pytest.mark.parametrize("given", ["half", "0", "1.5", "-1", "nan"])
def test_what_is_no_share_is_said(machine: Machine, monkeypatch: pytest.MonkeyPatch, given: str):
    monkeypatch.setenv(SHARE, given)
    with pytest.raises(UserError, match=f"HEADWAY_GPU_SHARE: '{given}' is not a share of a GPU; give a number above 0"):
        refuse_unhealthy(0, JOB)


def test_a_gpu_that_is_lost_is_refused(machine: Machine):
    machine.gpu(**SOUND, lost=1)
    assert refusal().startswith(f"GPU 0 on {socket.gethostname()} is lost; reset it (nvidia-smi --gpu-reset)")


def test_nothing_is_refused_where_nvml_can_not_be_read(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    machine.gpu(ecc_uncorrected=2)
    monkeypatch.delenv("NVML_STUB")
    refuse_unhealthy(0, JOB)
