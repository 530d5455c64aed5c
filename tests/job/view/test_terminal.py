from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path

import pexpect
import pytest
from rich.cells import cell_len

from tests.jobs import end, make_job, progress, start, validate
from trainer.config.schema import load
from trainer.job.carried import Carried
from trainer.job.directory import Job, State, Status
from trainer.job.view.terminal import Follower, closing, follow, header

SHOW = """
import sys
from pathlib import Path
from trainer.job.directory import Job, Status
from trainer.config.schema import load
from trainer.job.view.terminal import closing, follow, header
job = Job(Path(sys.argv[1]))
header(job, load(job.config_path))
follow(job, lambda: Status(job.state(), True))
closing(job)
"""


def alive() -> Status:
    return Status(State.RUNNING, True)


def gone() -> Status:
    return Status(State.RUNNING, False)


FIRST = "step 120/500 (24%), epoch 2.4, loss 0.2500, 35,214 samples/s\n"


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.chdir(tmp_path)
    return make_job(tmp_path / "runs" / "first")


def in_terminal(job: Job, work: Callable[[Callable[[str], None]], None], columns: int = 80, **env: str) -> str:
    """What a terminal gets from a job that `work` brings to its end; `work` may wait until a text has appeared."""
    environment = {
        **os.environ,
        "TERM": "xterm-256color",
        "COLUMNS": "",
        "PYTHONPATH": os.pathsep.join(sys.path),
        **env,
    }
    del environment["COLUMNS"]
    child = pexpect.spawn(
        sys.executable,
        ["-c", SHOW, str(job.dir)],
        env=environment,
        dimensions=(24, columns),
        encoding="utf-8",
        timeout=30,
        cwd=str(job.dir.parent.parent),
    )
    seen: list[str] = []

    def wait_for(text: str) -> None:
        child.expect_exact(text)
        seen.append(child.before + child.after)

    work(wait_for)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0, child.before
    return "".join(seen) + child.before


def plain(output: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output)


def test_the_header_says_what_runs_where(job: Job, capsys: pytest.CaptureFixture[str]):
    header(job, load(job.config_path))
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["job    runs/first", "train  linear on digits, seed 7", "where  local, 2 workers, strategy auto"]


def test_a_pipe_gets_facts_and_validation_figures_as_plain_lines(job: Job, capsys: pytest.CaptureFixture[str]):
    start(job)
    validate(job, 100, train_loss=0.9)
    validate(job, 100, validation_loss=0.5, validation_accuracy=0.9)
    validate(job, 200, validation_loss=0.4, validation_accuracy=0.8)
    validate(job, 300, validation_loss=0.6, validation_accuracy=0.95)
    end(job)
    assert follow(job, alive) is State.COMPLETED
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "model  810.0 K parameters",
        "on     2 × cpu, 1 thread each, ddp",
        "data   1,438 samples × 64 columns, 359 to validate",
        "until  500 steps, 10 epochs",
        "step 100  epoch 2  validation_accuracy 0.9000 best  validation_loss 0.5000",
        "step 200  epoch 4  validation_accuracy 0.8000  validation_loss 0.4000",
        "step 300  epoch 6  validation_accuracy 0.9500 best  validation_loss 0.6000",
    ]


def test_a_pipe_gets_a_line_now_and_then_while_the_job_goes_on(job: Job):
    start(job)
    progress(job, 120)
    code = SHOW.replace(
        "follow(job", "import trainer.job.view.terminal\ntrainer.job.view.terminal.PLAIN_EVERY = 0\nfollow(job"
    )
    command = [sys.executable, "-c", code, str(job.dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8", cwd=job.dir.parent.parent) as child:
        lines = list(takewhile(lambda line: line != FIRST, child.stdout))
        progress(job, 240, unit="round", total=None, loss=None)
        second = child.stdout.readline()
        end(job)
        rest = child.stdout.read()
    assert lines[0] == "job    runs/first\n"
    assert second == "round 240, epoch 4.8, 35,214 samples/s\n"
    assert "Completed  first" in rest
    assert not set("\x1b\r") & set("".join([*lines, rest]))


def test_s3_that_cannot_be_written_is_told_once_and_so_is_the_end_of_it(job: Job, capsys: pytest.CaptureFixture[str]):
    start(job)
    validate(job, 100, validation_loss=0.5)
    Carried("s3://bucket/one", "s3://bucket/one: it can't be reached", 1.0).write(job.dir)
    looks = iter(range(5))

    def look() -> Status:
        step = next(looks)
        if step == 2:
            Carried("s3://bucket/one", "s3://bucket/one: it refuses", 1.0).write(job.dir)
        elif step == 3:
            Carried("s3://bucket/one").write(job.dir)
        return Status(State.RUNNING, step < 4)

    follow(job, look)
    assert [line for line in capsys.readouterr().out.splitlines() if "s3://" in line] == [
        "not on S3: what is new; it lies in runs/first (s3://bucket/one: it can't be reached); it is tried again",
        "s3://bucket/one is up to date again",
    ]


def test_a_closing_says_where_the_state_is_that_s3_lacks(job: Job, capsys: pytest.CaptureFixture[str]):
    config = job.config_path.read_text().replace(f"dir: {job.dir}", "dir: s3://bucket/one")
    job.config_path.write_text(config)
    start(job)
    end(job)
    Carried("s3://bucket/one", "it refuses", 1.0, ("model", "result.json")).write(job.dir)
    closing(job)
    assert capsys.readouterr().out.splitlines()[-5:] == [
        "model  runs/first/model",
        "S3     lacks model, result.json; it lies in runs/first (it refuses)",
        "next   headway resume s3://bucket/one  # on this machine, brings it up",
        "       headway predict model=runs/first/model data=digits",
        "       headway show s3://bucket/one",
    ]


def test_what_was_left_to_auto_is_told_with_its_reason(job: Job, capsys: pytest.CaptureFixture[str]):
    start(job, strategy_reason="2 workers, 810.0 K parameters fit each", batch_size=64, batch_size_reason="8 of 9 GB")
    end(job)
    follow(job, alive)
    assert capsys.readouterr().out.splitlines()[1:3] == [
        "on     2 × cpu, 1 thread each, ddp (auto: 2 workers, 810.0 K parameters fit each)",
        "batch  64 samples (auto: 8 of 9 GB)",
    ]


def test_an_estimator_has_no_parameters_to_tell(job: Job, capsys: pytest.CaptureFixture[str]):
    start(job, parameters=None, strategy="its own", columns=None, validation_samples=0, epochs=None)
    end(job)
    follow(job, alive)
    out = capsys.readouterr().out.splitlines()
    assert out == ["on     2 × cpu, 1 thread each", "data   1,438 samples", "until  500 steps"]


def test_an_interruption_ends_the_view_and_the_next_attempt_shows_only_what_is_new(
    job: Job, capsys: pytest.CaptureFixture[str]
):
    start(job)
    validate(job, 100, validation_accuracy=0.9)
    job.add_event(State.INTERRUPTED, step=130, reason="SIGTERM")
    assert follow(job, gone) is State.INTERRUPTED
    assert "interrupted at step 130: SIGTERM" in capsys.readouterr().out

    job.add_event(State.PENDING, reason="goes on")
    start(job, attempt=1, step=130)
    validate(job, 200, validation_accuracy=0.8)
    end(job)
    assert follow(job, alive) is State.COMPLETED
    out = capsys.readouterr().out
    assert "step 100" not in out
    assert "starting again, attempt 2" in out
    assert "goes on from step 130 on 2 workers" in out
    assert "validation_accuracy 0.8000\n" in out  # 0.9 of the first attempt is still the best


def test_figures_are_told_once_although_metrics_are_written_anew_after_a_restart(
    job: Job, capsys: pytest.CaptureFixture[str]
):
    start(job)
    validate(job, 100, validation_loss=0.5)
    validate(job, 150, validation_loss=0.4)
    follower = Follower(job)
    follower.follow(gone)
    assert capsys.readouterr().out.count("validation_loss") == 2
    kept = job.metrics_path.read_text().splitlines(keepends=True)[0]
    beside = job.metrics_path.with_suffix(".beside")
    beside.write_text(kept)
    os.replace(beside, job.metrics_path)
    start(job, attempt=1, step=100)
    validate(job, 150, validation_loss=0.3)
    follower.follow(gone)
    out = capsys.readouterr().out
    assert out.count("validation_loss") == 1
    assert "validation_loss 0.3000 best" in out


def test_asked_again_it_goes_on_where_it_was(job: Job, capsys: pytest.CaptureFixture[str]):
    start(job)
    validate(job, 100, validation_loss=0.5)
    follow(job, gone)  # as Ctrl-C ends it
    assert "validation_loss" in capsys.readouterr().out
    validate(job, 110, validation_loss=0.4)
    end(job, State.STOPPED)
    assert follow(job, alive) is State.STOPPED
    assert capsys.readouterr().out == "step 110  epoch 2.2  validation_loss 0.4000 best\n"


def test_a_job_whose_workers_died_silently_is_not_waited_for(job: Job):
    start(job)
    assert follow(job, gone) is State.RUNNING


def test_a_figure_that_is_not_a_number_is_never_the_best(job: Job, capsys: pytest.CaptureFixture[str]):
    start(job)
    validate(job, 10, validation_loss=math.nan)
    validate(job, 20, validation_loss=0.5)
    end(job)
    follow(job, alive)
    out = capsys.readouterr().out
    assert "validation_loss nan\n" in out
    assert "validation_loss 0.5000 best" in out


def test_a_terminal_shows_a_bar_and_lines_above_it_within_its_width(job: Job):
    def work(wait_for: Callable[[str], None]) -> None:
        wait_for("starting the workers")
        start(job)
        wait_for("until")
        progress(job, 100)
        wait_for("step 100/500")
        validate(
            job, 100, validation_accuracy=0.9, validation_loss=0.5, **{f"validation_{c}_of_all": 1 for c in "abcd"}
        )
        progress(job, 250, loss=0.125)
        wait_for("loss 0.1250")
        end(job)

    output = in_terminal(job, work)
    text = plain(output)
    assert "━" in text
    assert "35,214 samples/s" in text
    assert "0.9000 best" in text
    assert "\x1b[?25h" in output  # the cursor is back
    lines = [part for line in text.split("\n") for part in line.split("\r")]
    assert max(cell_len(line) for line in lines) <= 80
    assert "headway predict model=runs/first/model data=digits" in text


@pytest.mark.parametrize("columns", [40, 60, 120])
def test_the_bar_fits_any_terminal(job: Job, columns: int):
    from rich.console import Console

    start(job)
    for total in (500, None):
        progress(job, 499, total=total)
        follower = Follower(job)
        console = Console(width=columns, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
        follower._poll(console)
        lines = console.render_lines(follower._bar(columns), pad=False)
        assert len(lines) == 1
        text = "".join(segment.text for segment in lines[0])
        assert cell_len(text) <= columns
        assert "step 499" in text
        assert "loss 0.2500" in text


def test_no_color_is_respected(job: Job):
    start(job)
    end(job)
    output = in_terminal(job, lambda wait_for: None, NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", output)
    assert "Completed" in output
