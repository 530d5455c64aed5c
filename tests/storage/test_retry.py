"""A disk that can't be written for a moment costs a moment."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from trainer.job import directory as module
from trainer.job.directory import append_line, read_lines
from trainer.storage.retry import patiently


def failing(times: int, number: int) -> object:
    left = [times]

    def write() -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(number, os.strerror(number), "a file")
        return "written"

    return write


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_what_could_not_be_written_is_written_once_it_can(number: int) -> None:
    assert patiently(failing(3, number)) == "written"  # type: ignore[arg-type]


def test_a_disk_that_stays_so_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="Read-only file system"):
        patiently(failing(1000, errno.EROFS), seconds=0.2)  # type: ignore[arg-type]


def test_what_is_no_matter_of_the_disk_is_told_at_once() -> None:
    with pytest.raises(PermissionError):
        patiently(failing(1, errno.EACCES))  # type: ignore[arg-type]


def test_half_a_line_for_which_there_was_room_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write = tmp_path / "events.jsonl", os.write
    append_line(path, {"step": 1})
    monkeypatch.setattr(module.os, "write", lambda fd, data: write(fd, data[:5]))
    with pytest.raises(OSError, match="No space left"):
        append_line(path, {"step": 2})
    monkeypatch.undo()
    append_line(path, {"step": 3})
    assert [line["step"] for line in read_lines(path)] == [1, 3]
    assert path.read_text().count("\n") == 2
