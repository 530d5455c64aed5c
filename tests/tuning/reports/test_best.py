from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.tuning.written import begun, big, written
from trainer.cli import command
from trainer.config import schema
from trainer.job.directory import Job
from trainer.job.result import is_of_the_run
from trainer.tuning.record import read
from trainer.tuning.reports.best import write_best


def test_it_is_the_best_trials_config_with_a_place_of_its_own(tmp_path: Path):
    record = read(written(tmp_path / "digits"))
    path = write_best(record)
    assert path is not None
    best = schema.load(path)
    there = schema.load(tmp_path / "digits" / "trials" / "0001-0badcafe" / "config.yaml")
    assert {noun: best[noun] for noun in there if noun != "job"} == {n: v for n, v in there.items() if n != "job"}
    assert best["job"] == {"name": None, "dir": None, "seed": 7}


def test_it_begins_with_what_it_is_and_how_it_runs(tmp_path: Path):
    folder = written(tmp_path / "digits")
    path = write_best(read(folder))
    assert path is not None
    assert path.read_text().splitlines()[:3] == [
        "# The best trial of the study digits: trial 1, validation_accuracy 0.9190",
        f"# its model: {folder}/trials/0001-0badcafe/model",
        f"# headway train --config-dir {folder} --config-name best",
    ]


def test_nothing_is_written_while_no_trial_is_the_best(tmp_path: Path):
    begun(tmp_path / "new", metrics=("loss",), goals=("min",))
    assert write_best(read(tmp_path / "new")) is None
    assert write_best(big(tmp_path, 10)) is None  # whose jobs are elsewhere
    assert not list(tmp_path.glob("**/best.yaml"))


def test_a_value_that_looks_like_an_interpolation_is_taken_as_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    folder = written(tmp_path / "digits")
    job = Job(folder / "trials" / "0001-0badcafe")
    text = job.config_path.read_text().replace("train: null", "train: '/data/${x}/a.csv'").replace("Digits", "Csv")
    job.config_path.write_text(text)
    write_best(read(folder))
    monkeypatch.chdir(tmp_path)
    assert command.main(["train", "--config-dir", str(folder), "--config-name", "best", "--cfg", "job"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["data"]["train"].replace("\\", "") == "/data/${x}/a.csv"


@pytest.mark.slow
def test_it_trains_exactly_the_best_trial_again(folder: Path):
    study = begun(folder / "study", metrics=("validation_accuracy",), goals=("max",))
    for number, lr in enumerate([0.001, 0.1]):
        name = f"{number:04d}-0badcafe"
        words = [f"algorithm.lr={lr}", "train.epochs=3", "job.seed=11", "launcher.workers=1"]
        place = folder / "study" / "trials" / name
        assert command.main(["train", "algorithm=linear", "data=digits", *words, f"job.dir={place}"]) == 0
        trial = study.ask()
        last = Job(place).metrics()[-1]["values"]
        for key, told in {"config": {"algorithm.lr": lr}, "job": name, "values": last}.items():
            trial.set_user_attr(key, told)
        study.tell(trial, last["validation_accuracy"])
    record = read(folder / "study")
    write_best(record)
    words = ["--config-dir", str(folder / "study"), "--config-name", "best"]
    assert command.main(["train", *words, "job.name=again"]) == 0

    def reported(job: Job) -> str:
        lines = job.metrics()
        own = [{k: v for k, v in line["values"].items() if not is_of_the_run(k)} for line in lines]
        return json.dumps([[line["step"], values] for line, values in zip(lines, own, strict=True)])

    best = record.best()
    assert best is not None
    assert best.values == {"algorithm.lr": 0.1}
    there = record.job(best)
    assert there is not None
    again = Job(folder / "runs" / "again")
    assert reported(again) == reported(there)
    assert (again.model / "model.safetensors").read_bytes() == (there.model / "model.safetensors").read_bytes()
