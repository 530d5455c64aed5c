"""A full /dev/shm is told as what it is, and not tried again."""

from __future__ import annotations

import errno
import signal
from pathlib import Path

import pytest

from launchers.agent.errors import first_error
from trainer.job.directory import Job
from trainer.process import shared_memory
from trainer.worker.failures.record import describe


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "is_small", lambda: True)


@pytest.fixture
def full(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "is_full", lambda: True)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)"),
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory."),
        OSError(errno.ENOSPC, "No space left on device", "/dev/shm/torch_1"),
    ],
)  # fmt: skip
def test_a_worker_whose_library_names_it(tmp_path: Path, small: None, error: Exception) -> None:
    told = describe(error, 0, Job(tmp_path), 0)
    assert "/dev/shm" in told["message"]
    assert "docker run --shm-size" in told["message"]
    assert told["final"]


def test_a_full_disk_is_another_matter(tmp_path: Path) -> None:
    told = describe(OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "x")), 0, Job(tmp_path), 0)
    assert "no space left on the disk of" in told["message"]


def test_workers_that_can_not_be_started_for_it(tmp_path: Path, full: None) -> None:
    error = first_error(Job(tmp_path), 0, {}, "OSError: [Errno 28] No space left on device")
    assert "the workers could not be started: shared memory, /dev/shm" in error["message"]
    assert error["final"]


def test_a_worker_that_it_kills(tmp_path: Path, small: None) -> None:
    error = first_error(Job(tmp_path), 0, {0: 1, 1: -signal.SIGBUS})
    assert (error["rank"], error["final"]) == (1, True)
    assert "SIGBUS: shared memory, /dev/shm" in error["message"]


def test_no_log_is_named_that_is_not_there(tmp_path: Path) -> None:
    job = Job(tmp_path)
    assert first_error(job, 0, {})["log"] is None
    job.logs.mkdir()
    (job.logs / "node-0.log").touch()
    assert first_error(job, 0, {})["log"] == str(job.logs / "node-0.log")
    job.log_path(0, 0).touch()
    assert first_error(job, 0, {})["log"] == str(job.log_path(0, 0))
