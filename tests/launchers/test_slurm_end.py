from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from launchers.slurm_end import end, leads_anywhere, survive
from tests.jobs import make_job, start
from trainer.job import checkpoint
from trainer.job.directory import Job, State, write_json


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path / "runs" / "first")


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What scontrol is asked for, a line each."""
    script = tmp_path / "scontrol"
    script.write_text(f'#!/bin/sh\necho "$@" >>"{tmp_path}/asked"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "asked").touch()
    return tmp_path / "asked"


@pytest.mark.parametrize(("state", "code"), [(State.COMPLETED, 0), (State.FAILED, 1), (State.STOPPED, 130)])
def test_a_job_that_has_ended_is_not_queued_again(job: Job, asked: Path, state: State, code: int) -> None:
    start(job)
    job.add_event(state)
    assert end(job, 75, "7") == code
    assert asked.read_text() == ""


def test_an_interrupted_one_is_queued_again_under_its_number(job: Job, asked: Path) -> None:
    start(job)
    job.add_event(State.INTERRUPTED)
    assert end(job, 75, "7_3") == 0
    assert asked.read_text() == "requeue 7_3\n"


def test_one_that_no_agent_began_is_not_queued_again(job: Job, asked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert end(job, 127, "7") == 127
    assert asked.read_text() == ""
    assert "no agent has started" in capsys.readouterr().out


def test_one_whose_agents_are_killed_is_queued_again_as_long_as_that_leads_anywhere(job: Job, asked: Path) -> None:
    for attempt in range(3):
        start(job, attempt)
    assert end(job, 137, "7") == 0
    assert asked.read_text() == "requeue 7\n"
    start(job, 3)
    assert not leads_anywhere(job)
    assert end(job, 137, "7") == 137
    assert asked.read_text() == "requeue 7\n"
    time.sleep(0.01)
    place = job.checkpoints / "step-00000010"
    place.mkdir(parents=True)
    (place / checkpoint.MANIFEST).write_text("{}")
    assert leads_anywhere(job)


def test_where_it_can_not_be_queued_again_it_is_said_how_it_goes_on(
    job: Job, asked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (asked.parent / "scontrol").write_text("#!/bin/sh\necho 'Requeue is disabled for job 7' >&2\nexit 1\n")
    start(job)
    job.add_event(State.INTERRUPTED)
    assert end(job, 75, "7") == 75
    said = capsys.readouterr().out
    assert "Requeue is disabled" in said
    assert f"`sbatch {job.dir}/job.sbatch` goes on with it" in said


def test_who_leaves_ends_the_batch_job_only_if_the_first_node_was_lost_and_nobody_goes_on(
    job: Job, asked: Path
) -> None:
    start(job)
    job.add_event(State.INTERRUPTED)
    assert survive(job, 75, "7") == 75  # the first node's agent has left in order: the batch script goes on
    assert asked.read_text() == ""
    lost = {"node": 0, "id": "a", "host": "n0", "pid": 1, "waiting": False, "beat": 12}
    write_json(job.dir / "nodes" / "node-0.json", lost)
    assert survive(job, 75, "7") == 0
    assert asked.read_text() == "requeue 7\n"
