"""A folder that is kept on S3 while somebody writes into it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.s3 import served
from trainer.errors import UserError
from trainer.testing.chaos.s3 import Server
from trainer.worker.checkpointing.uploading import Uploading

URL = "s3://bucket/kept"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with served(seed=1) as server:
        monkeypatch.setattr("trainer.worker.checkpointing.uploading.LOOK_SECONDS", 0.05)
        yield server


def there(s3: Server) -> dict[str, bytes]:
    return {key: stored.data for key, stored in s3.stored("bucket").items()}


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_files_go_up_while_they_are_written_and_the_rest_at_the_end(s3: Server, tmp_path: Path) -> None:
    uploading = Uploading(tmp_path, URL, fetch=False, exact=False)
    (tmp_path / "one").write_text("1")
    until(lambda: there(s3) == {"kept/one": b"1"})
    (tmp_path / "one").write_text("11")
    until(lambda: there(s3) == {"kept/one": b"11"})
    (tmp_path / "one").unlink()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "two").write_text("2")
    assert uploading.finish() == ""
    assert there(s3) == {"kept/one": b"11", "kept/sub/two": b"2"}


def test_what_is_there_is_brought_first_and_what_is_deleted_goes(s3: Server, tmp_path: Path) -> None:
    s3.put("bucket", "kept/a/one", b"1")
    s3.put("bucket", "kept/two", b"2")
    (tmp_path / "two").write_text("of before")
    os.utime(tmp_path / "two", (1, 1))
    (tmp_path / "newer").write_text("newer")
    s3.put("bucket", "kept/newer", b"older")
    os.utime(tmp_path / "newer", (time.time() + 60, time.time() + 60))
    uploading = Uploading(tmp_path, URL, fetch=True, exact=True)
    assert ((tmp_path / "a/one").read_text(), (tmp_path / "two").read_text()) == ("1", "2")
    assert (tmp_path / "newer").read_text() == "newer"
    s3.put("bucket", "kept/later", b"3")  # not ours
    (tmp_path / "two").unlink()
    assert uploading.finish() == ""
    assert there(s3) == {"kept/a/one": b"1", "kept/later": b"3", "kept/newer": b"newer"}
    assert [one for one in s3.requests if one.startswith("PUT")] == ["PUT bucket/kept/newer"]


def test_what_is_in_the_way_is_told_at_the_end(s3: Server, tmp_path: Path) -> None:
    uploading = Uploading(tmp_path, "s3://nowhere/kept", fetch=False, exact=False)
    (tmp_path / "one").write_text("1")
    assert "there is no bucket 'nowhere'" in uploading.finish()


def test_names_that_lead_out_of_the_folder_are_refused(s3: Server, tmp_path: Path) -> None:
    s3.put("bucket", "kept/../up", b"1")
    with pytest.raises(UserError, match="is no path below"):
        Uploading(tmp_path / "kept", URL, fetch=True, exact=True)
