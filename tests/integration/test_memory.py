"""A job that runs out of memory says of what there was too little, and what would help."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.command import FAULTY, environment, headway
from trainer.job.directory import Job, State

pytestmark = pytest.mark.slow

LIMIT = 2 << 30


def test_a_worker_that_can_allocate_no_more_names_what_was_held_and_three_settings(folder: Path) -> None:
    done = headway("train", FAULTY, "+algorithm.how=allocate", "launcher.workers=2", "job.name=large")
    assert done.returncode == 1
    [line] = done.stderr.strip().splitlines()
    assert "out of memory on the CPU" in line
    assert "4,504 TB were asked for" in line
    for words in ("weights 2.6 KB", "optimizer 5.2", "allocated at most", "of main memory free"):
        assert words in line
    assert "what would help: train.gradient_accumulation=2, train.precision=bf16 or strategy=fsdp" in line
    assert "rank 1" in line
    assert Job(folder / "runs/large").result()["attempts"] == 1, "the same would happen again"


def test_what_is_on_already_is_not_advised(folder: Path) -> None:
    done = headway(
        *("train", FAULTY, "+algorithm.how=allocate", "+algorithm.rank=0", "job.name=large"),
        *("train.precision=bf16", "train.gradient_accumulation=32", "train.ema=0.9"),
    )
    assert done.returncode == 1
    assert "what would help: train.ema=null, a smaller model or a device with more memory" in done.stderr


@pytest.fixture
def small_group(tmp_path: Path) -> Iterator[Path]:
    """A control group whose processes have 2 GB of memory together."""
    old, new = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    root, name = (old, "memory.limit_in_bytes") if old.is_dir() else (new, "memory.max")
    place = root / f"headway-{os.getpid()}"
    try:
        place.mkdir()
        (place / name).write_text(str(LIMIT))
    except OSError:
        pytest.skip("needs the right to limit a group's memory")
    yield place
    for _ in range(100):  # who is still leaving it
        try:
            place.rmdir()
            return
        except OSError:
            time.sleep(0.1)


def test_a_worker_that_the_kernel_ends_for_its_memory_is_not_started_again(small_group: Path, folder: Path) -> None:
    def enter() -> None:
        (small_group / "cgroup.procs").write_text(str(os.getpid()))

    done = subprocess.run(
        [sys.executable, "-m", "trainer", "train", FAULTY, "+algorithm.how=fill", "+algorithm.rank=0", "job.name=large"],
        capture_output=True, text=True, timeout=120, env=environment(), check=False, preexec_fn=enter,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert (
        "worker 0 was ended by the kernel (SIGKILL), as main memory was out: 2.15 GB of its control group"
        in done.stderr
    )
    assert "what would help: train.gradient_accumulation=2" in done.stderr
    job = Job(folder / "runs/large")
    assert job.state() is State.FAILED
    assert job.result()["attempts"] == 1
