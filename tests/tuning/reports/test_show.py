from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tuning.written import begun, big, over, written
from trainer.tuning.record import read
from trainer.tuning.reports.show import closing, show


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_a_study_is_shown_with_its_best_trials_and_its_failures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "digits")
    over(tmp_path / "digits", "six trials were made")
    record = read(tmp_path / "digits")
    began = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(record.created))
    show(record)
    assert lines_of(capsys) == [
        "digits  ended  six trials were made",
        "tuned   linear",
        "goal    validation_accuracy (max)",
        "space   algorithm.lr  0.0001 … 1.0, log",
        f"began   {began}, over after 10 min 5 s",
        "search  bayes, scheduler asha, seed 3",
        "trials  5 trials: 1 interrupted, 2 completed, 1 stopped early, 1 failed; 1 trial of earlier studies",
        "time    10 min 5 s, 0.2178 device-hours, 5.0 s lost to 2 interruptions",
        "",
        "best trials",
        "trial   validation_accuracy     lr         time",
        "    1                0.9190    0.1   1 min 30 s",
        "    0                0.9090   0.01   1 min 30 s",
        "",
        "failed   why                           trials",
        "     1   NaN: the loss is not finite   3",
        "",
        "folder   digits",
        "storage  digits/study.journal",
    ]


def test_the_three_most_important_parameters_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    show(big(tmp_path, 100))
    told = next(line for line in lines_of(capsys) if line.startswith("weighs"))
    assert "algorithm.optimizer " in told
    assert "algorithm.lr " in told
    assert told.count("%") <= 3


def test_of_several_objectives_the_front_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    record = big(tmp_path, 60, objectives=2)
    show(record)
    lines = lines_of(capsys)
    first = lines.index("Pareto front") + 2
    shown = [int(line.split()[0]) for line in lines[first : first + len(record.front())]]
    assert shown == [trial.number for trial in record.front()]


def test_json_holds_everything_and_no_nan(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    record = read(written(tmp_path / "digits"))
    bad = replace(record.trials[0], objective=(float("nan"),), metrics={"validation_accuracy": float("inf")})
    show(replace(record, trials=[bad, *record.trials[1:]]), as_json=True)
    told = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert told["counts"] == {"interrupted": 1, "completed": 2, "stopped_early": 1, "failed": 1}
    assert told["best"]["number"] == 1
    assert told["best"]["values"] == {"algorithm.lr": 0.1}
    assert told["model"].endswith("trials/0001-0badcafe/model")
    assert told["trials"][0]["objective"] == {"validation_accuracy": None}
    assert told["failures"] == [{"reason": "NaN: the loss is not finite", "trials": [3]}]


def test_the_closing_says_what_is_best_where_its_model_is_and_what_to_type_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "digits")
    over(tmp_path / "digits", "six trials were made")
    closing(read(tmp_path / "digits"))
    assert lines_of(capsys) == [
        "",
        "Study  digits  in 10 min 5 s",
        "six trials were made",
        "5 trials: 1 interrupted, 2 completed, 1 stopped early, 1 failed; 1 trial of earlier studies; "
        "10 min 5 s, 0.2178 device-hours, 5.0 s lost to 2 interruptions",
        "best: trial 1                  default",
        "validation_accuracy   0.9190",
        "algorithm.lr             0.1      0.05",
        "model  digits/trials/0001-0badcafe/model",
        "next   headway train --config-dir digits --config-name best",
        "       headway predict model=digits/trials/0001-0badcafe/model data=digits",
        "       headway tune show digits",
    ]


def test_an_empty_study_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    begun(tmp_path / "new", metrics=("loss",), goals=("min",))
    show(read(tmp_path / "new"))
    closing(read(tmp_path / "new"))
    out = capsys.readouterr().out
    assert re.search("^trials  0 trials *$", out, re.MULTILINE)
    assert "no trial was made\n" in out


def test_a_study_in_which_all_failed_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    record = big(tmp_path, 4)
    trials = [replace(t, state="failed", reason="NaN: the loss is not finite", objective=None) for t in record.trials]
    closing(replace(record, trials=trials))
    out = capsys.readouterr().out
    assert "every trial failed\n" in out
    assert "4 trials: NaN: the loss is not finite\n" in out
