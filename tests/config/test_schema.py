"""The config: what composes, what is checked, what makes two configs the same job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainer.config import schema as config
from trainer.config.compose import compose
from trainer.errors import UserError


def composed(*overrides: str) -> dict[str, Any]:
    return compose(list(overrides))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1.5h", 5400), (45, 45), ("1d", 86400)],
)
def test_durations(text: Any, seconds: float) -> None:
    assert config.seconds(text, "train.max_time") == seconds


@pytest.mark.parametrize("text", ["soon", "-1", 0, "3x", "", "h", True])
def test_what_is_no_duration_is_refused(text: Any) -> None:
    with pytest.raises(UserError, match=r"train\.max_time"):
        config.seconds(text, "train.max_time")


def test_every_name_that_scripts_rely_on_has_a_default() -> None:
    whole = composed("data=csv")
    names = (
        "job.dir job.name job.seed train.max_steps train.epochs train.batch_size train.precision data.train "
        "data.validation data.test data.label data.header launcher.workers checkpoint.every checkpoint.keep algorithm.lr"
    )
    for name in names.split():
        group, key = name.split(".")
        assert key in whole[group], name


@pytest.mark.parametrize("algorithm", ["linear", "gpt", "gpt_small", "gpt_1b", "gpt_7b", "xgboost"])
@pytest.mark.parametrize("data", ["digits", "csv", "text"])
def test_every_choice_passes_its_own_checks(algorithm: str, data: str) -> None:
    checked = config.check(composed(f"algorithm={algorithm}", f"data={data}"))
    assert checked["algorithm"]["lr"] > 0


def test_a_number_written_with_an_exponent_is_a_number() -> None:
    assert config.check(composed("algorithm.lr=1e-3"))["algorithm"]["lr"] == 0.001


@pytest.mark.parametrize(("written", "read"), [("64", 64), ("auto", "auto"), ("'64'", 64)])
def test_a_batch_is_a_number_or_left_to_us(written: str, read: Any) -> None:
    checked = config.check(composed(f"train.batch_size={written}", "train.gradient_accumulation=8"))
    assert checked["train"]["batch_size"] == read


def test_paths_do_not_depend_on_where_a_job_was_submitted(folder: Path) -> None:
    data = config.check(composed("data=csv", "data.train=[a.csv,b/*.csv]", "data.validation=v.csv"))["data"]
    assert data["train"] == [str(folder / "a.csv"), str(folder / "b/*.csv")]
    assert data["validation"] == str(folder / "v.csv")
    assert config.check(composed("data=csv", "data.validation=0.2"))["data"]["validation"] == 0.2


def test_another_class_does_not_inherit_the_settings_of_the_one_it_replaces() -> None:
    algorithm = composed("algorithm._target_=mine.Mine", "+algorithm.hidden=64", "algorithm.lr=0.5")["algorithm"]
    assert algorithm == {"_target_": "mine.Mine", "hidden": 64, "lr": 0.5}


def test_the_same_job_may_run_elsewhere_but_not_train_otherwise() -> None:
    one = composed("job.seed=1")
    assert config.differing_keys(one, composed("job.seed=1", "launcher.workers=4", "checkpoint.every=5")) == []
    assert config.differing_keys(one, composed("job.seed=2")) == ["job.seed: 1 there, 2 here"]
    [difference] = config.differing_keys(one, composed("job.seed=1", "algorithm.lr=0.5"))
    assert difference.startswith("algorithm.lr")


def test_a_job_of_before_a_setting_was_there_is_the_same_with_its_default() -> None:
    old, new = composed("data=csv"), composed("data=csv")
    for key in ("drop", "decimal", "changed"):
        del old["data"][key]
    assert config.differing_keys(old, new) == []
    assert config.differing_keys(old, composed("data=csv", "data.decimal=','")) == ["data.decimal: '.' there, ',' here"]


def test_an_experiment_overrides_several_groups() -> None:
    whole = composed("+experiment=digits_two_workers")
    assert whole["launcher"]["workers"] == 2
    assert whole["train"]["early_stopping"]["patience"] == 5


def test_a_folder_of_ones_own_configs(folder: Path) -> None:
    (folder / "mine/train").mkdir(parents=True)
    (folder / "mine/train/short.yaml").write_text("max_steps: 7\n")
    assert compose(["train=short"], config_dir=folder / "mine")["train"]["max_steps"] == 7


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "~train.epochs",
            "~train.epochs: its default would stay; write train.epochs=null for none, or leave it out for the default",
        ),
        (
            "~algorithm.lr=0.05",
            "~algorithm.lr: its default would stay; write algorithm.lr=null for none, or leave it out for the default",
        ),
        (
            "~train.early_stopping",
            "~train.early_stopping: the defaults below it would stay; write them one by one, such as "
            "train.early_stopping.metric=VALUE",
        ),
        ("~tracking", "~tracking: a job has one tracking always; write tracking=none"),
        ("~strategy", "~strategy: a job has one strategy always; write strategy=NAME for another, or leave it out"),
        (
            "tracking=[tensorboard,mlflow]",
            "tracking=[tensorboard,mlflow]: one can be chosen, not several; write tracking=tensorboard",
        ),
        ("search=[tpe, gp]", "search=[tpe, gp]: one can be chosen, not several; write search=tpe"),
        ("algorithm.rounds=3", "algorithm.rounds: what is chosen has no such key; it is one of algorithm=xgboost"),
    ],
)
def test_what_would_be_taken_and_do_nothing_is_told(override: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        compose([override])
    assert str(caught.value) == line


def test_keys_of_the_users_own_may_be_taken_away() -> None:
    added = ["+algorithm.hyperparameters.a=1", "+algorithm.hyperparameters.b=2"]
    config = compose(["algorithm=script", *added, "~algorithm.hyperparameters.a"])
    assert config["algorithm"]["hyperparameters"] == {"b": 2}


def test_a_config_file_that_chooses_several_is_told(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    several = "# @package _global_\ndefaults:\n  - override /tracking: [tensorboard, mlflow]\n"
    (tmp_path / "experiment" / "both.yaml").write_text(several)
    with pytest.raises(UserError, match=r"^tracking: a config file chooses several, and one counts"):
        compose(["+experiment=both"], config_dir=tmp_path)
