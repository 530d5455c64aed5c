"""Sweeps whose jobs run side by side, by the real command."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.command import FAULTY, headway, processes_of, start
from trainer.job.directory import Job, State

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BY = ["hydra/launcher=headway", "tracking=none"]
QUICK = ["algorithm=linear", "data=digits", "train.epochs=2", *BY]
# 45 steps an epoch, each of so many seconds
LONG = [
    FAULTY,
    "data=digits",
    "+algorithm.seconds=0.05",
    "train.epochs=4",
    "checkpoint.every=20",
    *BY,
    "job.name=sweep",
]


def jobs(sweep: str) -> list[Job]:
    return [Job(folder) for folder in sorted(Path("runs", sweep).absolute().iterdir()) if folder.is_dir()]


def until(condition: Callable[[], Any], seconds: float = 600.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def at_work(count: int) -> bool:
    folder = Path("runs/sweep")
    return folder.exists() and sum((job.progress() or {}).get("step", 0) > 2 for job in jobs("sweep")) == count


@pytest.mark.promise
def test_jobs_run_side_by_side_and_the_same_command_again_does_nothing(folder: Path) -> None:
    command = ["train", "-m", *QUICK, "algorithm.lr=0.1,0.03", "seed=1,2", "hydra.launcher.parallel=2"]
    done = headway(*command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "4 of 4 completed"
    found = jobs("linear-digits-sweep")
    assert [job.name for job in found] == ["lr=0.03,seed=1", "lr=0.03,seed=2", "lr=0.1,seed=1", "lr=0.1,seed=2"]
    spans = sorted((job.events()[0]["time"], job.events()[-1]["time"]) for job in found)
    assert spans[1][0] < spans[0][1]  # two at a time
    assert spans[2][0] > min(end for _, end in spans[:2])  # and no more
    before = {job.name: job.events() for job in found}
    again = headway(*command)
    assert again.returncode == 0
    assert "4 jobs, 4 completed before" in again.stdout
    assert {job.name: job.events() for job in jobs("linear-digits-sweep")} == before
    third = headway(*[text.replace("epochs=2", "epochs=1") for text in command])
    assert third.returncode == 0
    assert len(jobs("linear-digits-sweep")) == 8
    assert {job.name: job.events() for job in found} == before


def test_a_job_that_fails_ends_nothing_and_is_tried_again_the_next_time(folder: Path) -> None:
    command = [
        "train",
        "-m",
        *QUICK,
        FAULTY,
        "+algorithm.rank=0",
        "+algorithm.how=none,raise",
        "launcher.max_restarts=0",
    ]
    done = headway(*command, "job.name=sweep")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "1 of 2 completed, 1 failed"
    [failed] = [line for line in done.stdout.splitlines() if line.startswith("failed ")]
    assert "how=raise" in failed
    assert "my own bug" in failed
    headway(*command, "job.name=sweep")
    lives = {job.name: sum(e["state"] == State.STARTING for e in job.events()) for job in jobs("sweep")}
    assert lives["how=none"] == 1
    assert lives["how=raise"] > 1


def test_a_value_that_one_job_gets_wrong_is_told_before_any_starts(folder: Path) -> None:
    done = headway("train", "-m", *QUICK, "algorithm.lr=0.1,fast")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "algorithm.lr" in done.stderr
    assert not Path("runs").exists()
    done = headway("train", "-m", *QUICK, "hydra.launcher.parallel=0", "seed=1,2")
    assert done.returncode == 2
    assert "hydra.launcher.parallel: 0 is neither" in done.stderr


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_stops_all_in_order_and_the_command_goes_on_later(folder: Path, times: int) -> None:
    command = ["train", "-m", *LONG, "seed=1,2,3", "hydra.launcher.parallel=2"]
    sweep = start(*command)
    until(lambda: at_work(2))
    for _ in range(times):
        os.kill(sweep.pid, signal.SIGINT)
        time.sleep(0.02)
    said, _ = sweep.communicate(timeout=600)
    assert sweep.returncode == 130, said
    assert "stopping 2 jobs" in said
    assert [job.state() for job in jobs("sweep")] == [State.STOPPED] * 2
    until(lambda: not processes_of(Path("runs/sweep").absolute()))
    if times == 1:
        done = headway(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        assert [job.state() for job in jobs("sweep")] == [State.COMPLETED] * 3


def test_a_sweep_whose_command_was_killed_goes_on(folder: Path) -> None:
    command = ["train", "-m", *LONG, "seed=1,2,3", "hydra.launcher.parallel=2"]
    sweep = start(*command)
    until(lambda: at_work(2))
    sweep.kill()
    sweep.communicate()
    until(lambda: not processes_of(Path("runs/sweep").absolute()))
    done = headway(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    results = [job.result() or {} for job in jobs("sweep")]
    assert [result["status"] for result in results] == ["Completed"] * 3
    assert [line["steps_lost"] for result in results for line in result["interruptions"]] == [0, 0]


def test_submitted_detached_a_sweep_is_followed_by_the_same_command(folder: Path) -> None:
    command = ["train", "-m", *QUICK, "seed=1,2", "job.name=sweep"]
    done = headway(*command, "job.detach=true")
    assert done.returncode == 0, done.stderr
    done = headway(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [sum(e["state"] == State.PENDING for e in job.events()) for job in jobs("sweep")] == [1, 1]
