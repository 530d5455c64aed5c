from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.jobs import make_job, start
from tests.worker.nvml import GIB, Machine
from tests.worker.test_trackers import scalars
from trainer.job.directory import Job, State
from trainer.job.result import write_result
from trainer.worker.distributed.ranks import Ranks
from trainer.worker.metrics import Reporter
from trainer.worker.monitoring.devices import open_device
from trainer.worker.monitoring.telemetry import Telemetry, watch
from trainer.worker.trackers import NoTracker, TensorBoard

BUSY: dict[str, Any] = {
    "utilisation": 90,
    "memory_used": 20 * GIB,
    "power": 600_000,
    "temperature": 60,
    "sm_clock": 1980,
    "memory_clock": 2619,
    "throttle": 0,
    "ecc_corrected": 0,
    "ecc_uncorrected": 0,
    "energy": 5_000_000,
    "events": 8,
}
GPU = torch.device("cuda", 0)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path / "job")


def telemetry(job: Job, gpus: int = 1, attempt: int = 0, rank: int = 0) -> Telemetry:
    return Telemetry([open_device(number) for number in range(gpus)], job.gpu_path(attempt, rank))


def until(done: Callable[[], Any]) -> Any:
    """What it gives once it gives something; a thread is at work on it."""
    while not (found := done()):
        time.sleep(0.01)
    return found


def test_means_of_what_was_seen_between_two_reports_and_the_highest_memory_and_heat(machine: Machine, job: Job):
    machine.gpu(**BUSY)
    gpu = telemetry(job)
    gpu.look()
    machine.gpu(utilisation=70, memory_used=10 * GIB, power=400_000, temperature=50, sm_clock=1780, ecc_corrected=2)
    gpu.look()
    assert gpu.read() == {
        "gpu/0/utilisation": pytest.approx(0.8),
        "gpu/0/memory_gib": 20.0,
        "gpu/0/power_watts": 500.0,
        "gpu/0/temperature_celsius": 60.0,
        "gpu/0/sm_clock_mhz": 1880.0,
        "gpu/0/memory_clock_mhz": 2619.0,
        "gpu/0/ecc_corrected": 2.0,
        "gpu/0/ecc_uncorrected": 0.0,
        "gpu/0/throttled": 0.0,
        "gpu/0/xids": 0.0,
    }
    assert gpu.read() == {}
    gpu.look()
    assert gpu.read()["gpu/0/utilisation"] == pytest.approx(0.7)


def test_what_a_gpu_does_not_tell_is_left_out(machine: Machine, job: Job):
    machine.gpu(utilisation=50)
    gpu = telemetry(job)
    gpu.look()
    assert gpu.read() == {"gpu/0/utilisation": 0.5}


def test_each_gpu_of_a_node_has_its_own_figures(machine: Machine, job: Job):
    machine.gpu(0, utilisation=50)
    machine.gpu(1, utilisation=10)
    gpus = telemetry(job, 2)
    gpus.look()
    assert gpus.read() == {"gpu/0/utilisation": 0.5, "gpu/1/utilisation": 0.1}


def test_what_holds_the_clocks_back_is_named_with_its_share_of_the_time(machine: Machine, job: Job):
    machine.gpu(throttle=0x40 | 0x8)
    gpu = telemetry(job)
    gpu.look()
    machine.gpu(throttle=0x1)  # idle
    for _ in range(3):
        gpu.look()
    assert gpu.read() == {
        "gpu/0/throttled": 0.25,
        "gpu/0/throttled/hw_slowdown": 0.25,
        "gpu/0/throttled/hw_thermal": 0.25,
    }


def test_an_xid_error_is_counted_and_said_in_the_log(machine: Machine, job: Job, capsys: pytest.CaptureFixture[str]):
    machine.gpu(0, **BUSY)
    machine.gpu(1, **BUSY)
    gpus = telemetry(job, 2)
    machine.gpu(1, xids=1, xid=79)
    gpus.look()
    gpus.look()
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "GPU 1 (NVIDIA H100 80GB HBM3, GPU-001): XID 79, the GPU has fallen off the bus; "
        "see https://docs.nvidia.com/deploy/xid-errors"
    ]
    figures = gpus.read()
    assert (figures["gpu/0/xids"], figures["gpu/1/xids"]) == (0, 1)
    gpus.close()
    assert [line["xids"] for line in json.loads(job.gpu_path(0, 0).read_text())["devices"]] == [[], [79]]


def test_a_gpu_that_is_lost_says_nothing_more_and_stops_nothing(machine: Machine, job: Job):
    machine.gpu(**BUSY)
    gpu = telemetry(job)
    gpu.look()
    machine.gpu(lost=1)
    gpu.look()
    assert gpu.read()["gpu/0/utilisation"] == pytest.approx(0.9)
    gpu.look()
    assert gpu.read() == {}


def kwh(job: Job) -> float | None:
    result = write_result(job, State.COMPLETED, attempt=0, error=None, wall=1.0, outcome={})
    return result.get("energy_kwh")


def test_the_result_sums_the_energy_of_all_gpus_nodes_and_attempts(machine: Machine, job: Job):
    start(job)
    machine.gpu(0, energy=1_000_000_000)
    machine.gpu(1, energy=0)
    for attempt, rank in ((0, 0), (0, 2), (1, 0)):
        gpus = telemetry(job, 2, attempt, rank)
        gpus.look()
        machine.gpu(0, energy=1_000_000_000 + (attempt + 1) * 3_600_000_000)  # millijoules
        machine.gpu(1, energy=0)
        gpus.close()
        machine.gpu(0, energy=1_000_000_000)
    assert kwh(job) == 1 + 1 + 2


def test_without_a_counter_energy_is_what_power_came_to(machine: Machine, job: Job, monkeypatch: pytest.MonkeyPatch):
    start(job)
    clock = iter([0.0, 1800.0, 3600.0])
    monkeypatch.setattr("trainer.worker.monitoring.telemetry.time.monotonic", lambda: next(clock))
    machine.gpu(power=500_000)
    gpu = telemetry(job)
    gpu.look()
    gpu.look()
    gpu.close()
    assert kwh(job) == 0.5


def test_a_gpu_that_tells_neither_energy_nor_power_adds_none(machine: Machine, job: Job):
    start(job)
    machine.gpu(utilisation=50)
    gpu = telemetry(job)
    gpu.look()
    gpu.close()
    assert job.gpu_path(0, 0).exists()
    assert kwh(job) is None


def test_a_job_without_a_gpu_has_no_energy(job: Job):
    start(job)
    assert kwh(job) is None


def test_reports_and_tensorboard_carry_what_the_gpus_do_and_what_was_learned_stays_apart(machine: Machine, job: Job):
    machine.gpu(**BUSY)
    start(job)
    reporter = Reporter(job, TensorBoard(), writes=True, maximize=())
    reporter.gauges += watch(job, 0, Ranks(device=GPU))
    reporter.start({})
    until(lambda: job.gpu_path(0, 0).exists())  # the thread has looked
    reporter.report(1, {"train_loss": 0.5}, epoch=0.1, samples=32)
    machine.gpu(energy=BUSY["energy"] + 3_600_000_000)
    reporter.finish({"state": "Completed"})
    (line,) = job.metrics()
    assert line["values"]["train_loss"] == 0.5
    assert line["values"]["gpu/0/power_watts"] == 600.0
    assert scalars(job.dir, "gpu/0/power_watts") == [(1, 600.0)]
    assert reporter.best == {"train_loss": 0.5}
    result = write_result(job, State.COMPLETED, attempt=0, error=None, wall=1.0, outcome={})
    assert list(result["metrics"]) == ["train_loss"]
    assert result["energy_kwh"] == 1.0
    assert not any(thread.name == "telemetry" for thread in threading.enumerate())


def test_of_a_nodes_workers_the_first_watches(machine: Machine, job: Job):
    machine.gpu(**BUSY)
    assert watch(job, 0, Ranks(rank=1, world_size=2, local_rank=1, local_world_size=2, device=GPU)) == []


def test_a_gpu_without_nvml_trains_without_figures_and_says_so_once(
    machine: Machine, job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.delenv("NVML_STUB")  # its driver can't be reached
    assert watch(job, 0, Ranks(device=GPU)) == []
    assert capsys.readouterr().out == "no figures of the GPUs, as NVML can't be read: Driver Not Loaded\n"


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment},
        cwd=Path(__file__).parents[3],
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_the_library_that_pynvml_looks_for_is_the_one_that_tells(machine: Machine, nvml_library: Path, tmp_path: Path):
    machine.gpu(**BUSY)
    code = """
from trainer.worker.monitoring import devices
devices.uuid_of = lambda number: f"00{number}"
print(devices.open_device(0), devices.open_device(0).sample()["power_watts"])
"""
    said = run(code, LD_LIBRARY_PATH=str(nvml_library.parent))
    assert said == "GPU 0 (NVIDIA H100 80GB HBM3, GPU-000) 600.0\n"


def test_without_a_gpu_nothing_is_imported_no_thread_runs_and_nothing_is_said():
    code = """
import sys, threading
from pathlib import Path
from types import SimpleNamespace
from trainer.job.directory import Job
from trainer.worker.failures import gpu_health
from trainer.worker.monitoring.telemetry import watch
ranks = SimpleNamespace(device=SimpleNamespace(type="cpu"), local_rank=0)
assert watch(Job(Path("nowhere")), 0, ranks) == []
assert "pynvml" not in sys.modules
assert threading.active_count() == 1
"""
    assert run(code) == ""


def test_a_worker_without_a_gpu_never_loads_nvml():
    """PyTorch may import pynvml by itself; that loads nothing of the driver."""
    code = """
from pathlib import Path
from trainer.job.directory import Job
from trainer.worker.main import *
assert not torch.cuda.is_available()
assert watch(Job(Path("nowhere")), 0, Ranks()) == []
assert "libnvidia-ml" not in Path("/proc/self/maps").read_text()
"""
    assert run(code) == ""


def test_a_tracker_that_keeps_nothing_still_lets_reports_carry_figures(machine: Machine, job: Job):
    machine.gpu(**BUSY)
    reporter = Reporter(job, NoTracker(), writes=True, maximize=())
    gpu = telemetry(job)
    reporter.gauges.append(gpu)
    gpu.look()
    reporter.report(1, {"train_loss": 0.5}, epoch=0.1, samples=32)
    reporter.report(2, {"train_loss": 0.4}, epoch=0.2, samples=64)
    assert ["gpu/0/utilisation" in line["values"] for line in job.metrics()] == [True, False]
