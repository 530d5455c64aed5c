"""Studies from Python: what is searched, what comes back, and what is refused before Ray is started."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trainer
from tests.tuning.written import over, written
from trainer.api import tuning
from trainer.errors import ExitCode

X = np.arange(40.0).reshape(20, 2)


@pytest.fixture
def driven(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[Mapping[str, Any]]:
    """The facts of each study that would be driven. In its place comes back one that has been."""
    known: list[Mapping[str, Any]] = []

    def run(directory: Path, facts: Mapping[str, Any], *, recommended: bool, verbose: bool) -> int:
        known.append({**facts, "directory": directory, "recommended": recommended, "verbose": verbose})
        if not (folder / "study").exists():
            over(written(folder / "study"), "6 trials were made")
        return 0

    read = tuning.read
    monkeypatch.setattr(tuning, "run", run)
    monkeypatch.setattr(tuning, "read", lambda directory: read(folder / "study"))
    return known


def test_a_space_is_told_in_python(folder: Path, driven: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    space = {"algorithm.lr": "tag(log, interval(1e-4, 1))", "algorithm.l1": {"low": 0, "high": np.float64(0.1)}}
    trainer.tune(algorithm="linear", tune={"trials": 3}, space={**space, "train.batch_size": np.array([16, 32])})
    (facts,) = driven
    found = facts["space"]["parameters"]
    assert {key: (one["kind"], one.get("high"), one.get("choices")) for key, one in found.items()} == {
        "algorithm.lr": ("float", 1.0, None),
        "algorithm.l1": ("float", 0.1, None),
        "train.batch_size": ("choice", None, [16, 32]),
    }
    assert (facts["recommended"], facts["options"]["tune"]["trials"]) == (False, 3)
    trainer.tune(["algorithm=linear", "algorithm.lr=interval(0.1,1)"], verbose=True)
    assert list(driven[1]["space"]["parameters"]) == ["algorithm.lr"]
    assert [one["verbose"] for one in driven] == [False, True]


def test_rows_are_kept_with_the_study(folder: Path, driven: list[Any]) -> None:
    settings = {"algorithm": "linear", "study.name": "mine"}

    trainer.tune(settings, data=(X, X[:, 0]))
    assert [*folder.glob("studies/*")] == []  # nobody has driven it: its rows are gone too
    (facts,) = driven
    path = folder / "studies/mine/data/train.parquet"
    assert facts["directory"] == folder / "studies/mine"
    assert facts["base"]["data"]["train"] == str(path)
    assert f"data.train={path}" in [override.replace('"', "") for override in facts["overrides"]]


def test_what_a_study_came_to(folder: Path, driven: list[Any]) -> None:
    study = trainer.tune(algorithm="linear")
    assert driven[0]["recommended"]
    assert study.best is not None
    assert (study.best.number, study.best.metric, study.best.overrides) == (
        1,
        "validation_accuracy",
        {"algorithm.lr": 0.1},
    )
    assert study.best.value == pytest.approx(0.919)
    assert study.best.model == f"{study.best.dir}/model"
    assert [trial.state for trial in study.trials][:4] == ["completed", "completed", "stopped_early", "failed"]
    history = study.history()
    assert history["algorithm.lr"].tolist() == [0.01, 0.1, 1e-4, 1.0, 0.03, 0.2]
    assert history["metrics.validation_accuracy"].iloc[1] == study.best.value
    lines = repr(study).splitlines()
    assert lines[0].startswith("Completed  study  in ")
    assert lines[2:] == [
        "best   trial 1: validation_accuracy 0.9190  (lr 0.1)",
        "model  study/trials/0001-0badcafe/model",
    ]


@pytest.mark.parametrize("code", [ExitCode.STOPPED, ExitCode.INTERRUPTED])
def test_a_study_that_was_stopped_says_so(
    folder: Path, driven: list[Any], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    run = tuning.run
    monkeypatch.setattr(tuning, "run", lambda *given, **named: run(*given, **named) or code)
    assert trainer.tune(algorithm="linear").status == "Stopped"
    monkeypatch.setattr(tuning, "run", lambda *given, **named: run(*given, **named) or 1)
    with pytest.raises(trainer.HeadwayError, match="study: 6 trials were made; see `headway tune show study`"):
        trainer.tune(algorithm="linear")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"space": {"algorithm.lrr": "interval(1,2)"}},
            "algorithm.lrr: Linear has no such setting; did you mean 'lr'?",
        ),
        ({"space": {"algorithm.lr": (1, 2)}}, "may be choices or bounds; write a list of choices, or {'low': …"),
        ({"space": {"algorithm.lr": 3}}, "algorithm.lr: 3 is one value"),
        ({"space": ["algorithm.lr"]}, "space: it is a dict, such as"),
        ({"tune": {"trial": 3}}, "tune.trial: there is no such key; did you mean 'tune.trials'"),
        ({"study": {"dry_run": True}}, "study.dry_run: there would be no study to return"),
        ({"job": {"name": "x"}}, "job.name: each trial has its own; set study.name instead"),
        ({"data": (X, X[:, 0]), "study": {"dir": "s3://bucket/study"}}, "give a path"),
        ({"data": X}, "data.label: linear learns from a label; name its column, one of 0, 1"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(folder: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(trainer.UserError) as error:
        trainer.tune({"algorithm": "linear"}, **settings)
    assert said in str(error.value)
    assert [*folder.iterdir()] == []


@pytest.mark.slow
def test_a_study_on_rows_from_python_is_driven_and_found_again(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import ray  # noqa: F401 - with settings of its own, as a person's script may have done

    settings = {"algorithm": "linear", "train.epochs": 1, "tune.trials": 2, "study.name": "mine"}
    study = trainer.tune(settings, data=(X, X[:, 0]), space={"algorithm.lr": [0.01, 0.1]})
    assert study.status == "Completed"
    assert sorted(study.history()["algorithm.lr"]) == [0.01, 0.1]
    assert study.best is not None
    assert trainer.load(study.best.model or "").predict(X)["prediction"].shape == (20,)
    assert capfd.readouterr() == ("", "")
    again = trainer.tune(settings, data=(X, X[:, 0]), space={"algorithm.lr": [0.01, 0.1]}, verbose=True)
    assert "Study  mine" in capfd.readouterr().out
    assert again.best == study.best
    with pytest.raises(trainer.UserError, match="the rows are others than when mine began; give those, or choose"):
        trainer.tune(settings, data=(X + 1, X[:, 0]), space={"algorithm.lr": [0.01, 0.1]})
