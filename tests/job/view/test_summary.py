from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.jobs import end, make_job, start, validate
from trainer.job.directory import Job, State
from trainer.job.view.summary import closing
from trainer.process.format import prominence


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.chdir(tmp_path)
    return make_job(tmp_path / "runs" / "first")


def test_the_closing_table_says_what_came_out_and_what_to_type_next(job: Job, capsys: pytest.CaptureFixture[str]):
    end(job)
    closing(job)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "",
        "Completed  first  in 12.3 s",
        "metric                  last     best   at step",
        "validation_accuracy   0.9500   0.9750       400",
        "validation_loss       0.3000   0.2500       400",
        "train_loss            0.2000   0.1000       450",
        "500 steps, 10 epochs, 16,000 samples, 2 workers",
        "8.1 s training of 12.3 s in all, 35,214 samples/s",
        "model  runs/first/model",
        "next   headway predict model=runs/first/model data=digits",
        "       headway show runs/first",
    ]


@pytest.mark.parametrize(
    ("losses", "says"),
    [
        ((0.5, 0.4), ""),
        ((0.5, 0.9), "validation_loss ended above where it began: 0.5000 at step 10, 0.9000 at step 20;"),
        ((0.5, float("nan")), "validation_loss is nan at step 20: the training diverged; lower algorithm.lr"),
    ],
)
def test_a_training_that_diverged_does_not_end_in_green(
    job: Job, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, losses: tuple[float, ...], says: str
):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    for number, loss in enumerate(losses, 1):
        validate(job, 10 * number, validation_loss=loss)
    end(job)
    closing(job)
    shown = capsys.readouterr().out
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown)
    assert says in plain
    assert ("\x1b[1;32mCompleted" in shown) == (not says)


def test_what_nobody_counted_is_left_out(job: Job, capsys: pytest.CaptureFixture[str]):
    end(job, samples=0, epochs=0.0)
    closing(job)
    assert "\n500 steps, 2 workers\n8.1 s training" in capsys.readouterr().out


def test_the_closing_says_what_energy_the_gpus_took(job: Job, capsys: pytest.CaptureFixture[str]):
    end(job, energy_kwh=1.23456)
    closing(job)
    assert "8.1 s training of 12.3 s in all, 35,214 samples/s, 1.23 kWh on its GPUs\n" in capsys.readouterr().out


def test_the_closing_says_what_the_time_went_to(job: Job, capsys: pytest.CaptureFixture[str]):
    end(job, split={"idle": 0.01, "forward": 3.0, "backward": 5.0, "optimizer": 2.0})
    closing(job)
    assert "time went to backward 50%, forward 30%, optimizer 20%\n" in capsys.readouterr().out
    end(job, split={"forward": 3.0, "backward": 5.0}, communication_within=True)
    closing(job)
    told = "time went to backward 62%, forward 38% (communication within the others)\n"
    assert told in capsys.readouterr().out


def test_the_closing_names_slow_ranks(job: Job, capsys: pytest.CaptureFixture[str]):
    episodes = [(3, 1.6), (1, 2.0), (3, 4.5)]
    end(job, stragglers=[{"rank": r, "factor": f, "since": 100, "until": None} for r, f in episodes])
    closing(job)
    told = "rank 3 was slow, 4.5 times the others' median, rank 1 was slow, 2 times the others' median\n"
    assert told in capsys.readouterr().out


def test_a_job_on_files_is_told_to_predict_on_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    job = make_job(tmp_path / "on files", data="Csv", train="/data/x.csv")
    end(job)
    closing(job)
    assert f"headway predict model='{job.model}' data=csv data.test=FILE" in capsys.readouterr().out


def test_a_model_of_text_is_told_to_continue_a_prompt(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    job = make_job(tmp_path / "story", data="Text", train="/data/x.txt")
    end(job)
    closing(job)
    assert f'headway predict model={job.model} prompt="' in capsys.readouterr().out


def test_a_failure_is_one_line_on_stderr(job: Job, capsys: pytest.CaptureFixture[str]):
    log = job.log_path(0, 1)
    error = {"type": "ValueError", "message": "no good\nat all", "rank": 1, "where": "mine.py:8", "log": str(log)}
    end(job, State.FAILED, error)
    closing(job)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "first failed: mine.py:8: ValueError: no good (rank 1); the trace is in runs/first/logs/attempt-0-rank-1.log\n"
    )


def test_a_failure_in_the_jobs_copy_of_the_code_is_named_as_at_home(job: Job, capsys: pytest.CaptureFixture[str]):
    error = {
        "type": "ValueError",
        "message": "no good",
        "rank": 0,
        "where": f"{job.dir}/code/project/sub/mine.py:8 in loss",
    }
    end(job, State.FAILED, error)
    closing(job)
    assert capsys.readouterr().err == "first failed: sub/mine.py:8 in loss: ValueError: no good (rank 0)\n"


def test_a_stopped_job_says_that_it_can_go_on(job: Job, capsys: pytest.CaptureFixture[str]):
    end(job, State.STOPPED)
    closing(job)
    out = capsys.readouterr().out
    assert "Stopped  first" in out
    assert "model" not in out
    assert "next   headway resume runs/first" in out
    assert "headway show runs/first" in out


def test_a_job_without_a_result_names_its_logs(job: Job, capsys: pytest.CaptureFixture[str]):
    start(job)
    closing(job)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "first left no result: its agent ended too early; what happened is in runs/first/logs\n"


def test_metrics_are_ordered_by_what_tells_most():
    names = ["train_loss", "validation_zeta", "validation_loss", "grad_norm", "validation_accuracy"]
    assert sorted(names, key=prominence) == [names[4], names[2], names[1], names[0], names[3]]
