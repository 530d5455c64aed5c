"""A study's storage is a file that survives what happens to its writer."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from trainer.errors import UserError
from trainer.tuning.journal import Journal


def study_on(path: Path) -> tuple[optuna.Study, Journal]:
    journal = Journal(path)
    return optuna.create_study(storage=JournalStorage(journal), study_name="a", load_if_exists=True), journal


def ask(study: optuna.Study) -> optuna.Trial:
    return study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})


def test_what_was_written_is_there_for_the_next_writer(tmp_path: Path) -> None:
    study, _ = study_on(tmp_path / "journal")
    trials = [ask(study) for _ in range(3)]
    study.tell(trials[0], 0.5)
    again, _ = study_on(tmp_path / "journal")
    assert [t.params for t in again.trials] == [t.params for t in trials]
    assert [t.state.name for t in again.trials] == ["COMPLETE", "RUNNING", "RUNNING"]


def test_optunas_own_backend_reads_it(tmp_path: Path) -> None:
    study, _ = study_on(tmp_path / "journal")
    study.tell(ask(study), 0.5)
    theirs = optuna.load_study(study_name="a", storage=JournalStorage(JournalFileBackend(str(tmp_path / "journal"))))
    assert theirs.best_value == 0.5


def test_changes_made_together_reach_the_disk_together(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    study, journal = study_on(path)
    before = path.read_bytes()
    with journal.together():
        trial = ask(study)
        study.tell(trial, 0.25)
        assert path.read_bytes() == before
        assert study.best_value == 0.25
    assert path.read_bytes() != before
    assert study_on(path)[0].best_value == 0.25


def test_a_line_that_was_being_written_when_the_machine_died_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    study, _ = study_on(path)
    study.tell(ask(study), 0.5)
    with open(path, "ab") as file:
        file.write(b'{"op_code":4,"wor')
    again, _ = study_on(path)
    again.tell(ask(again), 0.25)
    assert [t.value for t in study_on(path)[0].trials] == [0.5, 0.25]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    study, _ = study_on(path)
    study.tell(ask(study), 0.5)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"\0\0\0garbage\n", *lines[3:]]))
    with pytest.raises(UserError, match=r"line 3 is damaged.*head -n 2"):
        Journal(path)


def test_an_exception_in_the_middle_loses_nothing_that_the_storage_knows(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    study, journal = study_on(path)

    def change() -> None:
        with journal.together():
            ask(study)
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        change()
    assert len(study.trials) == len(study_on(path)[0].trials) == 1
