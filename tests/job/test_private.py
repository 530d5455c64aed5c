"""Whose a job's files are: what the umask says, and with job.private=true its user's alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.jobs import make_job
from trainer.config.compose import compose
from trainer.config.schema import check
from trainer.data.files import cache
from trainer.job import private
from trainer.job.directory import Job
from trainer.submission.submit import write


@contextmanager
def umask(number: int) -> Iterator[None]:
    before = os.umask(number)
    try:
        yield
    finally:
        os.umask(before)


def modes(folder: Path) -> set[str]:
    """`d755`, `f644`: of all that is in a folder, and of itself."""
    found = [path for path in (folder, *folder.rglob("*")) if not path.is_symlink()]
    return {f"{'d' if path.is_dir() else 'f'}{path.stat().st_mode & 0o777:o}" for path in found}


USUAL, OWN = {"d755", "f644"}, {"d700", "f600"}


@pytest.mark.parametrize(("mask", "expected"), [(0o022, USUAL), (0o077, OWN), (0o002, {"d775", "f664"})])
def test_a_job_and_a_cache_are_as_the_umask_says(mask: int, expected: set[str], tmp_path: Path) -> None:
    with umask(mask):
        job = make_job(tmp_path / "job")
        (job.dir / "config.yaml").chmod(0o666 & ~mask)

        def made(folder: Path) -> None:
            (folder / "data").write_text("rows")

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HEADWAY_CACHE", str(tmp_path / "cache"))
            cache.kept("entry", made, lambda entry: cache.note(entry, "note.json", 1))
    assert modes(job.dir) == modes(tmp_path / "cache") == expected


def test_a_private_job_is_its_users_alone_from_the_first_file_and_what_was_there_too(tmp_path: Path) -> None:
    config = check(
        {**compose(["job.private=true"]), "job": {**compose([])["job"], "private": True, "dir": str(tmp_path / "job")}}
    )
    with umask(0o022):
        job = Job(tmp_path / "job")
        job.logs.mkdir(parents=True)
        (job.logs / "old.log").write_text("of before")
        with private.kept(config):
            write(job, config, is_new=True)
        (tmp_path / "another").write_text("")
    assert modes(job.dir) == OWN
    assert (tmp_path / "another").stat().st_mode & 0o777 == 0o644


@pytest.mark.slow
@pytest.mark.parametrize(("setting", "expected"), [("true", OWN), ("false", USUAL)])
def test_all_that_a_training_leaves_is_as_asked(setting: str, expected: set[str], tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "trainer",
        "train",
        "algorithm=linear",
        "data=csv",
        "data.train=rows.csv",
        "data.label=y",
    ]
    command += ["train.epochs=2", "checkpoint.every=5", "job.name=one", f"job.private={setting}"]
    rows = "\n".join(f"{i},{i % 7},{2 * i}" for i in range(200))
    (tmp_path / "rows.csv").write_text(f"a,b,y\n{rows}\n")
    environment = {**os.environ, "HEADWAY_CACHE": str(tmp_path / "cache")}
    with umask(0o022):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
    assert done.returncode == 0, done.stderr
    assert modes(tmp_path / "runs/one") == expected
    assert modes(tmp_path / "cache") <= expected
