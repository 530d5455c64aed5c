from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tests.jobs import end, make_job, start, validate
from trainer.cli.command import main
from trainer.errors import UserError
from trainer.job.directory import Job, State
from trainer.job.view.comparing import compare, curve, jobs_of

DEFAULTS = {"lr": "0.03", "batch_size": "32"}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("runs")


def made(runs: Path, name: str, *accuracies: float, **keys: str) -> Job:
    job = make_job(runs.absolute() / name)
    text = job.config_path.read_text()
    for old, new in keys.items():
        text = text.replace(f"{old}: {DEFAULTS[old]}", f"{old}: {new}")
    job.config_path.write_text(text)
    start(job)
    for i, value in enumerate(accuracies):
        validate(job, 50 * (i + 1), validation_accuracy=value)
    return job


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    return {" ".join(line[:2]) if line[0].startswith("validation") else line[0]: line for line in lines}


def test_only_keys_that_differ_are_told_and_the_best_is_marked(runs: Path, capsys: pytest.CaptureFixture[str]):
    made(runs, "a", 0.5, 0.9, 0.8)
    made(runs, "b", 0.4, 0.7, lr="0.3")
    assert main(["compare", "a", "b"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    for same in ("batch_size", "job.name", "job.dir"):
        assert same not in out
    lines = [line.split() for line in out.splitlines()]
    assert ["a", "b"] in lines
    assert ["algorithm.lr", "0.03", "0.3"] in lines
    assert ["validation_accuracy", "best", "0.9000", "*", "0.7000"] in lines
    assert ["validation_accuracy", "last", "0.8000", "*", "0.7000"] in lines
    assert any("▁" in "".join(line) for line in lines)


def test_less_is_better_unless_the_job_says_otherwise_and_nan_never_is(runs: Path, capsys: pytest.CaptureFixture[str]):
    for name, value in (("a", 0.2), ("b", math.nan), ("c", 0.1)):
        validate(made(runs, name), 50, validation_loss=value)
    compare(["a", "b", "c"])
    assert told(capsys)["validation_loss best"][2:] == ["0.2000", "nan", "0.1000", "*"]


def test_a_folder_means_all_its_jobs_in_the_order_of_their_numbers(runs: Path):
    for name in ("sweep/10", "sweep/9"):
        made(runs, name)
    assert [job.name for job in jobs_of("sweep")] == ["9", "10"]
    assert [job.name for job in jobs_of("runs/sweep")] == ["9", "10"]


def test_a_study_means_its_trials_and_one_without_any_is_told(runs: Path):
    (runs / "search").mkdir(parents=True)
    (runs / "search" / "study.yaml").write_text("{}")
    with pytest.raises(UserError, match="runs/search is a study without trials"):
        jobs_of("search")
    made(runs, "search/trials/0")
    made(runs, "search/trials/1")
    assert [job.name for job in jobs_of("search")] == ["0", "1"]


def test_a_job_that_is_not_there_or_alone_is_one_line(runs: Path, capsys: pytest.CaptureFixture[str]):
    made(runs, "first")
    assert main(["compare", "first", "frist"]) == 2
    assert main(["compare", "first", "runs/first"]) == 2
    wrong, alone = capsys.readouterr().err.splitlines()
    assert "there is no job 'frist' in runs; " in wrong
    assert "first is one job" in alone
    with pytest.raises(UserError, match="there is no job"):
        jobs_of("empty")


def test_failed_and_damaged_jobs_stand_beside_the_others(runs: Path, capsys: pytest.CaptureFixture[str]):
    made(runs, "good", 0.5)
    end(made(runs, "bad"), State.FAILED, {"type": "E", "message": "m", "rank": 0})
    made(runs, "lost", 0.6).config_path.write_text("a: [")
    compare(["good", "bad", "lost"])
    out = capsys.readouterr().out
    assert out.splitlines()[1].split() == ["state", "Running", "Failed", "Running"]
    assert "no key of their configs differs" in out
    assert "lost: damaged:" in out


def test_other_algorithms_have_other_keys(runs: Path, capsys: pytest.CaptureFixture[str]):
    made(runs, "linear")
    other = made(runs, "trees")
    text = other.config_path.read_text().replace("linear.Linear\n  lr: 0.03", "xgboost.XGBoost\n  rounds: 7")
    other.config_path.write_text(text)
    compare(["linear", "trees"])
    found = told(capsys)
    assert found["algorithm"][1:] == ["linear", "xgboost"]
    assert found["algorithm.lr"][1:] == ["0.03", "-"]
    assert found["algorithm.rounds"][1:] == ["-", "7"]


def test_json_has_a_record_a_job(runs: Path, capsys: pytest.CaptureFixture[str]):
    made(runs, "a", 0.5)
    made(runs, "b", 0.6, batch_size="64")
    compare(["a", "b"], as_json=True)
    a, b = json.loads(capsys.readouterr().out)["jobs"]
    assert (a["differs"], b["differs"]) == ({"train.batch_size": 32}, {"train.batch_size": 64})
    assert b["metrics"]["validation_accuracy"]["best"]["value"] == 0.6


def test_a_curve_is_as_wide_as_its_steps():
    assert curve([(5, 0.0), (10, 1.0)], 10, 10, 0.0, 1.0) == "     ▁▁▁▁█"
    assert curve([(2, math.nan), (4, 1.0)], 10, 10, 0.0, 1.0) == "  xx█"
    assert curve([(0, 3.0)], 8, 0, 3.0, 3.0) == "▅"
