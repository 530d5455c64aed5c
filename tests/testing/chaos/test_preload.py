"""A drill's own wall clock and slow disk: other processes see them, and nothing else of the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer.testing.chaos.preload import Preload

LOOK = """
import datetime, os, sys, time
print(time.time(), datetime.datetime.now().timestamp(), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME))
"""
WRITE = """
import os, sys, time
with open(sys.argv[1], "wb") as file:
    began = time.monotonic()
    file.write(b"x")
    file.flush()
    os.fsync(file.fileno())
    print(time.monotonic() - began)
"""


@pytest.fixture
def preload(tmp_path: Path) -> Preload:
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler here")
    return Preload(tmp_path)


def said(preload: Preload, program: str, *arguments: str) -> list[float]:
    env = {**os.environ, **preload.environment()}
    command = [sys.executable, "-S", "-c", program, *arguments]
    return [float(word) for word in subprocess.check_output(command, env=env, text=True).split()]


@pytest.mark.parametrize("ahead", [0, -86400, 86400])
def test_the_wall_clock_is_set_and_no_other(preload: Preload, ahead: int) -> None:
    preload.set_clock(ahead)
    before = time.time(), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)
    wall, date, monotonic, up = said(preload, LOOK)
    after = time.time(), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)
    assert int(before[0]) + ahead <= wall <= after[0] + ahead
    assert int(before[0]) + ahead <= date <= after[0] + ahead
    assert before[1] <= monotonic <= after[1]
    assert before[2] <= up <= after[2]


def test_the_disk_is_slow_as_long_as_it_is_to_be(preload: Preload, tmp_path: Path) -> None:
    preload.slow_disk(200)
    [slow] = said(preload, WRITE, str(tmp_path / "file"))
    assert slow >= 0.4  # a write and an fsync
    preload.slow_disk(0)
    [fast] = said(preload, WRITE, str(tmp_path / "file"))
    assert fast < slow


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match="there is no C compiler"):
        Preload(tmp_path)
