"""Jobs on servers that speak S3 and that others have made."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.integration.command import environment, until
from tests.integration.s3_servers import Gateway, gateway, moto
from tests.jobs import make_job
from tests.storage.test_probe import BIG
from trainer.errors import UserError
from trainer.job import carried, checkpoint
from trainer.job.carried import Carried
from trainer.job.remote.download import pull
from trainer.job.remote.mirror import Mirror
from trainer.storage.objects import S3, Conflict, Encryption
from trainer.storage.probe import shake


@pytest.fixture(scope="module")
def ceph() -> Iterator[Gateway]:
    with gateway() as server:
        yield server


@pytest.fixture(params=["moto", "ceph", "ceph by https"])
def there(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A folder on a server, which this process finds."""

    def lead(environment: Mapping[str, str]) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    if request.param == "moto":
        with moto() as environment:
            lead(environment)
            yield "s3://bucket/jobs/one"
    elif request.param == "ceph":
        lead(request.getfixturevalue("ceph").environment)
        yield f"s3://bucket/jobs/{request.node.name.partition('[')[0]}"
    else:
        with gateway(TLS="1") as server:
            lead(server.environment)
            yield "s3://bucket/jobs/one"


@pytest.mark.slow
def test_what_a_job_asks_of_s3_a_real_server_does(there: str, tmp_path: Path) -> None:
    s3 = S3(there)
    assert shake(s3) is None
    assert s3.list() == {}
    first = s3.write("owner.json", b"1", if_absent=True)
    second = s3.write("owner.json", b"2", if_match=first)
    for condition in ({"if_match": first}, {"if_absent": True}):
        with pytest.raises(Conflict):
            s3.write("owner.json", b"3", **condition)  # type: ignore[arg-type]
    assert s3.read("owner.json") == (b"2", second)
    (tmp_path / "big").write_bytes(BIG)
    s3.upload(tmp_path / "big", "big", if_absent=True)
    with pytest.raises(Conflict):
        s3.upload(tmp_path / "big", "big", if_absent=True)
    s3.bring("big", tmp_path, "back")
    assert (tmp_path / "back").read_bytes() == BIG
    names = [f"many/{number}/a b+ü%2F.txt" for number in range(3)]
    for name in names:
        s3.write(name, b"")
    s3._client.call("create_multipart_upload", "many/left")
    s3.abort_uploads("many/")
    assert list(s3.list("many/")) == names
    s3.delete(s3.list())
    assert s3.list() == {}


@pytest.mark.slow
def test_lists_go_on_over_pages_on_a_real_server(ceph: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ceph.environment.items():
        monkeypatch.setenv(name, value)
    s3 = S3("s3://bucket/pages")
    for number in range(5):
        s3.write(f"{number}", b"")
    pages = s3._client.pages
    monkeypatch.setattr(s3._client, "pages", lambda operation, prefix: pages(operation, prefix, MaxKeys=2))
    assert list(s3.list()) == ["0", "1", "2", "3", "4"]


@pytest.mark.slow
def test_what_a_person_must_change_is_one_line(ceph: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ceph.environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="there is no bucket 'buckt' at http://127"):
        shake(S3("s3://buckt/one"))
    with pytest.raises(
        UserError, match=r"PutObject was refused at http://127.*: InvalidRequest \(asked to encrypt: AES256\)"
    ):
        shake(S3("s3://bucket/one", Encryption("sse-s3")))  # which it has no keys for
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(UserError, match="PutObject is not allowed: SignatureDoesNotMatch; check the credentials"):
        shake(S3("s3://bucket/one", Encryption("sse-kms")))


@pytest.mark.slow
def test_a_server_that_is_killed_in_mid_upload_and_comes_back_has_it_all_in_the_end(
    ceph: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in ceph.environment.items():
        monkeypatch.setenv(name, value)
    job = make_job(tmp_path / "killed")
    place = checkpoint.begin(job.checkpoints, 10, "a")
    for rank in range(2):
        (place / f"rank-{rank}.safetensors").write_bytes(random.Random(rank).randbytes(90 << 20))
    files = {path.name: checkpoint.entry(path) for path in sorted(place.iterdir())}
    place = checkpoint.commit(job.checkpoints, 10, "a", files, {})
    s3 = S3("s3://bucket/jobs/killed")
    mirror = Mirror(s3, job.dir, on_superseded=lambda who: None)
    mirror.take_over()
    mirror.start()
    try:
        until(lambda: any(page.get("Uploads") for page in s3._client.pages("list_multipart_uploads", "")))
        ceph.kill()
        assert not mirror.flush(1.0)
        ceph.start()
        assert mirror.flush(120.0)
    finally:
        mirror.stop()
    assert (carried.read(job.dir) or Carried("")).lacking == ()
    assert pull(s3, tmp_path / "elsewhere") == []  # which sums what it reads
    there = tmp_path / "elsewhere" / "checkpoints" / place.name
    assert {path.name: checkpoint.entry(path) for path in there.glob("rank-*")} == files
    Mirror(
        s3, job.dir, on_superseded=lambda who: None
    ).take_over()  # clears what the dead server could not be told to end
    assert not [page["Uploads"] for page in s3._client.pages("list_multipart_uploads", "") if page.get("Uploads")]


@pytest.mark.slow
def test_a_job_on_a_real_server_is_read_and_used_from_elsewhere(ceph: Gateway, tmp_path: Path) -> None:
    url, here = "s3://bucket/jobs/whole", {**environment(), **ceph.environment}
    machines = [{**here, "HEADWAY_CACHE": str(tmp_path / name)} for name in ("one", "other")]
    for machine, arguments, said in (
        (0, ["train", "train.epochs=2", f"job.dir={url}"], f"model  {url}/model"),
        (1, ["show", url], "Completed"),
        (1, ["predict", f"model={url}/model", "data=digits"], "prediction"),
        (1, ["train", "train.epochs=2", f"job.dir={url}"], "already completed"),
    ):
        command = [sys.executable, "-m", "trainer", *arguments]
        ran = subprocess.run(command, env=machines[machine], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        assert said in ran.stdout
