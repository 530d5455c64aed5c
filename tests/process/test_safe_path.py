"""A name that somebody else wrote leads below its folder, or nowhere."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.s3 import served
from trainer.data.channel.folders import Folders
from trainer.data.channels import Channels
from trainer.errors import UserError
from trainer.job import checkpoint, code_archive
from trainer.job.directory import Job, write_json
from trainer.job.model import artifact
from trainer.job.remote.download import pull_checkpoint, pull_small
from trainer.job.remote.own_state import INDEX, PREFIX, bring
from trainer.process.safe_path import NotBelow, below
from trainer.storage.objects import S3
from trainer.testing.chaos.s3 import Server

ESCAPES = ("../mark", "a/../../mark", "/mark", "..", "a//mark", "./mark", "a/./mark", "a\0mark", "", "x" * 256)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    with served(seed=5) as server:
        monkeypatch.setenv("HEADWAY_CACHE", str(tmp_path / "a" / "b" / "cache"))
        yield server


def marks(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("mark*") if path.is_file()]


@pytest.mark.parametrize(
    "name", ["a", "a/b/c", "..a", "a..", "...", "a b", "-", "é" * 120, "a\\b", "C:x", "~", "a\nb", "x" * 255]
)
def test_a_plain_name_is_taken_as_it_is(name: str, folder: Path) -> None:
    assert below(folder, name) == folder / name
    assert below(folder / "not" / "there", name) == folder / "not" / "there" / name


@pytest.mark.parametrize("name", ESCAPES)
def test_a_name_that_leads_elsewhere_is_refused_in_one_line(name: str, folder: Path) -> None:
    with pytest.raises(NotBelow) as refused:
        below(folder, name)
    assert str(refused.value).startswith(repr(name))
    assert str(folder) in str(refused.value)
    assert str(refused.value).isprintable()


def test_a_link_in_the_folder_leads_nowhere_outside(folder: Path, tmp_path: Path) -> None:
    (folder / "out").symlink_to(tmp_path)
    (folder / "here").mkdir()
    (folder / "in").symlink_to("here")
    (folder / "round").symlink_to("round")
    assert below(folder, "in/file") == folder / "in" / "file"
    assert below(folder, "out") == folder / "out"  # the link itself, which is replaced
    with pytest.raises(NotBelow, match="a link there leads out of it"):
        below(folder, "out/mark")
    linked = tmp_path / "linked"
    linked.symlink_to(folder)
    assert below(linked, "here/file") == linked / "here" / "file"  # the folder itself may be reached by a link


def test_a_file_is_no_folder(folder: Path) -> None:
    (folder / "a").write_text("a file")
    with pytest.raises(NotBelow, match="a there is a file"):
        below(folder, "a/b")


def test_objects_are_brought_below_their_folder_or_not_at_all(server: Server, folder: Path, tmp_path: Path) -> None:
    s3 = S3("s3://bucket/jobs/one")
    long = "n" * 250
    for key in ("a/file", "a/../../../mark", long, "clash", "clash/under"):
        server.put("bucket", f"jobs/one/{key}", b"content")
    assert s3.bring("a/file", folder) == folder / "a/file"
    assert s3.bring(long, folder).read_bytes() == b"content"
    with pytest.raises(
        UserError, match=r"^s3://bucket/jobs/one: 'a/../../../mark' is no path below .* leads out of it$"
    ):
        s3.bring("a/../../../mark", folder)
    s3.bring("clash", folder)
    with pytest.raises(UserError, match="clash there is a file"):
        s3.bring("clash/under", folder)
    assert not marks(tmp_path)


def test_a_folder_marker_is_no_object(server: Server) -> None:
    for key in ("jobs/one/", "jobs/one/model/", "jobs/one/model/weights"):
        server.put("bucket", key, b"")
    assert list(S3("s3://bucket/jobs/one").list()) == ["model/weights"]


def test_a_channel_and_a_model_on_s3_lead_nowhere_outside(server: Server, tmp_path: Path) -> None:
    for key in ("train/good", "train/x/../../../../mark", "model/artifact.json", "model/../../../../mark"):
        server.put("bucket", f"things/{key}", b"{}")
    with pytest.raises(UserError, match="is no path below"):
        Folders(Channels(channels={"train": "s3://bucket/things/train"}).all()).channels  # noqa: B018
    with pytest.raises(UserError, match="is no path below"):
        artifact.load("s3://bucket/things/model")
    assert not marks(tmp_path)


def test_a_job_on_s3_is_looked_at_without_writing_outside(server: Server, tmp_path: Path) -> None:
    for key, content in {
        "config.yaml": b"job: {}\n",
        "logs/../../../../mark.log": b"",
        "logs/attempt-0-rank-0.log": b"a line\n",
    }.items():
        server.put("bucket", f"jobs/one/{key}", content)
    with pytest.raises(UserError, match=r"s3://bucket/jobs/one: 'logs/../../../../mark.log' is no path"):
        pull_small(S3("s3://bucket/jobs/one"), tmp_path / "a/b/here", logs=True)
    assert not marks(tmp_path)


@pytest.mark.parametrize("name", ["../../../mark", "a/../../../mark"])
def test_a_checkpoint_whose_manifest_names_files_elsewhere_is_damaged(
    name: str, server: Server, tmp_path: Path
) -> None:
    folder = tmp_path / "a/b/c"
    place = checkpoint.begin(folder, 4)
    (place / "weights").write_bytes(b"w")
    whole = checkpoint.commit(folder, 4, "", {"weights": checkpoint.entry(place / "weights")})
    outside = whole / name
    outside.parent.mkdir(parents=True, exist_ok=True)
    outside.write_bytes(b"o")
    told = {"step": 4, "files": {name: checkpoint.entry(outside)}}
    outside.unlink()
    manifest = {**told, checkpoint.CHECKSUM: checkpoint._sum_of(told)}
    write_json(whole / checkpoint.MANIFEST, manifest)
    assert checkpoint.problem(whole) == "its manifest is damaged"
    with pytest.raises(ValueError, match="its manifest is damaged"):
        checkpoint.clone(whole, tmp_path / "a/b/d", "another")
    prefix = "jobs/one/checkpoints/step-00000004"
    server.put("bucket", f"{prefix}/{checkpoint.MANIFEST}", (whole / checkpoint.MANIFEST).read_bytes())
    server.put("bucket", f"{prefix}/{name}", b"o")
    with pytest.raises(Exception, match="its manifest is damaged"):
        pull_checkpoint(S3("s3://bucket/jobs/one"), tmp_path / "a/b/e", "step-00000004")
    assert not marks(tmp_path)


def test_a_scripts_own_state_comes_back_below_its_folder(server: Server, tmp_path: Path) -> None:
    job = Job(tmp_path / "a/b/job")
    name = "../../../../mark"
    server.put("bucket", f"jobs/one/{PREFIX}{name}", b"x")
    server.put("bucket", f"jobs/one/{INDEX}", b'{"%s": [1, 1]}' % name.encode())
    with ThreadPoolExecutor(1) as pool, pytest.raises(UserError, match="is no path below"):
        bring(S3("s3://bucket/jobs/one"), job, pool)
    assert not marks(tmp_path)


@pytest.mark.parametrize("name", ["../mark.py", "/mark.py", "proj/../../mark.py"])
def test_the_archive_of_a_jobs_code_is_unpacked_below_its_folder(name: str, tmp_path: Path) -> None:
    directory = tmp_path / "job"
    (directory / "submission").mkdir(parents=True)
    with zipfile.ZipFile(directory / code_archive.ARCHIVE, "w") as archive:
        archive.writestr(name, "")
    with pytest.raises(NotBelow):
        code_archive.unpack(directory)
    assert not marks(tmp_path)


def test_a_channels_name_is_a_folders_name() -> None:
    with pytest.raises(UserError, match=r"data.channels"):
        Channels(channels={"..": "/"}).check()
