from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.jobs import end, make_job, progress, start, validate
from trainer.config.schema import load
from trainer.errors import UserError
from trainer.job.directory import Job, State, Status
from trainer.job.view.listing import find_job, list_jobs, logs, show


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("runs")


def made(runs: Path, name: str, minutes_ago: float = 0.0) -> Job:
    job = make_job(runs.absolute() / name)
    then = time.time() - 60 * minutes_ago
    os.utime(job.config_path, (then, then))
    return job


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_a_job_is_found_by_name_and_by_path(runs: Path, tmp_path: Path):
    job = made(runs, "first")
    sweep = made(runs, "sweep/0")
    assert find_job("first") == job
    assert find_job("runs/first") == job
    assert find_job(str(job.dir)) == job
    assert find_job("sweep/0") == sweep


def test_a_wrong_name_names_the_nearest_one(runs: Path):
    made(runs, "linear-digits")
    with pytest.raises(UserError, match="there is no job 'linear-digit' in runs; did you mean 'linear-digits'"):
        find_job("linear-digit")
    with pytest.raises(UserError, match="runs is not a job's directory"):
        find_job("runs")


def test_a_name_like_no_other_lists_few_jobs_and_points_at_the_list_of_many(runs: Path):
    made(runs, "a1")
    with pytest.raises(UserError, match="there is a1"):
        find_job("zzzz")
    for i in range(6):
        made(runs, f"b{i}")
    with pytest.raises(UserError, match="`headway ls` lists them"):
        find_job("zzzz")


def test_jobs_are_listed_newest_last_with_their_best_metric(runs: Path, capsys: pytest.CaptureFixture[str]):
    end(made(runs, "new", minutes_ago=1))
    end(made(runs, "old", minutes_ago=200), State.FAILED, {"type": "E", "message": "m", "rank": 0})
    list_jobs()
    head, old, new = told(capsys)
    assert head.split() == ["job", "state", "algorithm", "data", "workers", "best", "steps", "time", "age"]
    assert old.split() == ["old", "Failed", "linear", "digits", "2", "accuracy", "0.9750", "500", "0:12", "3", "h"]
    assert new.split()[:2] == ["new", "Completed"]


def test_a_running_job_shows_how_far_it_is_and_a_dead_one_that_it_was_interrupted(
    runs: Path, capsys: pytest.CaptureFixture[str]
):
    job = made(runs, "going", minutes_ago=2)
    start(job)
    progress(job, 120)
    validate(job, 50, validation_accuracy=0.9, train_loss=0.3)
    validate(job, 100, validation_accuracy=0.8)
    list_jobs()
    line = told(capsys)[1].split()
    assert line[:8] == ["going", "Running", "linear", "digits", "2", "accuracy", "0.9000", "120/500"]
    assert line[8].startswith("2:0")
    list_jobs(status_of=lambda job: Status(State.INTERRUPTED, False))
    assert told(capsys)[1].split()[1] == "Interrupted"


def test_the_list_as_json_has_a_record_a_job(runs: Path, capsys: pytest.CaptureFixture[str]):
    job = made(runs, "first")
    list_jobs(as_json=True)
    end(job)
    (pending,) = json.loads(capsys.readouterr().out)
    assert pending["state"] == "Pending"
    assert pending["best"] is None
    list_jobs(as_json=True)
    (record,) = json.loads(capsys.readouterr().out)
    assert record["name"] == "first"
    assert record["dir"] == str(job.dir)
    assert (record["metric"], record["best"], record["steps"]) == ("validation_accuracy", 0.975, 500)
    assert list(pending) == list(record)


def test_json_has_null_for_what_is_not_a_number(runs: Path, capsys: pytest.CaptureFixture[str]):
    job = made(runs, "first")
    start(job)
    validate(job, 10, validation_loss=float("nan"))
    list_jobs(as_json=True)
    show(job, as_json=True)
    out = capsys.readouterr().out
    assert "NaN" not in out
    assert '"best": null' in out


def test_no_jobs_says_how_to_make_one(runs: Path, capsys: pytest.CaptureFixture[str]):
    list_jobs()
    assert told(capsys) == ["no jobs in runs; `headway train algorithm=linear data=digits` makes one"]
    list_jobs(as_json=True)
    assert json.loads(capsys.readouterr().out) == []


def test_a_job_with_a_damaged_config_is_listed_and_named_when_shown(runs: Path, capsys: pytest.CaptureFixture[str]):
    job = made(runs, "broken")
    job.config_path.write_text("a: [1\n")
    list_jobs()
    assert told(capsys)[1].split()[:4] == ["broken", "Pending", "-", "-"]
    with pytest.raises(UserError, match=r"runs/broken/config\.yaml can't be read"):
        show(job)


def test_one_job_is_shown_with_everything_about_it(runs: Path, capsys: pytest.CaptureFixture[str]):
    job = made(runs, "first")
    start(job)
    (job.dir / "events.out.tfevents.1.host.2").touch()
    end(job)
    show(job)
    lines = told(capsys)
    assert lines[0] == "first  Completed"
    assert "algorithm  linear lr=0.03" in lines
    assert "data       digits" in lines
    assert "validation_accuracy   0.9500   0.9750       400" in lines
    assert [line.split()[4] for line in lines if " +" in line and " s  " in line] == [
        "Pending",
        "Starting",
        "Running",
        "Completed",
    ]
    assert "tensorboard  runs/first" in lines
    assert "model        runs/first/model" in lines


def test_a_failed_job_is_shown_with_its_error(runs: Path, capsys: pytest.CaptureFixture[str]):
    job = made(runs, "first")
    log = str(job.log_path(0, 1))
    end(job, State.FAILED, {"type": "ValueError", "message": "no", "rank": 1, "where": "a.py:8", "log": log})
    show(job)
    assert (
        f"first failed: a.py:8: ValueError: no (rank 1); the trace is in {Path(log).relative_to(Path.cwd())}"
        in told(capsys)
    )


def test_one_job_as_json_has_its_files_as_they_are(runs: Path, capsys: pytest.CaptureFixture[str]):
    job = made(runs, "first")
    start(job)
    show(job, as_json=True)
    record = json.loads(capsys.readouterr().out)
    assert record["state"] == "Running"
    assert record["result"] is None
    assert record["events"] == job.events()
    assert record["config"] == load(job.config_path)
    end(job)
    show(job, as_json=True)
    later = json.loads(capsys.readouterr().out)
    assert later["result"] == job.result()
    assert later["files"]["model"] == str(job.model)
    assert list(later) == list(record)


def test_logs_of_several_ranks_are_told_apart(runs: Path, capsys: pytest.CaptureFixture[str]):
    job = made(runs, "first")
    job.log_path(0, 0).write_text("old\n")
    job.log_path(1, 0).write_text("zero\nhalf a line")
    job.log_path(1, 1).write_text("one\n")
    logs(job)
    assert told(capsys) == ["[rank 0] zero", "[rank 0] half a line", "[rank 1] one"]
    logs(job, rank=1)
    assert told(capsys) == ["one"]
    with pytest.raises(UserError, match="first has no log of rank 5; there is 0, 1"):
        logs(job, rank=5)


def test_before_workers_have_logs_the_agents_are_shown(runs: Path, capsys: pytest.CaptureFixture[str]):
    job = made(runs, "first")
    with pytest.raises(UserError, match="first has no logs yet: it is Pending"):
        logs(job)
    (job.logs / "node-0.log").write_text("agent\n")
    logs(job)
    assert told(capsys) == ["agent"]


def test_logs_are_followed_over_a_restart_until_the_job_ends(runs: Path):
    job = made(runs, "first")
    start(job)
    job.log_path(0, 0).write_text("first\n")
    code = "from trainer.job.view.listing import *; logs(find_job('first'), follow=True)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, encoding="utf-8") as child:
        assert child.stdout.readline() == "first\n"
        with job.log_path(0, 0).open("a") as file:
            file.write("second\n")
        assert child.stdout.readline() == "second\n"
        start(job, attempt=1)
        job.log_path(1, 0).write_text("third\nlast words")
        end(job)
        assert child.stdout.read() == "third\nlast words\n"


def test_a_table_fits_a_narrow_terminal(runs: Path):
    from rich.console import Console

    from trainer.job.view.listing import _jobs_table, summary

    rows = []
    for name in ("linear-breast_cancer-1123-103200", "a name that nobody would want to type but that one can have"):
        job = made(runs, name)
        end(job)
        rows.append(summary(job, runs, Job.state))
    console = Console(width=80)
    with console.capture() as capture:
        console.print(_jobs_table(rows, 80))
    lines = capture.get().splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("linear-breast_cancer-1123-103200 ")
    assert "…" in lines[2]
    assert all("Completed" in line and "accuracy 0.9750" in line and "0:12" in line for line in lines[1:])


def test_what_is_told_of_a_job_that_was_moved_lies_where_it_is_now(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(runs / "moving")
    start(job)
    job.model.mkdir()
    log = job.log_path(0, 0)
    log.write_text("")
    end(job, error={"type": "Error", "message": "wrong", "rank": 0, "log": str(log)})
    moved = Job(tmp_path / "else where" / "b c")
    moved.dir.parent.mkdir()
    job.dir.rename(moved.dir)
    result = moved.result()
    assert result is not None
    assert result["model"] == str(moved.model)
    assert result["error"]["log"] == str(moved.log_path(0, 0))
    assert str(runs) not in str(result)


def test_a_job_of_a_sweep_says_among_which_and_what_it_has_of_its_own(runs: Path, capsys: pytest.CaptureFixture[str]):
    for lr in (0.1, 0.2):
        job = made(runs, f"lrs/lr={lr}")
        config = job.config_path.read_text(encoding="utf-8")
        job.config_path.write_text(config.replace("lr: 0.03", f"lr: {lr}"), encoding="utf-8")
    made(runs, "alone")
    show(Job(runs / "lrs" / "lr=0.2"))
    assert "among      2 jobs of runs/lrs: lr=0.2" in told(capsys)
    show(Job(runs / "alone"))
    assert not [line for line in told(capsys) if line.startswith("among")]
