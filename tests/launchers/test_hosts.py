from __future__ import annotations

from pathlib import Path

import pytest

from launchers.hosts import Hosts
from trainer.errors import UserError
from trainer.job.directory import Job, State


def test_each_host_starts_an_agent_that_finds_the_others_on_s3() -> None:
    job = Job(Path("/cache/writer"), "s3://bucket/writer")
    command = Hosts(nodes=3, node=1, other="algo-1", workers=4, min_nodes=2).plan(job).command
    assert command[1:] == [
        "-m", "launchers.agent", "s3://bucket/writer", "--workers", "4", "--node", "1", "--nodes", "3",
        "--min-nodes", "2", "--towards", "algo-1",
    ]  # fmt: skip


def test_a_job_in_a_folder_is_refused_as_hosts_have_none_in_common(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"job\.dir=s3://BUCKET/FOLDER"):
        Hosts(nodes=2, other="algo-2").plan(Job(tmp_path))


def test_what_was_never_started_here_is_not_alive_and_can_not_be_stopped(tmp_path: Path) -> None:
    job, hosts = Job(tmp_path), Hosts(nodes=2, other="algo-2")
    assert hosts.status(job).state is State.INTERRUPTED
    assert not hosts.is_alive(job)
    with pytest.raises(UserError, match="not running here"):
        hosts.stop(job)
