"""A worker that is killed while it compiles stops none of those that compile beside it or after it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch.utils.cpp_extension as torch_extensions

from trainer.worker.distributed.extensions import Turn

BUILDS = """
import sys
from trainer.worker.distributed.extensions import Turn
turn = Turn(sys.argv[1])
if turn.try_acquire():
    print("builds", flush=True)
    sys.stdin.readline()
    turn.release()
    print("built", flush=True)
else:
    turn.wait()
    print("takes", flush=True)
"""


def worker(lock: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILDS, str(lock)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_who_waits_for_a_builder_takes_what_it_has_built(tmp_path: Path) -> None:
    with worker(tmp_path / "lock") as one:
        assert said(one) == "builds"
        with worker(tmp_path / "lock") as other:
            other.stdin.close()  # type: ignore[union-attr]
            while not waits(other):
                assert other.poll() is None
            one.communicate("\n")
            assert said(other) == "takes"


def test_who_waits_for_a_builder_that_dies_builds_in_its_place(tmp_path: Path) -> None:
    with worker(tmp_path / "lock") as one:
        assert said(one) == "builds"
        with worker(tmp_path / "lock") as other:
            while not waits(other):
                assert other.poll() is None
            one.kill()
            assert said(other) == "builds"
            other.communicate("\n")
    with worker(tmp_path / "lock") as late:
        assert said(late) == "builds"  # which finds that there is nothing to do
        late.communicate("\n")


def waits(process: subprocess.Popen[str]) -> bool:
    """Whether it waits for a lock of the kernel's."""
    return any(" -> " in line and f" {process.pid} " in line for line in Path("/proc/locks").read_text().splitlines())


def test_pytorch_still_guards_its_builds_in_the_way_that_ours_stands_in_for() -> None:
    methods = {name for name in vars(torch_extensions.FileBaton) if not name.startswith("_")}
    assert methods == {name for name in vars(Turn) if not name.startswith("_")}
