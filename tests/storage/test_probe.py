"""Servers that speak S3 differ: what is found out before a job relies on one, and that its jobs are right all the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3 import served
from trainer.errors import UserError
from trainer.storage.objects import S3, Conflict
from trainer.storage.probe import shake
from trainer.testing.chaos.s3 import Server
from trainer.testing.chaos.s3_objects import Manners

pytestmark = pytest.mark.usefixtures("models_loaded_once")

URL = "s3://bucket/jobs/one"
BIG = random.Random(0).randbytes((8 << 20) + 5)


@pytest.fixture
def server() -> Iterator[Server]:
    with served(seed=3, page=4) as server:
        yield server


def kept_apart(s3: S3, tmp_path: Path) -> None:
    """Writes on conditions come to what S3 promises, of a small object and of one in parts."""
    first = s3.write("owner.json", b"1", if_absent=True)
    with pytest.raises(Conflict):
        s3.write("owner.json", b"2", if_absent=True)
    second = s3.write("owner.json", b"3", if_match=first)
    with pytest.raises(Conflict):
        s3.write("owner.json", b"4", if_match=first)
    with pytest.raises(Conflict):
        s3.write("nothing", b"4", if_match=first)
    assert s3.read("owner.json") == (b"3", second)
    (tmp_path / "big").write_bytes(BIG)
    s3.upload(tmp_path / "big", "big", if_absent=True)
    with pytest.raises(Conflict):
        s3.upload(tmp_path / "big", "big", if_absent=True)
    s3.bring("big", tmp_path, "back")
    assert (tmp_path / "back").read_bytes() == BIG


def test_a_server_that_does_as_aws_does_costs_six_requests_and_no_word(server: Server, tmp_path: Path) -> None:
    s3 = S3(URL)
    assert shake(s3) is None
    assert [request.partition(" ")[0] for request in server.requests] == ["PUT", "GET", "PUT", "PUT", "PUT", "POST"]
    assert server.stored("bucket") == {}
    assert shake(S3("s3://bucket/jobs/other")) is None
    assert len(server.requests) == 6  # a sweep asks once
    kept_apart(s3, tmp_path)


@pytest.mark.parametrize(
    "manners",
    [
        Manners(match="bare"),
        Manners(match="bare", on_completion="ignored", crc32="ignored"),  # as Ceph's gateway of release 16
        Manners(on_completion="unknown"),
        Manners(crc32="ignored"),
        Manners(crc32="refused"),
        Manners(lists="first"),
        Manners(deletes="single"),
        Manners(quotes=False),
    ],
    ids=str,
)
def test_a_server_that_takes_it_otherwise_is_asked_as_it_likes(
    server: Server, tmp_path: Path, manners: Manners
) -> None:
    server.manners = manners
    s3 = S3(URL)
    assert shake(s3) is None
    kept_apart(s3, tmp_path)
    for number in range(9):
        s3.write(f"many/{number}", b"")
    assert len(s3.list("many/")) == 9
    s3.delete(s3.list())
    assert server.stored("bucket") == {}


@pytest.mark.parametrize(
    "manners",
    [
        Manners(match="ignored"),
        Manners(match="unknown"),
        Manners(absent="ignored"),
        Manners(absent="unknown"),
        Manners(match="ignored", absent="ignored"),
        Manners(match="unknown", absent="unknown", on_completion="unknown", crc32="refused"),
    ],
    ids=str,
)
def test_one_that_holds_no_write_to_its_condition_is_told_and_looked_at_before(
    server: Server, tmp_path: Path, manners: Manners
) -> None:
    server.manners = manners
    s3 = S3(URL)
    assert (shake(s3) or "").startswith(f"{URL}: {server.url} doesn't hold a write to its condition; two live copies")
    assert server.stored("bucket") == {}
    kept_apart(s3, tmp_path)


def test_one_that_refuses_what_is_true_is_refused(server: Server) -> None:
    server.manners = Manners(match="refused")
    with pytest.raises(UserError, match=rf"^{URL}/\.headway-\w+: {server.url} refuses a write whose condition is true"):
        shake(S3(URL))
    assert server.stored("bucket") == {}


def test_a_form_that_changes_under_way_is_followed(server: Server, tmp_path: Path) -> None:
    """As behind an address that leads to several releases of one server."""
    s3 = S3(URL)
    etag = s3.write("owner.json", b"1")
    for match in ("bare", "held", "bare"):
        server.manners = Manners(match=match)
        etag = s3.write("owner.json", match.encode(), if_match=etag)
    server.manners = Manners(match="unknown")
    etag = s3.write("owner.json", b"5", if_match=etag)
    assert s3.read("owner.json") == (b"5", etag)


@pytest.mark.parametrize("kind", ["internal-error", "reset-response", "truncated", "corrupt"])
@pytest.mark.parametrize("manners", [Manners(), Manners(match="bare"), Manners(match="unknown")], ids=str)
def test_faults_on_the_way_are_not_taken_for_manners(server: Server, manners: Manners, kind: str) -> None:
    server.manners = manners
    server.faults(0.3, [kind])
    assert (shake(S3(URL)) is None) == (manners.match != "unknown")


def test_what_is_damaged_on_its_way_up_is_noticed_where_the_server_checks_no_crc32(server: Server) -> None:
    server.manners = Manners(crc32="ignored")
    s3 = S3(URL)
    assert shake(s3) is None
    server.fault("corrupt", "PUT .*owner.json")
    s3.write("owner.json", b"whole")
    assert server.stored("bucket")["jobs/one/owner.json"].data == b"whole"
