"""A study goes on from whatever a machine that died has left of its journal."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.tuning.test_engine import begin, complete, engine_in, report, state_of
from trainer.errors import UserError
from trainer.job.directory import State
from trainer.tuning.journal import Journal, Snapshot
from trainer.tuning.record import read

SCHEDULERS = ["none", "asha", "median"]


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of studies are begun here, and no machine dies."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


def a_study(folder: Path, scheduler: str) -> None:
    """Of trials that are completed, stopped early, failed, and under way."""
    with engine_in(folder, scheduler=scheduler) as engine:
        for loss in (0.2, 0.9, 0.5, 0.8, 0.7, 0.95):
            live = begin(engine)
            engine.heard(live.frozen.number, report({"validation_loss": loss + 0.1}, {"validation_loss": loss}))
            if engine.live[live.frozen.number].ordered:
                engine.heard(live.frozen.number, report(ended="stopped"))
            else:
                complete(engine, live, validation_loss=loss)
        engine.heard(begin(engine).frozen.number, report(ended="failed", reason="no", kind="no"))
        engine.heard(begin(engine).frozen.number, report({"validation_loss": 0.4}))


def points_of(study: Path) -> dict[int, Any]:
    return {trial.number: trial.values for trial in read(study).trials if trial.parent is None}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_beginning_of_a_journal_is_a_study_that_goes_on(tmp_path: Path, scheduler: str) -> None:
    """What is under way is found again with its job, nothing is begun twice, and the next points are those that came."""
    whole = tmp_path / "whole"
    a_study(whole, scheduler)
    content, points = (whole / "study.journal").read_bytes(), points_of(whole)
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    for i, end in enumerate([0, *ends]):
        study = tmp_path / f"cut-{i}"
        shutil.copytree(whole, study)
        torn = content[: end + 20]
        (study / "study.journal").write_bytes(torn + b"\0" * 50)
        assert {number: points[number] for number in points_of(study)} == points_of(study)
        with engine_in(study, scheduler=scheduler) as engine:
            waiting = len(engine._waiting)
            lives = [begin(engine) for _ in range(waiting + 2)]
            assert len({live.job.dir for live in lives}) == len(lives)
            for live in lives:
                assert live.job.exists()
                if live.frozen.number in points and "parent" not in live.frozen.user_attrs:
                    assert live.values == points[live.frozen.number]
            for live in lives:
                complete(engine, live, validation_loss=0.6)
            assert all(state_of(engine, live.frozen.number).state.is_finished() for live in lives)


def test_a_journal_that_ends_anywhere_is_read_up_to_its_last_whole_change(tmp_path: Path) -> None:
    a_study(tmp_path / "s", "asha")
    content = (tmp_path / "s/study.journal").read_bytes()
    path, known = tmp_path / "journal", 0
    for end in range(len(content) + 1):
        path.write_bytes(content[:end])
        lines = list(Snapshot(path).read_logs(0))
        assert len(lines) >= known
        assert not (lines and lines[-1].get("more"))
        known = len(lines)
    assert known == content.count(b"\n")


def test_a_trial_whose_job_was_written_and_never_begun_begins(tmp_path: Path) -> None:
    """As drivers left it that wrote the two one after the other."""
    with engine_in(tmp_path / "s") as engine:
        first = begin(engine)
    journal = tmp_path / "s/study.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert b'"started"' in lines[-1]
    journal.write_bytes(b"".join(line.replace(b'"more"', b'"was"') for line in lines[:-1]))
    with engine_in(tmp_path / "s") as engine:
        again = begin(engine)
        assert (again.frozen.number, again.values, again.job) == (0, first.values, first.job)
        assert "started" in state_of(engine, 0).user_attrs


@pytest.mark.parametrize("lost", ["", "\0" * 300, "a: [1"])
def test_a_trial_whose_config_was_lost_has_it_written_anew(tmp_path: Path, lost: str) -> None:
    with engine_in(tmp_path / "s") as engine:
        first = begin(engine)
    sound = first.job.config_path.read_text()
    first.job.config_path.write_text(lost)
    with engine_in(tmp_path / "s") as engine:
        assert begin(engine).job == first.job
    assert first.job.config_path.read_text() == sound


def test_a_job_that_was_done_before_the_journal_knew_is_not_done_again(tmp_path: Path) -> None:
    with engine_in(tmp_path / "s") as engine:
        live = begin(engine)
        live.job.add_event(State.COMPLETED)
    (tmp_path / "s/study.journal").write_bytes(b"")
    with engine_in(tmp_path / "s") as engine:
        assert begin(engine).job == live.job
    assert live.job.state() is State.COMPLETED


def test_a_journal_that_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    with pytest.raises(UserError, match="journal can't be read"):
        Journal(tmp_path / "journal")
