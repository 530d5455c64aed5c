"""A tracker that fails is told where whoever looks after the job looks, and the job goes on."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.command import headway
from trainer.job.directory import Job

AWAY = """
class Away:
    def start(self, job_dir, config): ...

    def log(self, step, values):
        raise ConnectionError("the server is away")

    def finish(self, result): ...
"""


def test_a_tracker_that_fails_is_told_in_the_terminal_the_result_and_show(folder: Path) -> None:
    Path("away.py").write_text(AWAY)
    common = ["algorithm=linear", "data=digits", "train.epochs=2", "job.dir=job"]
    done = headway("train", *common, "tracking=./away.py:Away")
    assert done.returncode == 0, done.stdout + done.stderr
    said = "Away stopped tracking; the training goes on: ConnectionError: the server is away"
    assert f"note   {said}\n" in done.stdout
    assert (Job(Path("job")).result() or {})["notes"] == [said]
    assert f"note   {said}\n" in headway("show", "job").stdout
    assert json.loads(headway("show", "job", "--json").stdout)["result"]["notes"] == [said]
