"""A job whose attempts make no step ends, instead of coming back for ever."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launchers.agent import attempts
from tests.jobs import make_job, start
from trainer.job.directory import Job, State


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path / "job")


def attempt(job: Job, number: int, step: int | None, *, begins: int | None = 0, **facts: object) -> None:
    """One that is interrupted after this step, as its agent writes it down."""
    before = attempts.kept(job)
    if begins is not None:
        start(job, number, begins, **facts)
    got_on = attempts.got_on(job, number, step, before)
    job.add_event(State.INTERRUPTED, attempt=number, step=step or 0, source="time limit", **{attempts.GOT_ON: got_on})


def test_attempts_without_a_step_are_counted_whether_their_workers_came_up_or_not(job: Job) -> None:
    attempt(job, 0, 27)
    attempt(job, 1, 27, begins=27)
    attempt(job, 2, None, begins=None)
    job.add_event(State.PENDING, reason="goes on")
    attempt(job, 3, 27, begins=27)
    assert attempts.fruitless(job) is None
    attempt(job, 4, 27, begins=27)
    assert attempts.fruitless(job) == "5 attempts in a row made no step before they were interrupted"


def test_a_step_or_a_hand_begins_the_count_anew(job: Job) -> None:
    for number in range(4):
        attempt(job, number, 0)
    assert attempts.fruitless(job)
    attempt(job, 4, 1)
    assert attempts.fruitless(job) is None
    for number in range(5, 9):
        attempt(job, number, 1, begins=1)
    job.add_event(State.STOPPED, attempt=8, step=1)
    assert attempts.fruitless(job) is None


def test_what_counts_no_steps_gets_on_by_what_it_keeps(job: Job) -> None:
    job.own_state.mkdir(parents=True)
    before = attempts.kept(job)
    start(job, 0, parameters=None)
    assert not attempts.got_on(job, 0, 0, before)
    (job.own_state / "mine.pt").write_text("state")
    assert attempts.got_on(job, 0, 0, before)


def agent(job: Job) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launchers.agent", str(job.dir), "--workers", "1"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=dict(os.environ), check=False)


@pytest.mark.parametrize(
    ("damage", "said", "code"),
    [
        (lambda job: job.config_path.write_text("a: [1\n"), "config.yaml can't be read", 2),
        (lambda job: job.config_path.write_text(""), "it is empty", 2),
        (lambda job: (job.dir / "submission/submission.json").write_text("\0\0"), "submission.json is damaged", 2),
        (lambda job: job.logs.rename(job.dir / "gone") and job.logs.write_text(""), "its agent failed: ", 1),
    ],
)  # fmt: skip
def test_an_agent_that_fails_by_itself_fails_the_job_and_says_why(
    job: Job, damage: object, said: str, code: int
) -> None:
    (job.dir / "submission").mkdir()
    damage(job)  # type: ignore[operator]
    done = agent(job)
    assert done.returncode == code, done.stderr
    last = job.last_event()
    assert (last["state"], said in last["reason"]) == ("Failed", True)
    assert said in json.loads(job.result_path.read_text())["error"]["message"]
