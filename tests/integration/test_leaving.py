"""The command itself is told to leave, as containers, clusters, `timeout` and closed terminals do it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import pytest

from tests.integration.command import FAULTY, environment, headway, processes_of, start, until
from trainer.job.directory import Job, State

pytestmark = pytest.mark.slow

WHAT = [FAULTY, "+algorithm.seconds=0.02", "tracking=none", "launcher.workers=2"]
JOB = [*WHAT, "train.epochs=4"]
LONG = [*WHAT, "train.epochs=100"]  # is under way however slow the machine is to be told of it


def in_a_container(*arguments: str) -> subprocess.Popen[str]:
    """`headway ARGUMENTS` as the first process of a PID namespace."""
    own = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    unshare = ["unshare", *own, "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to make a PID namespace")
    return subprocess.Popen(
        [*unshare, sys.executable, "-m", "trainer", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    )


def first_of(process: subprocess.Popen[str]) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return int(until(lambda: children.read_text().split())[0])


def has_done(job: Job, steps: int) -> bool:
    return ((job.progress() or {}).get("step") or 0) >= steps


def test_docker_stop_saves_and_the_next_container_ends_with_the_same_weights(folder: Path) -> None:
    whole, job = Job(folder / "runs/whole"), Job(folder / "runs/cut")
    assert headway("train", *JOB, "job.name=whole").returncode == 0
    process = in_a_container("train", *JOB, "job.name=cut")
    first = first_of(process)
    time.sleep(0.7)  # it has begun to import, and has no job yet
    os.kill(first, signal.SIGTERM)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 75, said
    process = in_a_container("train", *JOB, "job.name=cut")
    until(lambda: has_done(job, 20), job)
    os.kill(first_of(process), signal.SIGTERM)
    os.kill(first_of(process), signal.SIGTERM)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 75, said
    assert "SIGTERM: cut leaves after this step, its state saved" in said
    assert job.state() is State.INTERRUPTED
    assert not processes_of(job.dir)
    again = headway("resume", "cut")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing lost" in again.stdout
    assert (job.model / "model.safetensors").read_bytes() == (whole.model / "model.safetensors").read_bytes()


def test_told_before_its_workers_are_there_it_leaves_without_them(folder: Path) -> None:
    job = Job(folder / "runs/early")
    process = start("train", *JOB, "job.name=early")
    until(lambda: job.logs.is_dir() and any(job.logs.glob("node-*.log")))
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 75, said
    assert job.state() is State.INTERRUPTED
    assert "Traceback" not in said + (job.logs / "node-0.log").read_text()
    assert not processes_of(job.dir)


def test_timeout_and_then_a_person_who_wants_it_stopped(folder: Path) -> None:
    """`timeout` tells the whole process group, and the command once more."""
    job = Job(folder / "runs/timed")
    process = start("train", *LONG, "job.name=timed", "+algorithm.validating=3")
    until(lambda: has_done(job, 40), job)
    os.killpg(process.pid, signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 130, said
    assert job.state() is State.STOPPED
    assert any(job.checkpoints.iterdir())


def test_a_terminal_that_is_gone(folder: Path) -> None:
    """The command writes to it all the time, and is a child of a shell that goes with it."""
    job = Job(folder / "runs/lost")
    shell = pexpect.spawn("bash", ["--norc"], env=environment(), timeout=60)
    shell.sendline(f"{sys.executable} -m trainer train {' '.join(LONG)} job.name=lost; echo left $? > code")
    until(lambda: shell.expect([pexpect.TIMEOUT, "no such words"], timeout=0) is not None and has_done(job, 20), job)
    os.close(shell.child_fd)
    until(lambda: job.state() is State.INTERRUPTED, job)
    until(lambda: not processes_of(job.dir), job)
    assert "SIGHUP" in job.events()[-1]["reason"]
    assert any(job.checkpoints.iterdir())


@pytest.mark.parametrize("how", [[], ["hydra/launcher=headway", "hydra.launcher.parallel=1"]], ids=["plain", "headway"])
def test_a_sweep_begins_nothing_more(folder: Path, how: list[str]) -> None:
    """One job after the other, and side by side."""
    process = start("train", "-m", *LONG, "launcher.workers=1", "algorithm.lr=0.1,0.2", *how)
    found = until(lambda: [path for path in Path("runs").rglob("logs") if has_done(Job(path.parent), 20)])
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 75, said
    assert list(Path("runs").rglob("logs")) == found
    job = Job(found[0].parent)
    assert job.state() is State.INTERRUPTED
    until(lambda: not processes_of(job.dir), job)


def test_what_only_looks_leaves_at_once(folder: Path) -> None:
    """What can't go on never says 75."""
    job = Job(folder / "runs/on")
    process = start("train", *LONG, "job.name=on")
    until(lambda: has_done(job, 5), job)
    logs = start("logs", "-f", "on")
    time.sleep(2)
    logs.send_signal(signal.SIGTERM)
    assert logs.wait(600) == 143
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(600) == 75
