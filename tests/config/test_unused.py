"""A setting that would be taken and do nothing is refused by name, with the one that does it; what is used is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.cli.command import main
from trainer.config.compose import compose
from trainer.config.schema import check
from trainer.config.unused import refuse, uses
from trainer.errors import UserError

CSV = ["data=csv", "data.train=x.csv", "data.label=0"]
OWN = """
from trainer import Estimator


class Trees(Estimator):
    def __init__(self, n_estimators: int = 3, batch_size: int = 1) -> None: ...
    def fit(self, context): ...
    def predict(self, batch): ...


class Epochs(Trees):
    uses = frozenset({"train.epochs", "train.max_time"})
    instead = {"train.max_steps": "n_estimators"}


class Wider(Trees):
    uses = Trees.uses | {"train.epochs"}


def loop(context, batch_size=8): ...
"""


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_unused.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def said(*overrides: str) -> str:
    """The line; empty for settings that are all used."""
    try:
        refuse([check(compose(list(overrides)))])
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("train.epochs=3", "algorithm=xgboost doesn't use train.epochs; use algorithm.rounds"),
        ("train.max_steps=3", "algorithm=xgboost doesn't use train.max_steps; use algorithm.rounds"),
        ("train.batch_size=64", "algorithm=xgboost doesn't use train.batch_size; leave it out"),
        ("train.batch_size=auto", "algorithm=xgboost doesn't use train.batch_size; leave it out"),
        ("train.precision=bf16", "algorithm=xgboost doesn't use train.precision; leave it out"),
        ("train.gradient_clip=1", "algorithm=xgboost doesn't use train.gradient_clip; leave it out"),
        ("train.ema=0.9", "algorithm=xgboost doesn't use train.ema; leave it out"),
        ("train.compile=true", "algorithm=xgboost doesn't use train.compile; leave it out"),
        ("train.elastic=exact", "algorithm=xgboost doesn't use train.elastic; leave it out"),
        ("train.log_every=5", "algorithm=xgboost doesn't use train.log_every; leave it out"),
        ("strategy=fsdp", "algorithm=xgboost doesn't use strategy=fsdp; leave it out"),
        ("strategy=ddp", "algorithm=xgboost doesn't use strategy=ddp; leave it out"),
    ],
)
def test_what_xgboost_does_not_use(setting: str, line: str) -> None:
    assert said("algorithm=xgboost", *CSV, setting) == line


@pytest.mark.parametrize(
    "setting",
    [
        *("train.epochs=null", "train.batch_size=32", "train.max_time=2h", "train.hang_timeout=1h", "strategy=auto"),
        *("train.early_stopping.patience=3", "checkpoint.every=5", "checkpoint.keep=3", "job.seed=4"),
    ],
)
def test_defaults_and_what_it_uses_are_taken(setting: str) -> None:
    assert said("algorithm=xgboost", *CSV, setting) == ""


def test_an_algorithm_of_the_trainers_loop_uses_all_of_it() -> None:
    assert said("algorithm=linear", "train.epochs=3", "strategy=fsdp", "train.ema=0.9", "checkpoint.keep_best=1") == ""


@pytest.mark.parametrize(
    ("target", "setting", "line"),
    [
        ("Trees", "train.epochs=3", "own_unused.Trees doesn't use train.epochs; use algorithm.n_estimators"),
        ("Trees", "train.batch_size=3", "own_unused.Trees doesn't use train.batch_size; use algorithm.batch_size"),
        ("Trees", "strategy=ddp", "own_unused.Trees doesn't use strategy=ddp; leave it out"),
        ("Epochs", "train.epochs=3", ""),
        ("Epochs", "train.max_steps=3", "own_unused.Epochs doesn't use train.max_steps; use algorithm.n_estimators"),
        ("Epochs", "checkpoint.every=3", "own_unused.Epochs doesn't use checkpoint.every; leave it out"),
        ("Wider", "train.epochs=3", ""),  # what it says can't be read without running it
        ("loop", "train.max_steps=3", ""),
        ("loop", "strategy=ddp", ""),
        (
            "loop",
            "strategy=fsdp",
            "strategy=fsdp: context.prepare spreads a model by single or ddp; choose strategy=ddp",
        ),
        ("loop", "train.batch_size=3", "own_unused.loop doesn't use train.batch_size; use algorithm.batch_size"),
        (
            "loop",
            "train.epochs=3",
            "own_unused.loop doesn't use train.epochs; leave it out, or give loop an argument epochs, which is algorithm.epochs",
        ),
    ],
)
def test_algorithms_of_the_users_own(target: str, setting: str, line: str) -> None:
    assert said(f"algorithm._target_=own_unused.{target}", "data=digits", setting) == line


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("train.epochs=3", "algorithm=script doesn't use train.epochs; use algorithm.hyperparameters"),
        ("strategy=ddp", "algorithm=script doesn't use strategy=ddp; use algorithm.distribution"),
        ("checkpoint.every=3", "algorithm=script doesn't use checkpoint.every; use algorithm.checkpoint_local_path"),
        (
            "+data.label=price",
            "data=channels doesn't use data.label; leave it out: the script reads its channels, +data.channels.NAME=PATH, by itself",
        ),
        (
            "+data.validation=0.3",
            "data=channels doesn't use data.validation; leave it out: the script reads its channels, +data.channels.NAME=PATH, by itself",
        ),
        ("train.max_time=1h", ""),
    ],
)
def test_a_script(setting: str, line: str) -> None:
    assert said("algorithm=script", setting) == line


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["data=libsvm", "data.train=x", "data.label=0"],
            "data=libsvm doesn't use data.label; leave it out",
        ),
        (
            ["data=digits", "data.missing=mean"],
            "data=digits doesn't use data.missing; leave it out",
        ),
        (["data=digits", "data.label=x"], "data=digits doesn't use data.label; leave it out"),
        (
            ["algorithm._target_=own_unused.loop", "data=none", "+data.train=x.csv"],
            "data=none doesn't use data.train; choose what reads it, such as data=csv",
        ),
        (
            ["algorithm=gpt", "data=text", "data.train=x", "data.columns=[a]"],
            "data=text doesn't use data.columns; leave it out",
        ),
        (
            ["algorithm=gpt", "data=csv", "data.train=x", "data.missing=mean"],
            "algorithm=gpt doesn't use data.missing: it reads the column of text alone; leave it out",
        ),
        (
            ["data=libsvm", "data.train=x", "data.group=0"],
            "data=libsvm doesn't use data.group; leave it out",
        ),
        (
            ["algorithm=linear", *CSV, "data.group=query"],
            "algorithm=linear doesn't use data.group; algorithm=xgboost algorithm.task=ranking does, or leave it out",
        ),
        (
            ["algorithm=gpt", "data=csv", "data.train=x", "data.group=query"],
            "algorithm=gpt doesn't use data.group; algorithm=xgboost algorithm.task=ranking does, or leave it out",
        ),
        (
            ["data=libsvm", "data.train=x", "data.label_upper_bound=0"],
            "data=libsvm doesn't use data.label_upper_bound; leave it out",
        ),
        (
            ["algorithm=linear", *CSV, "data.label_upper_bound=1"],
            "algorithm=linear doesn't use data.label_upper_bound; algorithm=xgboost algorithm.objective=survival:aft does, "
            "or leave it out",
        ),
        (["algorithm=xgboost", "algorithm.task=ranking", *CSV, "data.group=query"], ""),
        ([*CSV, "data.missing=mean", "data.drop=[a]"], ""),
        (["data=npy", "data.train=x.npy", "data.label=2"], ""),
    ],
)
def test_data(overrides: list[str], line: str) -> None:
    assert said(*overrides) == line


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        (
            "train.early_stopping.min_delta=0.1",
            "train.early_stopping.min_delta does nothing by itself; set train.early_stopping.patience too, or leave it out",
        ),
        (
            "checkpoint.metric=loss",
            "checkpoint.metric does nothing by itself; set checkpoint.keep_best too, or leave it out",
        ),
        (
            "job.encryption=sse-s3",
            "job.encryption is for a job on S3; set job.dir=s3://BUCKET/FOLDER too, or leave it out",
        ),
    ],
)
def test_what_counts_only_beside_another(setting: str, line: str) -> None:
    assert said(setting) == line


def test_an_experiment_is_told_like_a_command_line(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [{override /algorithm: xgboost}]\ntrain: {epochs: 7, batch_size: 32}\n"
    )
    config = check(compose(["+experiment=mine"], config_dir=tmp_path))
    with pytest.raises(UserError, match=r"^algorithm=xgboost doesn't use train.epochs; use algorithm.rounds$"):
        refuse([config])


def test_in_a_sweep_it_is_enough_that_one_job_uses_it() -> None:
    linear, trees = (check(compose([f"algorithm={name}", "train.epochs=3"])) for name in ("linear", "xgboost"))
    refuse([trees, linear])
    refuse([linear, trees])
    other = check(compose(["algorithm=xgboost", "train.epochs=4"]))
    with pytest.raises(UserError, match=r"train\.epochs"):
        refuse([linear, other])


def test_a_job_that_goes_on_keeps_what_it_began_with() -> None:
    old = check(compose(["algorithm=xgboost", "train.epochs=3"]))
    refuse([old], old)
    with pytest.raises(UserError, match=r"train\.epochs"):
        refuse([check(compose(["algorithm=xgboost", "train.epochs=4"]))], old)


def test_what_only_a_sweep_side_by_side_uses() -> None:
    line = (
        "launcher.array is of a sweep whose jobs are submitted together; add -m hydra/launcher=headway, or leave it out"
    )
    config = check(compose(["launcher=slurm", "launcher.array=true"]))
    assert said("launcher=slurm", "launcher.array=true") == line
    assert said("launcher=slurm", "launcher.nodes=2", "launcher.exclusive=true") == ""
    refuse([config, config], side_by_side=True)


def test_what_built_in_algorithms_use() -> None:
    assert uses("algorithms.linear.Linear") == {"train", "strategy", "checkpoint"}
    assert "checkpoint" in (uses("algorithms.xgboost.XGBoost") or ())


def test_a_space_of_what_the_algorithm_does_not_use_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for verb in (["tune", "train.batch_size=8,16"], ["train", "train.epochs=3"], ["plan", "train.epochs=3"]):
        assert main([verb[0], "algorithm=xgboost", "data=breast_cancer", *verb[1:]]) == 2
        key = verb[1].partition("=")[0]
        assert f"error: algorithm=xgboost doesn't use {key}; " in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
