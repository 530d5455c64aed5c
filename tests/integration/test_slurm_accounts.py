"""A real SLURM with slurmdbd, whose accounts outlive what the controller remembers."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from launchers.slurm.queue import Record, accounted
from tests.integration.command import headway
from tests.integration.conftest import slurm_cluster
from tests.integration.slurms import number_of, run
from trainer.job.directory import Job

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_jobs_run_as_without_it_and_ended_ones_are_told_by_the_accounts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with slurm_cluster(DBD="1", NODES="1") as state:
        monkeypatch.setenv("SLURM_CONF", str(state / "etc" / "slurm.conf"))
        options = ["algorithm=linear", "data=digits", "train.epochs=1", "tracking=none", "launcher=slurm"]
        done = headway("train", *options, "job.name=first")
        assert done.returncode == 0, done.stdout + done.stderr
        held = run("sbatch", "--parsable", "--hold", "--output=/dev/null", "--wrap=true")
        run("scancel", held)
        ended = {number_of(Job(Path("runs/first").absolute())): "COMPLETED", held: "CANCELLED"}
        for number, word in ended.items():
            end = time.monotonic() + 600
            while not (found := accounted(number)) or found.state != word:
                assert time.monotonic() < end, (number, found)
                accounted.__globals__["_ended"].clear()  # what was asked too soon
                time.sleep(0.5)
            assert isinstance(found, Record)
        assert accounted("4711") is None
