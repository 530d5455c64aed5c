"""What the earlier lives of a job's workers left, told by what is there, not by clocks, and never by another job's things."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from launchers.agent.attempts import kept, newest, note_death, saved_since
from trainer.job import checkpoint, node_state
from trainer.job.directory import Job, State
from trainer.process import scratch


@pytest.fixture
def job(tmp_path: Path) -> Job:
    job = Job(tmp_path / "job")
    job.logs.mkdir(parents=True)
    job.config_path.write_text("job: {}\n")
    return job


def save(job: Job, step: int, *, mtime: float | None = None) -> None:
    place = checkpoint.begin(job.checkpoints, step)
    (place / "weights").write_bytes(b"x" * 10)
    done = checkpoint.commit(job.checkpoints, step, "", {"weights": checkpoint.entry(place / "weights")})
    if mtime is not None:
        os.utime(done / checkpoint.MANIFEST, (mtime, mtime))


def runs(job: Job, step: int = 0, **details: object) -> dict[str, object]:
    job.add_event(State.STARTING, attempt=0, host=os.uname().nodename, dir=str(job.dir), **details)
    job.add_event(State.RUNNING, attempt=0, step=step)
    return job.last_event()


@pytest.mark.parametrize("hours", [-24, 0, 24])
def test_a_checkpoint_is_newer_if_it_was_not_there_before_whatever_the_clock_says(job: Job, hours: int) -> None:
    save(job, 10)
    before = kept(job)
    running = runs(job, 10)
    assert saved_since(job, running, before) is None
    save(job, 20, mtime=running["time"] + hours * 3600)  # type: ignore[operator]
    assert saved_since(job, running, before) == 20
    assert newest(job) == 20


def test_one_that_is_written_again_in_place_of_a_damaged_one_counts(job: Job) -> None:
    save(job, 10)
    before = kept(job)
    save(job, 10, mtime=1.0)
    assert saved_since(job, runs(job), before) == 10


@pytest.mark.parametrize("hours", [-24, 24])
def test_what_a_script_keeps_counts_too(job: Job, hours: int) -> None:
    running = runs(job, 5)
    before = kept(job)
    job.own_state.mkdir(parents=True)
    (job.own_state / "model.pt").write_bytes(b"x")
    moment = running["time"] + hours * 3600  # type: ignore[operator]
    os.utime(job.own_state / "model.pt", (moment, moment))
    assert saved_since(job, running, before) == 6


@pytest.fixture
def alive(tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of an agent that lives, whose worker has done step 70."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with scratch.folder(keep=(node_state.BEATS, job.logs)) as folder:
        node_state.make(folder, 1)[0] = 70
        yield folder


@pytest.fixture
def folder(alive: Path) -> Path:
    """Of one that is dead since a while."""
    left = alive.with_name(f"{alive.name}-left")
    shutil.copytree(alive, left)
    os.utime(left / scratch.LOCK, (1.0, 1.0))
    return left


def test_the_next_agent_says_how_far_a_dead_one_came_and_clears_up_after_it(job: Job, folder: Path) -> None:
    runs(job, folder=str(folder))
    note_death(job, own=Path("/nowhere"))
    assert (job.last_event()["state"], job.last_event()["step"]) == (State.INTERRUPTED, 70)
    assert not folder.exists()


def test_so_it_does_in_a_directory_that_was_moved(job: Job, folder: Path, tmp_path: Path) -> None:
    runs(job, folder=str(folder))
    moved = Job(tmp_path / "else where" / "b c")
    moved.dir.parent.mkdir()
    shutil.move(job.dir, moved.dir)
    note_death(moved, own=Path("/nowhere"))
    assert moved.last_event()["step"] == 70
    assert not folder.exists()


def test_a_copy_of_a_job_takes_nothing_from_the_one_that_lives(job: Job, alive: Path, tmp_path: Path) -> None:
    runs(job, 10, folder=str(alive))
    copy = Job(tmp_path / "copy")
    shutil.copytree(job.dir, copy.dir)
    note_death(copy, own=Path("/nowhere"))
    assert copy.last_event()["state"] == State.INTERRUPTED
    assert copy.last_event()["step"] < 70  # what the other has done meanwhile is not lost
    assert (alive / node_state.BEATS).exists()


def test_through_a_link_it_is_the_same_job(job: Job, folder: Path, tmp_path: Path) -> None:
    runs(job, folder=str(folder))
    (tmp_path / "link").symlink_to(job.dir)
    note_death(Job(tmp_path / "link"), own=Path("/nowhere"))
    assert not folder.exists()
