"""What workers are busy with for long before their first step is said to whoever waits for them."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest
from rich.console import Console

from tests.jobs import make_job, start
from trainer.job import busy
from trainer.job.directory import Job, State, Status
from trainer.job.view.terminal import Follower, follow
from trainer.process import clock
from trainer.worker.distributed.extensions import VARIABLE, Turn, compiling

COMPILING = "worker 0 is compiling cpu_adam for DeepSpeed, which takes a minute or more the first time"


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setattr(busy, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(busy, "PATIENCE", 0.03)
    return make_job(tmp_path / "runs" / "first")


def until(job: Job, words: str) -> None:
    end = time.monotonic() + 600
    while busy.words_of(job) != words:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_compile_is_told_while_it_lasts(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "extensions"))
    turn = Turn(str(tmp_path / "extensions" / "cpu_adam" / "lock"))
    (tmp_path / "extensions" / "cpu_adam").mkdir(parents=True)
    with busy.busy(job, lambda: compiling(0)):
        assert busy.words_of(job) == ""
        assert turn.try_acquire()
        until(job, COMPILING)
        turn.release()
        until(job, "")
        assert turn.try_acquire()
        until(job, COMPILING)
    turn.release()
    assert busy.words_of(job) == ""


def test_what_takes_no_time_is_not_told(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy, "PATIENCE", 60.0)
    with busy.busy(job, lambda: "reading the data"):
        time.sleep(0.1)
        assert not busy.path_of(job).exists()


def test_who_waits_is_told_once_in_lines_and_all_the_while_in_a_terminal(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    looks = iter([True, True, True, False])
    with busy.busy(job, lambda: COMPILING):
        until(job, COMPILING)
        follow(job, lambda: Status(State.STARTING, next(looks)))
        follower = Follower(job)
        follower._look(Status(State.STARTING, True))
        console = Console(file=io.StringIO(), width=120)
        console.print(follower._bar(120))
        assert COMPILING in console.file.getvalue()  # type: ignore[attr-defined]
    assert capsys.readouterr().out.count(COMPILING) == 1
    busy.write_json(busy.path_of(job), {**clock.now(), "words": COMPILING})
    start(job)  # they train now: what a killed worker has left is not shown
    follower = Follower(job)
    follower._poll(Console(file=open(os.devnull, "w")))  # noqa: SIM115
    follower._look(Status(State.RUNNING, True))
    assert follower._busy == ""


def test_what_takes_long_besides_training_is_told_as_well(job: Job) -> None:
    start(job)
    follower = Follower(job)
    follower._poll(Console(file=open(os.devnull, "w")))  # noqa: SIM115
    with busy.busy(job, lambda: "worker 0 is packing the model"):
        until(job, "worker 0 is packing the model")
        follower._look(Status(State.RUNNING, True))
        console = Console(file=io.StringIO(), width=120)
        console.print(follower._bar(120))
        assert "packing the model" in console.file.getvalue()  # type: ignore[attr-defined]
    follower._look(Status(State.RUNNING, True))
    assert follower._busy == ""
