"""A job of SLURM's nodes that have no folder in common, seen from where S3 can't be reached."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from launchers.slurm.launcher import NUMBER, Slurm
from tests.jobs import make_job, start
from trainer.job.directory import Job, State, write_json
from trainer.job.remote import download
from trainer.testing.chaos.s3 import Server


@pytest.mark.slow
def test_while_s3_can_not_be_reached_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\necho '7|RUNNING|None|n1'\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("HEADWAY_CACHE", str(tmp_path / "cache"))
    here = make_job(tmp_path / "job")
    start(here)
    write_json(here.dir / NUMBER, {"id": "7", "time": 0.0, "dir": str(here.dir)})
    job, launcher = Job(here.dir, "s3://bucket/job"), Slurm()
    with Server("bucket", seed=1) as s3, socket.socket() as closed:
        for name, value in s3.environment().items():
            monkeypatch.setenv(name, value)
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.MonkeyPatch.context() as down:
            down.setenv("AWS_ENDPOINT_URL", address)
            statuses = [launcher.status(job), launcher.status(job)]
        for status in statuses:
            assert (status.state, status.alive) == (State.RUNNING, True)
            assert f"{address} can't be reached; shown is what was known before" in status.reason
        time.sleep(download.LOOK_SECONDS)
        assert launcher.status(job).reason == ""
