"""What a sweep's table says of its jobs beside their results."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.jobs import make_job, start, validate
from trainer.job.view.listing import table
from trainer.job.view.varying import varying


def test_the_keys_in_which_jobs_differ_have_short_names() -> None:
    one = {
        "algorithm": {"_target_": "a", "lr": 0.1, "depth": 2},
        "train": {"epochs": 3},
        "job": {"name": "x", "seed": 1},
    }
    other = {"algorithm": {"_target_": "b", "lr": 0.02}, "train": {"epochs": 3}, "job": {"name": "y", "seed": 1}}
    assert varying([one, other]) == {"lr": ["0.1", "0.02"], "depth": ["2", ""]}
    both = [{"algorithm": {"lr": 1}, "train": {"lr": 2}}, {"algorithm": {"lr": 3}, "train": {"lr": 4}}]
    assert varying(both) == {"algorithm.lr": ["1", "3"], "train.lr": ["2", "4"]}
    assert varying([one]) == {}


def test_a_sweeps_table_has_the_swept_values_and_marks_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    jobs = []
    for lr, accuracy in ((0.1, 0.9), (0.2, 0.95)):
        job = make_job(tmp_path / f"runs/sweep/lr={lr}")
        config = yaml.safe_load(job.config_path.read_text())
        config["algorithm"]["lr"] = lr
        job.config_path.write_text(yaml.safe_dump(config))
        start(job)
        validate(job, 10, validation_accuracy=accuracy)
        jobs.append(job)
    table(jobs)
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["job", "lr"]
    assert [row.split()[1] for row in rows] == ["0.1", "0.2"]
    assert ["best" in row for row in rows] == [False, True]
