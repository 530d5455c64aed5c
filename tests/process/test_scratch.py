"""Temporary folders go with their owners, also with those that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer.process import scratch

OWNER = """
import sys, time
from pathlib import Path
from trainer.process import scratch
with scratch.folder("test-", keep=("beats", Path(sys.argv[1]))) as folder:
    (folder / "beats").write_text("3 7")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    monkeypatch.setenv("TMPDIR", str(place))
    return place


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def folder_of(owner: subprocess.Popen[str]) -> Path:
    assert owner.stdout is not None
    return Path(owner.stdout.readline().strip())


def age(folder: Path) -> None:
    """Folders that were just made are let alone."""
    long_ago = time.time() - 60
    os.utime(folder / scratch.LOCK, (long_ago, long_ago))


def test_it_goes_at_the_end(temporary: Path) -> None:
    with scratch.folder() as folder:
        (folder / "in" / "deep").mkdir(parents=True)
    assert list(temporary.iterdir()) == []


def test_that_of_a_killed_owner_goes_with_whoever_comes_next(
    owner: subprocess.Popen[str], tmp_path: Path, temporary: Path
) -> None:
    folder = folder_of(owner)
    age(folder)
    with scratch.folder() as other:
        assert set(temporary.iterdir()) == {folder, other}  # it lives
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert scratch.kept(folder, "beats", tmp_path).read_text() == "3 7"
    scratch.clear()
    assert list(temporary.iterdir()) == []
    assert scratch.kept(folder, "beats", tmp_path).read_text() == "3 7"  # what was to be kept of it


def test_what_is_not_of_this_kind_is_let_alone(temporary: Path) -> None:
    (temporary / "headway-mine").mkdir()
    (temporary / "headway-file").write_text("mine")
    (temporary / "headway-link").symlink_to(temporary / "headway-mine")
    scratch.clear()
    assert len(list(temporary.iterdir())) == 3
