"""However a job ends, it ends in seconds, says why, and leaves no process behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.command import FAULTY, headway, processes_of, start
from trainer.job import checkpoint
from trainer.job.directory import Job, State
from trainer.testing.chaos.judge import differing_metrics

pytestmark = pytest.mark.slow

SLOW_STEPS = [FAULTY, "+algorithm.seconds=0.01", "train.epochs=20"]


def wait_for(job: Job, state: State, timeout: float = 60) -> None:
    end = time.monotonic() + timeout
    while job.state() is not state:
        assert time.monotonic() < end, f"{job.events()} after {timeout} s"
        time.sleep(0.05)


def wait_for_steps(job: Job, steps: int) -> None:
    wait_for(job, State.RUNNING)
    end = time.monotonic() + 600
    while (job.progress() or {}).get("step", 0) < steps:
        assert time.monotonic() < end
        time.sleep(0.05)


def wait_until_gone(job: Job) -> None:
    end = time.monotonic() + 600
    while processes_of(job.dir):
        assert time.monotonic() < end, processes_of(job.dir)
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("raise", ["RuntimeError: my own bug", "rank 1", "faulty.py"]),
        ("kill", ["worker 1 was ended by SIGKILL"]),
        pytest.param("exit", ["worker 1 left with exit code 3"], marks=pytest.mark.slow),
        ("nan", ["the loss became nan at step 21", "learning rate 0.01", "step 20"]),
    ],
)
def test_a_worker_that_dies_takes_the_job_down_with_its_own_error(folder: Path, how: str, says: list[str]) -> None:
    done = headway("train", FAULTY, f"+algorithm.how={how}", "launcher.workers=2", "job.name=bad")
    assert done.returncode == 1
    last = done.stderr.strip() or done.stdout.strip().splitlines()[-1]
    for words in says:
        assert words in last
    assert "Traceback" not in done.stdout + done.stderr
    result = json.loads((folder / "runs/bad/result.json").read_text())
    assert result["status"] == "Failed"
    assert result["error"]["rank"] == 1
    assert result["model"] is None
    wait_until_gone(Job(folder / "runs/bad"))


def test_a_loss_that_is_no_number_leaves_the_last_good_state(folder: Path) -> None:
    headway("train", FAULTY, "+algorithm.how=nan", "+algorithm.rank=0", "job.name=bad")
    assert [p.name for p in (folder / "runs/bad/checkpoints").iterdir()] == ["step-00000020"]


def test_ctrl_c_stops_in_order_and_the_same_command_goes_on_to_the_same_weights(folder: Path) -> None:
    common = [*SLOW_STEPS, "launcher.workers=2", "train.epochs=4"]
    whole = headway("train", *common, "job.name=whole")
    assert whole.returncode == 0, whole.stdout + whole.stderr
    job = Job(folder / "runs/cut")
    process = start("train", *common, "job.name=cut")
    wait_for_steps(job, 10)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 130, output
    assert job.state() is State.STOPPED
    stopped_at = job.result()["steps"]
    assert 10 <= stopped_at < 180
    wait_until_gone(job)
    again = headway("train", *common, "job.name=cut")
    assert again.returncode == 0, again.stdout + again.stderr
    assert job.result()["steps"] == 180
    assert (job.model / "model.safetensors").read_bytes() == (
        folder / "runs/whole/model/model.safetensors"
    ).read_bytes()
    assert not differing_metrics(job.metrics(), Job(folder / "runs/whole").metrics())


def test_ctrl_c_twice_ends_it_now(folder: Path) -> None:
    job = Job(folder / "runs/cut")
    process = start("train", FAULTY, "+algorithm.seconds=300", "job.name=cut")
    wait_for(job, State.RUNNING)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=600)  # far less than the step it was in
    assert process.returncode == 130
    wait_until_gone(job)


@pytest.mark.parametrize("number", [signal.SIGHUP, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_a_closed_terminal_leaves_no_process_and_a_saved_state(folder: Path, number: signal.Signals) -> None:
    job = Job(folder / "runs/left")
    process = start("train", *SLOW_STEPS, "launcher.workers=2", "job.name=left")
    wait_for_steps(job, 5)
    process.send_signal(number)
    process.communicate(timeout=600)
    wait_for(job, State.INTERRUPTED)
    wait_until_gone(job)
    assert any((job.checkpoints).iterdir())


def test_a_killed_agent_takes_its_workers_along(folder: Path) -> None:
    job = Job(folder / "runs/dead")
    process = start("train", *SLOW_STEPS, "launcher.workers=2", "job.name=dead")
    wait_for_steps(job, 5)
    os.kill(job.events()[1]["pid"], signal.SIGKILL)
    _output, _ = process.communicate(timeout=600)
    wait_until_gone(job)
    assert process.returncode != 0
    assert "Interrupted" in headway("ls").stdout


def test_stop_from_another_terminal(folder: Path) -> None:
    job = Job(folder / "runs/far")
    process = start("train", *SLOW_STEPS, "job.name=far")
    wait_for_steps(job, 5)
    assert "is running" in headway("train", *SLOW_STEPS, "job.name=far").stderr
    stopped = headway("stop", "far")
    assert stopped.returncode == 0, stopped.stderr
    assert "Stopped" in stopped.stdout
    process.communicate(timeout=600)
    assert headway("stop", "far").returncode == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)], check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_said_and_the_newest_checkpoint_stays(small_disk: Path, folder: Path) -> None:
    job = Job(small_disk / "job")
    keep_all = ["checkpoint.every=1", "checkpoint.keep=1000", "tracking=none"]
    done = headway("train", "train.epochs=2", *keep_all, f"job.dir={job.dir}")
    assert done.returncode == 1
    assert "no space left on the disk" in done.stderr
    result = job.result()
    assert result is not None
    assert result["status"] == "Failed"
    newest = checkpoint.newest(job.checkpoints)
    assert newest.checkpoint is not None
    assert newest.passed_over == []


def test_a_stop_while_it_starts_is_a_stop(folder: Path) -> None:
    job = Job(folder / "runs/early")
    process = start("train", *SLOW_STEPS, "launcher.workers=2", "job.name=early")
    wait_for(job, State.STARTING)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 130, output
    assert job.state() is State.STOPPED
    wait_until_gone(job)


def test_ctrl_c_while_it_ends_does_not_hang(folder: Path) -> None:
    """A worker that is killed after it has said how it ended, before it was let go."""
    job = Job(folder / "runs/late")
    process = start("train", FAULTY, "train.epochs=1", "launcher.workers=2", "job.name=late")
    wait_for(job, State.RUNNING)
    end = time.monotonic() + 600
    while not job.model.is_dir() and time.monotonic() < end:
        time.sleep(0.001)
    agent = job.events()[1]["pid"]
    os.kill(agent, signal.SIGSTOP)
    time.sleep(2)  # the workers have said how they ended and wait to be let go
    os.kill(agent, signal.SIGQUIT)
    os.kill(agent, signal.SIGCONT)
    process.communicate(timeout=600)
    assert job.state().is_final
    wait_until_gone(job)


def test_a_job_leaves_nothing_in_the_temporary_folder(
    folder: Path, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one that ends by itself, nor one whose agent was killed, nor, once it goes on, one of which all were killed."""
    temporary = short_folder
    monkeypatch.setenv("TMPDIR", str(temporary))
    common = [*SLOW_STEPS[:-1], "train.epochs=8", "launcher.workers=2", "tracking=none", "job.name=job"]
    job = Job(folder / "runs/job")
    process = start("train", *common)
    wait_for_steps(job, 30)
    time.sleep(1)  # what was just made may be about to be locked
    os.kill(job.events()[-1].get("pid") or job.events()[1]["pid"], signal.SIGKILL)
    process.communicate(timeout=600)
    assert process.returncode == 75
    assert job.events()[-1]["source"] == "agent died"
    wait_until_gone(job)
    assert list(temporary.iterdir()) == []
    process = start("resume", "job")
    wait_for_steps(job, 60)
    everyone = json.loads((job.logs / "node-0.json").read_text())
    for pid in (process.pid, everyone["agent"], *everyone["workers"]):
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=600)
    wait_until_gone(job)
    done = headway("resume", "job")
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(temporary.iterdir()) == []
    assert not list(job.logs.glob(".*.beats"))
