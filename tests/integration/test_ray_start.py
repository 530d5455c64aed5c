"""A Ray of a command's own that is slow to start, as on a busy machine: its first process is held back."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.command import FAULTY, start
from tests.integration.studies import COMMON, processes, wait_until_gone
from trainer.job.directory import Job, State

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

JOB = ["train", FAULTY, "data=digits", "train.epochs=1", "launcher=ray", "tracking=none", "job.name=job"]
STUDY = ["tune", *COMMON, "data=digits", "study.name=study", "tune.trials=1", "train.epochs=1"]


@pytest.fixture
def temporary(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAY_gcs_server_port_wait_time_s", "2")  # what it is waited for
    return temporary


@contextmanager
def held_back(temporary: Path, times: int) -> Iterator[list[int]]:
    """Meanwhile so many of Ray's first processes get no processor. They come into the list."""
    found: list[int] = []
    over = threading.Event()

    def look() -> None:
        while len(found) < times and not over.wait(0.01):
            for pid, command in processes(temporary):
                if "/gcs_server " in command and pid not in found:
                    os.kill(pid, signal.SIGSTOP)
                    found.append(pid)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def said_by(process: subprocess.Popen[str], code: int) -> str:
    said, _ = process.communicate(timeout=600)
    assert process.returncode == code, said
    assert "Traceback" not in said
    return said


def test_a_study_waits_for_a_ray_that_starts_slowly(folder: Path, temporary: Path) -> None:
    with held_back(temporary, 1) as found:
        said = said_by(start(*STUDY), 0)
    assert len(found) == 1
    assert said.count("Ray did not start, as on a busy machine; it is tried again") == 1
    wait_until_gone(temporary, 15)


def test_a_study_whose_ray_never_starts_leaves_a_line_and_nothing_else(folder: Path, temporary: Path) -> None:
    with held_back(temporary, 100) as found:
        said = said_by(start(*STUDY), 1)
    assert len(found) == 4
    assert said.splitlines()[-1].startswith("error: Ray did not start in 4 tries")
    assert not processes(temporary)
    assert not list(temporary.iterdir())
    assert not Path("studies").exists()


def test_a_job_whose_ray_never_starts_says_so(folder: Path, temporary: Path) -> None:
    with held_back(temporary, 100):
        said = said_by(start(*JOB), 1)
    assert "Ray did not start in 4 tries" in said.splitlines()[-1]
    assert Job(Path("runs/job")).state() in (State.PENDING, State.FAILED)
    wait_until_gone(temporary, 15)
    assert not list(temporary.glob("headway-ray-*"))


@pytest.mark.parametrize("command", [JOB, STUDY], ids=["job", "study"])
def test_told_to_leave_while_ray_starts_it_leaves_in_order(folder: Path, temporary: Path, command: list[str]) -> None:
    with held_back(temporary, 1) as found:
        process = start(*command)
        end = time.monotonic() + 600
        while not found:
            assert time.monotonic() < end
            time.sleep(0.05)
        process.terminate()
        said_by(process, 75)
    wait_until_gone(temporary, 15)
    assert not list(temporary.glob("headway-ray-*"))
    assert not Path("studies").exists()
    assert Job(Path("runs/job")).state() is not State.FAILED
