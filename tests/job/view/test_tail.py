from __future__ import annotations

import os
from pathlib import Path

from trainer.job.view.tail import Tail


def test_only_what_was_added_is_told(tmp_path: Path):
    path = tmp_path / "log"
    tail = Tail(path)
    assert tail.lines() == []
    path.write_text("a\nb\n")
    assert tail.lines() == ["a", "b"]
    assert tail.lines() == []
    with path.open("a") as file:
        file.write("c\n")
    assert tail.lines() == ["c"]


def test_half_a_line_waits_for_its_other_half(tmp_path: Path):
    path = tmp_path / "log"
    tail = Tail(path)
    path.write_bytes("one\ntü".encode()[:-1])
    assert tail.lines() == ["one"]
    with path.open("ab") as file:
        file.write("ü".encode()[-1:] + b"r\nrest")
    assert tail.lines() == ["tür"]
    assert tail.remainder() == "rest"


def test_a_file_written_anew_is_read_from_its_beginning(tmp_path: Path):
    path = tmp_path / "log"
    path.write_text("old 1\nold 2\n")
    tail = Tail(path)
    assert len(tail.lines()) == 2
    (tmp_path / "beside").write_text("new 1\nnew 2\nnew 3\n")
    os.replace(tmp_path / "beside", path)
    assert tail.lines() == ["new 1", "new 2", "new 3"]


def test_a_damaged_record_is_left_out(tmp_path: Path):
    path = tmp_path / "log"
    path.write_text('{"a":1}\n{"a"\n{"a":NaN}\n')
    first, second = Tail(path).records()
    assert first == {"a": 1}
    assert second["a"] != second["a"]


def test_a_long_line_that_comes_in_parts_is_told_once_whole(tmp_path: Path):
    path = tmp_path / "log"
    tail = Tail(path)
    for _ in range(300):
        with path.open("ab") as file:
            file.write(b"x" * (1 << 16))
        assert tail.lines() == []
    assert len(tail.remainder()) == 300 << 16
    with path.open("ab") as file:
        file.write(b"\nnext\n")
    assert [len(line) for line in tail.lines()] == [300 << 16, 4]
    assert tail.remainder() == ""
