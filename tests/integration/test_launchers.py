"""Every launcher of ours keeps what the suite for launchers states."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from tests.integration.slurms import lose, nodes_of, run
from trainer.job.directory import Job, read_json
from trainer.testing.launchers import LauncherSuite

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class TestLocal(LauncherSuite):
    overrides: ClassVar[list[str]] = ["launcher=local"]

    def lose_node(self, job: Job) -> None:
        lost = read_json(job.logs / "node-1.json") or {}
        for pid in (lost["agent"], *lost["workers"]):
            os.kill(pid, signal.SIGKILL)


class TestSlurm(LauncherSuite):
    overrides: ClassVar[list[str]] = ["launcher=slurm"]
    never: ClassVar[list[str] | None] = ["launcher.nodes=9"]

    @pytest.fixture(autouse=True)
    def _cluster(self, slurm: Path) -> Iterator[None]:
        self.state, self.lost = slurm, ""
        yield
        run("scancel", "--user=root")
        if self.lost:
            run("slurmd", "-N", self.lost)

    def lose_node(self, job: Job) -> None:
        self.lost = nodes_of(job)[1]
        lose(self.state, self.lost)


class TestRay(LauncherSuite):
    overrides: ClassVar[list[str]] = ["launcher=ray"]
    never: ClassVar[list[str] | None] = ["launcher.cpus=64"]
    detaches: ClassVar[bool] = False

    def lose_node(self, job: Job) -> None:
        pytest.skip("one of a cluster's is lost in test_ray_launcher")
