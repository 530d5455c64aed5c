"""What a script keeps by itself is on S3 as it is, and is brought back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.s3 import served
from trainer.job.directory import Job
from trainer.job.remote.own_state import PREFIX, OwnState, bring
from trainer.storage.objects import S3
from trainer.testing.chaos.s3 import Server

URL = "s3://bucket/jobs/one"


@pytest.fixture
def server() -> Iterator[Server]:
    with served(seed=5) as server:
        yield server


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


class Here:
    """A machine's copy of the job."""

    def __init__(self, folder: Path, pool: ThreadPoolExecutor) -> None:
        self.job, self.pool = Job(folder), pool
        self.job.own_state.mkdir(parents=True)
        self.claims: list[int] = []
        self.state = OwnState(S3(URL), self.job, lambda: self.claims.append(1))

    def write(self, name: str, text: str, *, by_rename: bool = False) -> None:
        path = self.job.own_state / name
        path.parent.mkdir(exist_ok=True)
        target = path.with_name("beside") if by_rename else path
        target.write_text(text, encoding="utf-8")
        os.replace(target, path)

    def send(self, *, everything: bool = False) -> None:
        self.state.send(self.pool, everything=everything)

    def bring(self) -> None:
        bring(S3(URL), self.job, self.pool)

    def read(self) -> dict[str, str]:
        folder = self.job.own_state
        return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def here(tmp_path: Path, server: Server, pool: ThreadPoolExecutor) -> Here:
    return Here(tmp_path / "here", pool)


def stored(server: Server) -> dict[str, bytes]:
    found = server.stored("bucket")
    begin = f"jobs/one/{PREFIX}"
    return {key.removeprefix(begin): one.data for key, one in found.items() if key.startswith(begin)}


def test_a_file_is_carried_once_it_is_left_alone(here: Here, server: Server) -> None:
    here.write("epoch-1/weights", "half of it")
    here.send()
    assert stored(server) == {}
    here.write("epoch-1/weights", "the whole of it")
    here.send()
    assert stored(server) == {}
    here.send()
    assert stored(server) == {"epoch-1/weights": b"the whole of it"}


def test_a_file_that_is_put_in_place_by_a_rename_is_whole(here: Here, server: Server) -> None:
    here.write("state", "1", by_rename=True)
    here.send()
    here.write("state", "2", by_rename=True)
    here.send()
    assert stored(server) == {"state": b"2"}


def test_at_the_end_everything_is_carried(here: Here, server: Server) -> None:
    here.write("state", "1")
    here.send(everything=True)
    assert stored(server) == {"state": b"1"}


def test_what_is_deleted_goes_there_too_and_nothing_is_written_without_need(here: Here, server: Server) -> None:
    here.write("old", "1")
    here.write("new", "2")
    here.send(everything=True)
    (here.job.own_state / "old").unlink()
    here.send()
    assert stored(server) == {"new": b"2"}
    assert len(here.claims) == 2
    here.send()
    assert len(here.claims) == 2


def test_another_machine_gets_it_and_keeps_nothing_else(here: Here, tmp_path: Path, server: Server) -> None:
    there = Here(tmp_path / "there", here.pool)
    there.write("stale", "0")
    here.write("a/state", "1")
    here.send(everything=True)
    there.bring()
    assert there.read() == {"a/state": "1"}
    there.send(everything=True)
    assert there.claims == []  # it is what is there


def test_what_is_newer_here_than_all_that_is_there_stays(here: Here) -> None:
    here.write("state", "1")
    here.send(everything=True)
    here.write("state", "2")
    here.bring()
    assert here.read() == {"state": "2"}
