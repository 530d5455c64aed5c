from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainer.cli.command import main
from trainer.config import schema
from trainer.config.compose import compose
from trainer.errors import UserError
from trainer.job.directory import Job, State
from trainer.submission.submit import write
from trainer.submission.sweeps.launcher import directory, names_of


def test_a_name_fits_a_folder_in_any_script() -> None:
    long, other = names_of([[f"data.label={'価' * 200}a"], [f"data.label={'価' * 200}b"]])
    assert long != other
    assert max(len(name.encode()) for name in (long, other)) <= 100


def test_jobs_are_named_by_what_tells_them_apart() -> None:
    fixed = ["algorithm=linear", "job.name=first"]
    jobs = [[*fixed, f"algorithm.lr={lr}", f"job.seed={seed}"] for lr in (0.1, 0.03) for seed in (1, 2)]
    assert names_of(jobs) == ["lr=0.1,seed=1", "lr=0.1,seed=2", "lr=0.03,seed=1", "lr=0.03,seed=2"]


def test_keys_of_one_last_name_are_told_in_full() -> None:
    jobs = [["train.metric=a", "checkpoint.metric=b"], ["train.metric=c", "checkpoint.metric=d"]]
    assert names_of(jobs)[0] == "train.metric=a,checkpoint.metric=b"


def test_what_no_folder_can_be_called_is_replaced_and_long_names_stay_different() -> None:
    assert names_of([["data.train=/a/b c.csv"], ["data.train=/d"]]) == ["train=_a_b_c.csv", "train=_d"]
    first, second = names_of([[f"+x={'y' * 300}1"], [f"+x={'y' * 300}2"]])
    assert first != second
    assert len(first) <= 100


def test_one_job_alone_has_a_name_too() -> None:
    assert names_of([["algorithm=linear"]]) == ["algorithm=linear"]


@pytest.fixture
def config(folder: Path) -> dict[str, Any]:
    return schema.check(compose(["algorithm=linear", "data=digits"]))


def test_the_same_job_has_the_same_directory_again(folder: Path, config: dict[str, Any]) -> None:
    place = directory(config, "lr=0.1", [])
    assert Path(place) == folder / "runs/linear-digits-sweep/lr=0.1"
    write(Job(Path(place)), config, is_new=True)
    assert directory(config, "lr=0.1", []) == place


def test_another_job_never_gets_a_directory_that_is_taken(config: dict[str, Any]) -> None:
    place = directory(config, "lr=0.1", [])
    write(Job(Path(place)), config, is_new=True).add_event(State.COMPLETED)
    other = {**config, "train": {**config["train"], "epochs": 3.0}}
    assert directory(other, "lr=0.1", []) == f"{place}-2"
    assert directory(other, "lr=0.1", [f"{place}-2"]) == f"{place}-3"


def test_the_sweep_is_where_the_job_was_to_be(config: dict[str, Any]) -> None:
    config["job"]["name"] = "mine"
    assert directory(config, "lr=0.1", []) == str(Path("runs/mine/lr=0.1").absolute())
    config["job"]["dir"] = "s3://bucket/sweep/"
    assert directory(config, "lr=0.1", []) == "s3://bucket/sweep/lr=0.1"
    config["job"]["dir"] = "~/sweep"
    assert directory(config, "lr=0.1", []) == str(Path.home() / "sweep/lr=0.1")
    config["job"]["dir"] = "gs://bucket/sweep"
    with pytest.raises(UserError, match="neither a local folder nor on S3"):
        directory(config, "lr=0.1", [])


EMPTY = ["range(3,3)", "range(3,1)", "range(1,3,-1)", "range(0,1,0)", "shuffle(range(3,3))", "glob(none*)", "choice()"]


@pytest.mark.parametrize("values", EMPTY)
@pytest.mark.parametrize("by", ["", "hydra/launcher=headway", "hydra/sweeper=headway", "tune"])
def test_a_sweep_without_a_value_is_a_mistake_in_one_line(
    values: str, by: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verb = ["tune", "study.name=empty"] if by == "tune" else ["train", "-m", "job.name=empty", *filter(None, [by])]
    assert main([*verb, "algorithm=linear", "data=digits", f"algorithm.lr={values}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert not any((folder / root).exists() for root in ("runs", "studies"))


def test_a_sweep_of_a_config_file_without_a_value_is_a_mistake_too(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "conf/sweep").mkdir(parents=True)
    text = "# @package _global_\nhydra:\n  sweeper:\n    params:\n      algorithm.lr: range(3,3)\n"
    (folder / "conf/sweep/none.yaml").write_text(text)
    assert main(["train", "-m", "--config-dir", "conf", "+sweep=none", "algorithm=linear", "data=digits"]) == 2
    assert capsys.readouterr().err.startswith("error: the sweep is empty: ")


@pytest.mark.parametrize("setting", ["hydra/launcher=headway", "+hydra/sweeper=headway", "hydra.sweeper.tune.trials=3"])
def test_a_setting_of_sweeps_without_one_is_told(setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", setting]) == 2
    assert (
        capsys.readouterr().err == f"error: {setting}: it is of a sweep, and this is one job; add -m, or leave it out\n"
    )
