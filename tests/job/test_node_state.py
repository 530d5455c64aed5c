"""What one process of a machine knows of another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from trainer.job import node_state

# as setproctitle does it: the title, and then nothing up to the end of the environment
TITLED = """
import ctypes
numbers = open("/proc/self/stat").read().rpartition(")")[2].split()
start, end = int(numbers[45]), int(numbers[48])
ctypes.memset(start, 0, end - start)
ctypes.memmove(start, b"engine", 6)
print("titled", flush=True)
input()
"""


def test_a_worker_that_gives_itself_a_title_is_still_one_of_its_job(tmp_path: Path) -> None:
    """A server of language models or a web server does so, over what /proc shows of its environment."""
    worker = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {TITLED!r}])"
    env = {**os.environ, node_state.JOB: str(tmp_path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", worker], env=env, **pipes) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        [child] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"engine")
        assert node_state.JOB.encode() not in Path(f"/proc/{child}/environ").read_bytes()
        assert node_state.job_of(int(child)) == tmp_path
        process.stdin.close()
