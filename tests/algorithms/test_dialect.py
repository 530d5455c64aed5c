"""What hyperparameters look like to a script hangs on which of SageMaker's ways to start it was written for."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from algorithms.script import Script
from algorithms.script.contract import Container, all_variables
from algorithms.script.dialect import FRAMEWORK, PLAIN, SDK3, choose
from algorithms.script.distribution import Distribution
from algorithms.script.starting import command
from tests.algorithms import modeltrainer
from trainer.errors import UserError

GIVEN: dict[str, Any] = {
    "name": "adam", "lr": 1e-5, "epochs": 3, "on": True, "off": False, "nothing": None, "layers": [64, 32], "k": 1,
    "nested": {"b": [1, {"c": "d"}], "a": "x y"}, "batch-size": 32, "text": "0.10", "json": "[1, 2]", "true": "true",
    "words": 'two  "words" $HOME', "empty": "", "é": "ü",
}  # fmt: skip


def container(base: Path, dialect: str, entry: str = "train.py", **more: Any) -> Container:
    made = Container(base / "ml", entry, GIVEN, ("training", "my-val"), dialect=dialect, job_name="one", **more)
    made.write()
    made.code.mkdir(parents=True, exist_ok=True)
    (made.code / entry).touch()
    return made


def hyperparameters(made: Container) -> dict[str, str]:
    found: dict[str, str] = json.loads((made.config / "hyperparameters.json").read_text(encoding="utf-8"))
    return found


def test_frameworks_write_json_and_a_plain_estimator_text(tmp_path: Path) -> None:
    framework = hyperparameters(container(tmp_path / "a", FRAMEWORK))
    assert framework["name"] == '"adam"'
    assert framework["sagemaker_program"] == '"train.py"'
    assert hyperparameters(container(tmp_path / "b", PLAIN)) == {
        **{"name": "adam", "lr": "1e-05", "epochs": "3", "on": "True", "off": "False", "nothing": "None", "k": "1"},
        **{"layers": "[64, 32]", "nested": "{'b': [1, {'c': 'd'}], 'a': 'x y'}", "batch-size": "32", "text": "0.10"},
        **{"json": "[1, 2]", "true": "true", "words": 'two  "words" $HOME', "empty": "", "é": "ü"},
    }
    sdk3 = hyperparameters(container(tmp_path / "c", SDK3))
    assert list(sdk3) == list(GIVEN)
    assert (sdk3["name"], sdk3["on"], sdk3["nothing"], sdk3["layers"]) == ("adam", "true", "null", "[64, 32]")


@pytest.mark.slow
@pytest.mark.parametrize("entry", ["train.py", "train.sh"])
@pytest.mark.parametrize("distribution", [None, "torch_distributed", "mpi"])
def test_a_script_gets_the_arguments_and_variables_that_modeltrainer_gives(
    tmp_path: Path, entry: str, distribution: str | None
) -> None:
    hosts = {"hosts": ("algo-1", "algo-2"), "current_host": "algo-2", "cpus": os.cpu_count() or 1}
    spread = Distribution.of(distribution).configured(2)
    made = container(tmp_path, SDK3, entry, spread=spread, **hosts)
    theirs = modeltrainer.run(made.root, {"TRAINING_JOB_NAME": "one"})
    gpus = {"gpus": int(theirs["env"]["SM_NUM_GPUS"])}
    ours = all_variables(dataclasses.replace(made, **gpus), "algo-1", 7777)
    told = {name: value for name, value in ours.items() if name.startswith("SM_")}
    assert json.loads(told.pop("SM_TRAINING_ENV")) == json.loads(theirs["env"].pop("SM_TRAINING_ENV"))
    assert told == theirs["env"]
    if entry.endswith(".py"):
        assert command(made) == theirs["command"]
    else:
        assert command(made)[:2] == theirs["command"][:2]
        assert command(made)[2] == theirs["command"][2].removeprefix(f"chmod +x {entry} && ")
    assert made.code == made.root / "input" / "data" / "code"
    assert sorted(path.name for path in made.data.iterdir()) == ["code", "sm_drivers"]


def test_arguments_of_its_own_are_given_in_place_of_hyperparameters(tmp_path: Path) -> None:
    assert command(container(tmp_path, PLAIN, "train", given=("train", "a b"))) == [
        "/bin/sh",
        "-c",
        "./train train 'a b'",
    ]
    assert command(container(tmp_path, FRAMEWORK, given=())) == [sys.executable, "train.py"]
    assert command(container(tmp_path, SDK3, "run")) == ["/bin/sh", "-c", "./run"]


@pytest.mark.parametrize(
    ("entry", "files", "dialect"),
    [
        ("train.py", {"train.py": ""}, FRAMEWORK),
        ("train.py", {"train.py": "os.environ['SM_HP_LR'], os.environ['SM_HOSTS']"}, FRAMEWORK),
        ("train.py", {"train.py": "os.environ['SM_SOURCE_DIR']"}, SDK3),
        ("train.py", {"train.py": "import b", "b.py": "os.environ.get('SM_HOST_COUNT')"}, SDK3),
        ("train.py", {"train.py": "e.get('SM_MASTER_ADDR'), e.get('SM_USER_ARGS')"}, FRAMEWORK),
        ("train.sh", {"train.sh": "cd $SM_SOURCE_DIR"}, SDK3),
        ("train.sh", {"train.sh": "echo $SM_MODEL_DIR"}, PLAIN),
        ("train", {"train": "#!/usr/bin/env python"}, PLAIN),
        ("mine.train", {"setup.py": "", "mine/train.py": ""}, FRAMEWORK),
    ],
)
def test_a_dialect_is_chosen_where_it_can_be_known(
    tmp_path: Path, entry: str, files: dict[str, str], dialect: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert choose("auto", entry, tmp_path)[0] == dialect
    assert choose("framework", entry, tmp_path) == ("framework", "")


def test_an_unknown_dialect_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    with pytest.raises(UserError, match="did you mean 'sdk3'"):
        Script(dialect="sdk").check(tmp_path)  # type: ignore[arg-type]
