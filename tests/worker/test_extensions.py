"""A worker that is killed while it compiles stops none of those that come after it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMPILES = """
import sys
from pathlib import Path
from trainer.worker.extensions import compile_in
compile_in(Path(sys.argv[1]))
print("compiles", flush=True)
sys.stdin.read()
"""


@contextmanager
def worker(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """One that compiles there, until it is killed."""
    command = [sys.executable, "-c", COMPILES, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "compiles\n"
        yield process
        process.kill()


def test_what_a_killed_worker_left_is_removed_once_nobody_compiles(tmp_path: Path) -> None:
    with worker(tmp_path):
        lock = tmp_path / "an_extension" / "lock"  # as PyTorch puts it there while it builds
        lock.parent.mkdir()
        lock.touch()
        with worker(tmp_path):
            assert lock.exists()
    assert lock.exists()
    with worker(tmp_path):
        assert not lock.exists()
