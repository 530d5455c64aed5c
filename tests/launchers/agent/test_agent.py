"""Which of several workers' errors is the job's."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from launchers.agent.errors import first_error
from launchers.rendezvous.lock import hold
from launchers.rendezvous.rendezvous import Place
from trainer.errors import UserError
from trainer.job.directory import Job, write_json


def record(job: Job, rank: int, time: float, message: str, *, lost_peer: bool = False) -> None:
    error = {"time": time, "type": "RuntimeError", "message": message, "rank": rank, "lost_peer": lost_peer}
    write_json(job.error_path(0, rank), error)


def test_the_first_error_is_the_cause(tmp_path: Path) -> None:
    job = Job(tmp_path)
    record(job, 0, 2.0, "later")
    record(job, 1, 1.0, "first")
    assert first_error(job, 0, {0: 1, 1: 1})["message"] == "first"


def test_a_worker_that_lost_its_peer_is_not_the_cause(tmp_path: Path) -> None:
    job = Job(tmp_path)
    record(job, 0, 1.0, "Connection closed by peer", lost_peer=True)
    record(job, 2, 2.0, "the bug")
    assert first_error(job, 0, {0: 1, 1: -15, 2: 1})["message"] == "the bug"


def test_a_killed_worker_is_the_cause_though_it_could_not_say_so(tmp_path: Path) -> None:
    job = Job(tmp_path)
    record(job, 0, 1.0, "Connection closed by peer", lost_peer=True)
    error = first_error(job, 0, {0: 1, 1: -signal.SIGKILL, 2: -signal.SIGTERM})
    assert error["rank"] == 1
    assert "SIGKILL" in error["message"]
    assert "memory" in error["message"]


def test_a_worker_that_just_left_is_the_cause(tmp_path: Path) -> None:
    job = Job(tmp_path)
    record(job, 0, 1.0, "Connection closed by peer", lost_peer=True)
    assert "exit code 3" in first_error(job, 0, {0: 1, 1: 3})["message"]


def test_a_job_has_one_agent(tmp_path: Path) -> None:
    with ExitStack() as held, ExitStack() as late:
        hold(Job(tmp_path), Place(), held)
        with pytest.raises(UserError, match="another agent"):
            hold(Job(tmp_path), Place(), late)
    with ExitStack() as held:
        hold(Job(tmp_path), Place(), held)


def test_a_job_of_two_nodes_has_one_agent_on_each(tmp_path: Path) -> None:
    with ExitStack() as held, ExitStack() as late:
        hold(Job(tmp_path), Place(0, nodes=2), held)
        hold(Job(tmp_path), Place(1, nodes=2), held)
        with pytest.raises(UserError, match="another agent"):
            hold(Job(tmp_path), Place(1, nodes=2), late)
