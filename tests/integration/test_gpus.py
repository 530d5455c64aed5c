"""GPUs in a whole job. Where there is none, NVML is a stand-in: what it tells is real to the job, what trains is the CPU."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.integration import command
from tests.worker import nvml
from trainer.job.directory import Job, State

pytestmark = pytest.mark.slow

SETTINGS = ("algorithm=linear", "data=digits", "train.epochs=2", "train.log_every=5", "job.name=one")
# every process of the job believes in a GPU, and computes on the CPU
BELIEVE = """
import dataclasses, torch
from trainer.worker import main
from trainer.worker.monitoring import devices, telemetry
from trainer.worker.distributed.ranks import Ranks
gpu = torch.device("cuda", 0)
devices.uuid_of = lambda number: f"00{number}"
torch.cuda.is_available = lambda: True
main.watch = lambda job, attempt, ranks: telemetry.watch(job, attempt, dataclasses.replace(ranks, device=gpu))
Ranks.join = classmethod(lambda ranks: ranks())
"""


@pytest.fixture
def machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> nvml.Machine:
    """The machine that jobs of this test run on."""
    built = nvml.library(folder)
    (folder / "sitecustomize.py").write_text(BELIEVE, encoding="utf-8")
    path = f"{folder}:{Path(__file__).parents[2]}:{os.environ.get('PYTHONPATH', '')}"
    monkeypatch.setattr(command, "environment", lambda: {**os.environ, "PYTHONPATH": path})
    monkeypatch.setenv("LD_LIBRARY_PATH", str(built.parent))
    monkeypatch.setenv("NVML_STUB", str(folder / "nvml"))
    return nvml.Machine(folder / "nvml")


def test_a_job_on_a_gpu_tells_what_it_does_and_what_energy_it_took(machine: nvml.Machine, folder: Path) -> None:
    machine.gpu(utilisation=75, power=300_000, energy=0, ecc_uncorrected=0, events=8, xids=1, xid=63)
    done = command.headway("train", *SETTINGS)
    assert done.returncode == 0, done.stdout + done.stderr
    job = Job(folder / "runs/one")
    seen = [line["values"] for line in job.metrics() if "gpu/0/utilisation" in line["values"]]
    assert seen
    assert seen[0]["gpu/0/utilisation"] == 0.75
    assert seen[0]["gpu/0/power_watts"] == 300
    assert "XID 63" in job.log_path(0, 0).read_text(encoding="utf-8")
    (line,) = json.loads(job.gpu_path(0, 0).read_text(encoding="utf-8"))["devices"]
    assert line["uuid"] == "GPU-000"
    result = job.result()
    assert result is not None
    assert result["energy_kwh"] == 0
    assert not any(name.startswith("gpu/") for name in result["metrics"])


def test_a_job_on_an_unhealthy_gpu_fails_at_once_and_says_which(machine: nvml.Machine, folder: Path) -> None:
    machine.gpu(ecc_uncorrected=4)
    done = command.headway("train", *SETTINGS)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert "GPU 0 (NVIDIA H100 80GB HBM3, GPU-000) on " in line
    assert "is refused: uncorrectable memory errors since its driver was loaded: 4; " in line
    assert [event["state"] for event in Job(folder / "runs/one").events()] == ["Pending", "Starting", "Failed"]


def test_two_jobs_share_a_gpu_of_which_another_process_may_hold_nothing(machine: nvml.Machine, folder: Path) -> None:
    machine.gpu(memory_used=0)
    first = command.start("train", *SETTINGS[:2], "train.epochs=1000000", "job.name=first", "tracking=none")
    try:
        job, end = Job(folder / "runs/first"), time.monotonic() + 600
        while job.state() is not State.RUNNING:
            assert first.poll() is None, first.communicate()[0]
            assert time.monotonic() < end
            time.sleep(0.05)
        (worker,) = job.workers()
        machine.gpu(process=worker, process_memory=nvml.GIB, memory_used=nvml.GIB)
        assert command.headway("train", *SETTINGS).returncode == 0
        machine.gpu(process=os.getpid())
        done = command.headway("train", *SETTINGS[:-1], "job.name=two")
        assert f"process {os.getpid()} (" in done.stderr
        assert done.returncode == 1
    finally:
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=600)


def test_a_job_without_a_gpu_tells_nothing_of_gpus(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert command.headway("train", *SETTINGS).returncode == 0
    job = Job(folder / "runs/one")
    assert not any(name == "mfu" or name.startswith("gpu/") for line in job.metrics() for name in line["values"])
    assert not list(job.logs.glob("*.gpu.json"))
    assert "energy_kwh" not in (job.result() or {})
    assert "GPU" not in job.log_path(0, 0).read_text(encoding="utf-8")
