"""Files on S3, over real HTTP, from a server that fails on purpose."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.credentials import Credentials

from tests.s3 import served
from trainer.errors import HeadwayError, UserError
from trainer.storage.objects import S3, Conflict, Damaged, Encryption, Missing, is_remote, staging
from trainer.testing.chaos.s3 import ERRORS, KINDS, Server

pytestmark = pytest.mark.usefixtures("models_loaded_once")

MIB = 1 << 20
BIG = random.Random(0).randbytes(17 * MIB + 5)  # three parts
PART = 8 * MIB


@pytest.fixture
def server() -> Iterator[Server]:
    with served(seed=3, page=4) as server:
        yield server


@pytest.fixture
def s3(server: Server) -> S3:
    return S3("s3://bucket/jobs/one")


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big"
    path.write_bytes(BIG)
    return path


def count(server: Server, method: str, name: str = "") -> int:
    return sum(r.startswith(method) and r.partition("?")[0].endswith(name) for r in server.requests)


def parts_left(server: Server) -> list[str]:
    """Uploads that hold parts, which cost money; one whose beginning's answer got lost holds none."""
    return [upload.key for upload in server.uploads.values() if upload.parts]


# addresses


def test_an_address_on_s3_is_told_from_a_path() -> None:
    assert is_remote("s3://bucket/key")
    assert not is_remote("runs/s3")


def test_a_job_on_s3_is_worked_on_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADWAY_CACHE", str(tmp_path))
    assert staging("s3://bucket/team/one/") == tmp_path / "jobs" / "bucket" / "team" / "one"
    monkeypatch.delenv("HEADWAY_CACHE")
    assert staging("s3://bucket/one") == Path.home() / ".cache/headway/jobs/bucket/one"


@pytest.mark.parametrize(
    "url", ["s3://", "s3://bucket", "s3://bucket/", "s3://bucket/../x", "s3://bucket/a//b", "runs/x"]
)
def test_an_address_that_is_no_folder_on_s3_is_refused(url: str) -> None:
    with pytest.raises(UserError, match=r"s3://|on S3"):
        staging(url)


def test_boto3_is_imported_only_when_s3_is_used() -> None:
    code = "import sys, trainer.storage.objects, trainer.job.remote.mirror, trainer.job.remote.download; assert 'boto3' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# objects


def test_what_is_written_is_read(s3: S3) -> None:
    etag = s3.write("logs/a b+ü.txt", b"hello")
    assert s3.read("logs/a b+ü.txt") == (b"hello", etag)
    assert s3.read("empty") is None
    etag = s3.write("empty", b"")
    assert s3.read("empty") == (b"", etag)
    assert s3.read("other") is None


def test_a_write_on_a_condition_that_fails_is_a_conflict(s3: S3) -> None:
    first = s3.write("owner.json", b"1", if_absent=True)
    with pytest.raises(Conflict):
        s3.write("owner.json", b"2", if_absent=True)
    third = s3.write("owner.json", b"3", if_match=first)
    with pytest.raises(Conflict):
        s3.write("owner.json", b"4", if_match=first)
    with pytest.raises(Conflict):
        s3.write("nothing", b"4", if_match=first)
    assert s3.read("owner.json") == (b"3", third)


@pytest.mark.parametrize("kind", ["reset-response", "truncated"])
def test_a_conditional_write_whose_answer_gets_lost_is_no_conflict(s3: S3, server: Server, kind: str) -> None:
    server.fault(kind, "PUT")
    first = s3.write("owner.json", b"1", if_absent=True)
    server.fault(kind, "PUT")
    second = s3.write("owner.json", b"2", if_match=first)
    assert s3.read("owner.json") == (b"2", second)


def test_names_are_listed_over_pages_and_deleted_in_batches(s3: S3, server: Server) -> None:
    for i in range(1005):
        server.put("bucket", f"jobs/one/many/{i:04d}", b"12")
    server.put("bucket", "jobs/one-more/x", b"")
    server.page = 400
    names = s3.list("many/")
    assert len(names) == 1005
    assert names["many/0007"] == 2
    s3.delete(names)
    assert s3.list() == {}
    assert list(server.stored("bucket")) == ["jobs/one-more/x"]


# files


def test_a_large_file_travels_in_parts(s3: S3, server: Server, big: Path, tmp_path: Path) -> None:
    s3.upload(big, "model")
    assert count(server, "PUT", "model") == 3
    assert server.stored("bucket")["jobs/one/model"].data == BIG
    assert not parts_left(server)
    server.requests.clear()
    s3.bring("model", tmp_path / "deep")
    assert count(server, "GET", "model") == 3
    assert (tmp_path / "deep" / "model").read_bytes() == BIG
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model"]


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1])
def test_a_file_of_any_size_comes_back_as_it_was(s3: S3, tmp_path: Path, size: int) -> None:
    (tmp_path / "a").write_bytes(BIG[:size])
    s3.upload(tmp_path / "a", "a")
    s3.bring("a", tmp_path, "b")
    assert (tmp_path / "b").read_bytes() == BIG[:size]


@pytest.mark.parametrize("kind", KINDS)
def test_files_arrive_whole_whatever_the_server_does(
    s3: S3, server: Server, big: Path, tmp_path: Path, kind: str
) -> None:
    rate = 0.1 if kind == "slow-down" else 0.3
    server.faults(rate, [kind], slow_seconds=0.05)
    big.write_bytes(BIG[: PART + 1])
    for i in range(2):
        s3.upload(big, f"file-{i}", if_absent=True)
        s3.bring(f"file-{i}", tmp_path, "back")
        assert (tmp_path / "back").read_bytes() == BIG[: PART + 1]
        etag = s3.write("small", bytes([i]))
        assert s3.read("small") == (bytes([i]), etag)
        assert len(s3.list()) == i + 2
    assert server.given[kind] > 0
    assert not parts_left(server)


def test_a_head_that_is_cut_off_makes_no_file_shorter(s3: S3, server: Server, big: Path, tmp_path: Path) -> None:
    s3.upload(big, "model")
    server.fault("truncated", "HEAD")
    s3.bring("model", tmp_path, "back")
    assert (tmp_path / "back").read_bytes() == BIG


@pytest.mark.parametrize("kind", ["reset-response", "truncated"])
def test_an_answer_that_says_no_may_break_off_too(s3: S3, server: Server, kind: str) -> None:
    etag = s3.write("a", b"")
    server.fault(kind, times=2)
    assert s3.read("other") is None
    server.fault(kind, times=2)
    with pytest.raises(Conflict):
        s3.write("a", b"1", if_absent=True)
    assert s3.read("a") == (b"", etag)


def test_a_list_that_is_cut_off_is_no_empty_folder(s3: S3, server: Server) -> None:
    s3.write("a", b"")
    server.fault("truncated", "GET")
    assert list(s3.list()) == ["a"]


def test_a_file_that_never_arrives_whole_leaves_the_one_before(server: Server, big: Path) -> None:
    s3 = S3("s3://bucket/jobs/one", attempts=3)
    server.put("bucket", "jobs/one/model", b"new" * 1000)
    server.faults(1.0, ["truncated"], match="GET")
    with pytest.raises(Damaged, match=r"s3://bucket/jobs/one/model arrived incomplete 3 times"):
        s3.bring("model", big.parent, big.name)
    assert big.read_bytes() == BIG
    assert [path.name for path in big.parent.iterdir()] == ["big"]


def test_a_file_that_is_replaced_while_it_arrives_is_no_mixture(
    s3: S3, server: Server, big: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.upload(big, "log")
    parts = s3._download_parts

    def replaced_first(*arguments: object) -> bool:
        monkeypatch.setattr(s3, "_download_parts", parts)
        server.put("bucket", "jobs/one/log", b"new" * len(BIG))
        return parts(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(s3, "_download_parts", replaced_first)
    s3.bring("log", tmp_path)
    assert (tmp_path / "log").read_bytes() == b"new" * len(BIG)


def test_what_changes_on_its_way_up_is_refused_and_sent_again(s3: S3, server: Server, big: Path) -> None:
    server.fault("corrupt", "PUT .*model", times=2)
    s3.upload(big, "model")
    assert count(server, "PUT", "model") == 5
    assert server.stored("bucket")["jobs/one/model"].data == BIG


def test_an_upload_that_fails_leaves_no_parts_behind(server: Server, big: Path) -> None:
    s3 = S3("s3://bucket/jobs/one", attempts=2)
    server.fault("internal-error", "PUT .*model", times=6)
    with pytest.raises(HeadwayError, match="s3://bucket/jobs/one/model: UploadPart failed at http://127"):
        s3.upload(big, "model")
    assert not parts_left(server)
    assert s3.list() == {}


def test_parts_that_a_dead_process_left_can_be_cleared(s3: S3, server: Server) -> None:
    s3._client.call("create_multipart_upload", "checkpoints/a")
    s3._client.call("create_multipart_upload", "other")
    s3.abort_uploads("checkpoints/")
    assert [upload.key for upload in server.uploads.values()] == ["jobs/one/other"]


@pytest.mark.parametrize("size", [10, PART + 1])
def test_a_file_is_not_written_over_anothers_if_so_asked(s3: S3, server: Server, tmp_path: Path, size: int) -> None:
    (tmp_path / "a").write_bytes(BIG[:size])
    server.fault("reset-response", "POST .*uploadId" if size > PART else "PUT .*checkpoint")
    s3.upload(tmp_path / "a", "checkpoint", if_absent=True)  # the answer gets lost, which is no conflict
    with pytest.raises(Conflict):
        s3.upload(tmp_path / "a", "checkpoint", if_absent=True)
    assert not parts_left(server)


def test_there_is_nothing_to_download_where_there_is_nothing(s3: S3, tmp_path: Path) -> None:
    with pytest.raises(Missing, match="s3://bucket/jobs/one/model"):
        s3.bring("model", tmp_path)
    assert list(tmp_path.iterdir()) == []


# encryption


@pytest.mark.parametrize(
    ("encryption", "seen"),
    [
        (Encryption(), (None, None)),
        (Encryption("sse-s3"), ("AES256", None)),
        (Encryption("sse-kms"), ("aws:kms", None)),
        (Encryption("sse-kms", "alias/headway"), ("aws:kms", "alias/headway")),
    ],
)
def test_the_server_is_told_how_to_encrypt(
    server: Server, big: Path, encryption: Encryption, seen: tuple[str | None, str | None]
) -> None:
    s3 = S3("s3://bucket/jobs/one", encryption)
    s3.write("small", b"")
    s3.upload(big, "large")
    assert {stored.encryption for stored in server.stored("bucket").values()} == {seen}


def test_an_encryption_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(UserError, match="sse-s3, sse-kms"):
        Encryption("aes")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="KMS key"):
        Encryption("sse-s3", "key")


# mistakes


def test_a_bucket_that_is_not_there_is_said(server: Server) -> None:
    with pytest.raises(UserError, match=r"^s3://buckt/one/a: there is no bucket 'buckt' at http://127\.0\.0\.1:\d+$"):
        S3("s3://buckt/one").read("a")


def test_no_credentials_are_said(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(UserError, match="no credentials for S3 were found"):
        S3("s3://bucket/one").read("a")


def test_wrong_credentials_are_said(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    with pytest.raises(UserError, match="s3://bucket/one/a: PutObject is not allowed: InvalidAccessKeyId"):
        S3("s3://bucket/one").write("a", b"")


def test_credentials_that_are_renewed_under_way_are_found(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    s3 = S3("s3://bucket/one")
    s3.write("a", b"1")
    s3._client.boto._request_signer._credentials = Credentials("expired", "secret")
    s3.write("a", b"2")
    assert s3.read("a") is not None


def test_what_the_user_says_of_addresses_counts(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Servers differ: some know buckets by path alone, others by host name alone."""
    config = tmp_path / "config"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    config.write_text(f"[default]\nendpoint_url = {server.url}\n")
    S3("s3://bucket/one").write("a", b"1")
    assert server.requests == ["PUT bucket/one/a"]
    config.write_text("[default]\nendpoint_url = http://localhost:9\ns3 =\n  addressing_style = virtual\n")
    assert S3("s3://bucket/one")._client.boto.meta.config.s3 == {"addressing_style": "virtual"}


def test_a_bucket_of_another_region_is_said(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        ERRORS, "unavailable", (400, "AuthorizationHeaderMalformed", "the region is wrong; expecting 'eu'")
    )
    server.fault("unavailable", times=9)
    with pytest.raises(UserError, match=r"another region: .*expecting 'eu'; set AWS_DEFAULT_REGION"):
        S3("s3://bucket/one").read("a")


def test_a_server_that_is_not_there_is_said(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(HeadwayError, match=r"s3://bucket/one/a: http://127\.0\.0\.1:9 can't be reached"):
        S3("s3://bucket/one", attempts=2).read("a")


def test_a_profile_that_is_not_there_is_said(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(UserError, match="nobody"):
        S3("s3://bucket/one")


def test_faults_are_dealt_by_their_seed() -> None:
    drawn = []
    for _ in range(2):
        server = Server("bucket", seed=11)
        server.faults(0.5)
        drawn.append([server.draw("GET bucket/a") for _ in range(50)])
        server._http.server_close()
    assert drawn[0] == drawn[1]
    assert 10 < len([fault for fault in drawn[0] if fault]) < 40


def test_slow_down_is_answered_with_patience(s3: S3, server: Server) -> None:
    server.fault("slow-down", times=2)
    started = time.monotonic()
    s3.write("a", b"")
    assert count(server, "PUT") == 3
    assert time.monotonic() - started > 0.01
    assert os.environ["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")
