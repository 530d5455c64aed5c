from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs import end, make_job, start, validate
from tests.tuning.written import written
from trainer.cli.command import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def job_in(directory: Path) -> None:
    job = make_job(directory)
    start(job)
    validate(job, 50, validation_loss=0.5)
    end(job)


def test_a_jobs_page_lies_in_its_directory_and_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job_in(folder / "runs/mine")
    for name in ("mine", "runs/mine"):
        assert main(["report", name]) == 0
        assert capsys.readouterr().out == "runs/mine/report.html\n"
    assert "mine – job" in (folder / "runs/mine/report.html").read_text()
    assert main(["show", "mine"]) == 0
    assert "runs/mine/report.html" in capsys.readouterr().out
    assert list(folder.glob("runs/mine/.report*")) == []


def test_of_a_study_it_is_the_studys_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(folder / "studies/digits")
    assert main(["report", "digits"]) == 0
    assert "studies/digits/report.html" in capsys.readouterr().out
    assert "digits – study" in (folder / "studies/digits/report.html").read_text()
    assert main(["report", "studies/digits/trials/0001-0badcafe"]) == 0  # a trial is a job


def test_a_name_of_both_and_one_of_neither_are_refused_in_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job_in(folder / "runs/digits")
    written(folder / "studies/digits")
    assert main(["report", "digits"]) == 2
    assert "digits is a job and a study; name runs/digits or studies/digits" in capsys.readouterr().err
    assert main(["report", "digit"]) == 2
    assert "did you mean 'digits'" in capsys.readouterr().err
