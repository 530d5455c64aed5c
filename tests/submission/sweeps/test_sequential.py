"""The jobs of a plain sweep: looked at before the first starts, and each in a directory of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trainer.cli.command import main
from trainer.config.compose import compose
from trainer.submission.sweeps.sequential import apart

DRY = ["train", "-m", "job.dry_run=true", "data=digits", "tracking=none"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def placed(*jobs: list[str]) -> list[str]:
    added = apart(list(jobs), [compose(job) for job in jobs])
    return [override for job, given in zip(added, jobs, strict=True) for override in job[len(given) :]]


def test_jobs_of_one_name_get_a_directory_each_in_it(folder: Path) -> None:
    places = placed(*(["job.name=x", f"algorithm.lr={lr}", f"job.seed={seed}"] for lr in (0.1, 0.2) for seed in (1, 2)))
    names = ["lr=0.1,seed=1", "lr=0.1,seed=2", "lr=0.2,seed=1", "lr=0.2,seed=2"]
    assert places[1::2] == [f"job.dir='{folder}/runs/x/{name}'" for name in names]
    assert set(places[::2]) == {"job.name=null"}


def test_a_directory_is_shared_in_the_same_way() -> None:
    places = placed(*(["job.dir=s3://bucket/sweep", f"algorithm.lr={lr}"] for lr in (0.1, 0.2)))
    assert places[1::2] == [f"job.dir='s3://bucket/sweep/lr={lr}'" for lr in (0.1, 0.2)]


def test_jobs_that_have_names_of_their_own_keep_them() -> None:
    assert placed(*([f"job.name=lr-{lr}", f"algorithm.lr={lr}"] for lr in (0.1, 0.2))) == []
    assert placed(["job.name=x", "algorithm.lr=0.1"]) == []


def test_without_a_name_they_are_called_by_what_differs_in_a_folder_of_the_sweeps_own() -> None:
    places = placed(["algorithm.lr=0.1"], ["algorithm.lr=0.2"])[1::2]
    folders = {place.rpartition("/")[0] for place in places}
    assert [place.rpartition("/")[2] for place in places] == ["lr=0.1'", "lr=0.2'"]
    assert len(folders) == 1
    assert re.search(r"runs/linear-digits-\d{4}-\d{6}$", folders.pop())
    both = placed(["algorithm=linear"], ["algorithm=gpt", "data=text", "data.train=x"])[1]
    assert re.search(r"runs/linear-gpt-digits-text-\d{4}-\d{6}/algorithm=linear", both)


def test_a_sweep_under_one_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DRY, "algorithm.lr=0.1,0.2", "job.name=x"]) == 0
    shown = capsys.readouterr().out
    for lr in ("0.1", "0.2"):
        assert f"{folder}/runs/x/lr={lr}" in shown


def test_names_by_interpolation_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("x-${algorithm.lr}", "x-${hydra:job.num}"):
        assert main([*DRY, "algorithm.lr=0.1,0.2", f"job.name={name}"]) == 0
        shown = capsys.readouterr().out
        assert "runs/x-" in shown
        assert "runs/x/" not in shown


@pytest.mark.parametrize(
    ("sweep", "line"),
    [
        (["algorithm.lr=0.1,-1"], "algorithm.lr: -1"),
        (["algorithm=xgboost", "train.epochs=3,4"], "algorithm=xgboost doesn't use train.epochs; use algorithm.rounds"),
    ],
)
def test_what_one_gets_wrong_is_told_before_the_first(
    sweep: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*DRY, *sweep]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"error: {line}")
    assert len(shown.err.splitlines()) == 1


def test_algorithms_may_be_swept_beside_what_only_some_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DRY, "algorithm=linear,xgboost", "train.epochs=3", "job.name=x"]) == 0
    assert "runs/x/algorithm=xgboost" in capsys.readouterr().out
