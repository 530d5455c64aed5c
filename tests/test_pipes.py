"""What a closed pipe does to a command, and what it doesn't."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs import make_job
from trainer.job.directory import Job, State


def test_a_page_that_nobody_reads_ends_quietly(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "--help"], stdout=write, stderr=subprocess.PIPE, cwd=tmp_path, check=False
    )
    os.close(write)
    assert done.stderr == b""
    assert done.returncode == 128 + signal.SIGPIPE


def test_a_connection_that_the_other_side_closes_does_not_kill_a_command(tmp_path: Path) -> None:
    """As that to an S3 server, or of a client of the drill's own servers: an error where it happens, not a death."""
    program = """
import socket, sys
from trainer.cli import command as cli
def verb(arguments):
    ours, theirs = socket.socketpair()
    theirs.close()
    try:
        ours.sendall(b"x")
    except OSError as error:
        print(type(error).__name__)
    return 0
cli._verb = verb
sys.argv = ["headway", "ls"]
sys.exit(cli.main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (0, "BrokenPipeError\n"), done.stderr


def run(stdout: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command whose output is redirected as a shell's words say."""
    words = ["sh", "-c", f'exec "$@" {stdout}', "sh", sys.executable, "-m", "trainer", *arguments]
    return subprocess.run(words, stderr=subprocess.PIPE, text=True, cwd=cwd, check=False)


@pytest.mark.parametrize(
    "arguments", [("ls",), ("ls", "--json"), ("ls", "--help"), ("show", "a"), ("compare", "a", "b")]
)
def test_what_is_asked_for_and_cannot_be_written_is_one_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_job(tmp_path / "runs" / name)
    full = run(">/dev/full", *arguments, cwd=tmp_path)
    assert (full.returncode, full.stderr) == (1, "error: what it prints can't be written: No space left on device\n")
    closed = run(">&-", *arguments, cwd=tmp_path)
    assert (closed.returncode, closed.stderr) == (0, "")


def test_a_table_that_nobody_reads_ends_quietly(tmp_path: Path) -> None:
    make_job(tmp_path / "runs" / "a")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "ls"], stdout=write, stderr=subprocess.PIPE, cwd=tmp_path, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.slow
@pytest.mark.parametrize("stdout", [">/dev/full", ">&-", "| true", ">/dev/full 2>&1"])
def test_a_training_ends_as_it_should_when_nobody_reads_of_it(stdout: str, tmp_path: Path) -> None:
    given = ["train", "algorithm=linear", "data=digits", "train.epochs=1", "tracking=none", "job.name=a"]
    words = ["bash", "-c", f'"$@" {stdout}; exit ${{PIPESTATUS[0]}}', "bash", sys.executable, "-m", "trainer", *given]
    done = subprocess.run(words, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert Job(tmp_path / "runs" / "a").state() is State.COMPLETED
