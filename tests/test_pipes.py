"""What a closed pipe does to a command, and what it doesn't."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path


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
from trainer import cli
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
