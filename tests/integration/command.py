"""The real command, as a process."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from trainer.job.directory import Job

HERE = Path(__file__).parent
PATIENCE = 600.0  # seconds: a busy machine may take its time, and what hangs is found all the same
FAULTY = "algorithm._target_=faulty.Faulty"


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}


def headway(*arguments: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
    """Runs `headway ARGUMENTS` in the working folder, with the faulty algorithm importable."""
    return subprocess.run(
        [sys.executable, "-m", "trainer", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(),
        check=False,
    )


def as_from_a_terminal() -> None:
    """Whoever runs the tests in the background, with nohup say, has these ignored, and what they start too."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def start(*arguments: str) -> subprocess.Popen[str]:
    """Starts `headway ARGUMENTS` in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "trainer", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
        start_new_session=True,
        preexec_fn=as_from_a_terminal,
    )


def until(condition: Callable[[], Any], job: Job | None = None, seconds: float = PATIENCE) -> Any:
    """What the condition gives once it is true. job: that is told of if it never is."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        logs = [path.read_text()[-2000:] for path in job.logs.glob("*.log")] if job else []
        assert time.monotonic() < end, [job and job.events(), *logs]
        time.sleep(0.1)
    return found


def processes_of(job: Path) -> list[str]:
    """Command lines of live processes that belong to a job: its agent, and whatever writes to its logs."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            output = os.readlink(process / "fd/1")
        except OSError:
            continue
        if str(job) in command or str(job) in output:
            found.append(command)
    return found


_base: list[tuple[str, dict[str, str]]] = []  # the folder and environment of the agent that stays


def trained(directory: Path, *overrides: str) -> Job:
    """What a job that nothing disturbs comes to, to hold others against: trained from this process, by one agent for all such jobs."""
    from tests.staying import agent_stays
    from trainer.cli.command import main

    if not _base:
        _base.append((tempfile.mkdtemp(prefix="hw-trained-"), environment()))
        atexit.register(shutil.rmtree, _base[0][0], ignore_errors=True)
    folder, known = _base[0]
    before = os.getcwd()
    with (
        agent_stays(),
        mock.patch.dict(os.environ, known, clear=True),
        mock.patch.object(sys, "path", [str(HERE), *sys.path]),
    ):
        os.chdir(folder)
        try:
            assert main(["train", *overrides, f"job.dir={directory}"]) == 0
        finally:
            os.chdir(before)
    return Job(directory)
