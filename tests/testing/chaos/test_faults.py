"""A fault is given to who is there; one that comes too late is not given, and nothing breaks."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests import jobs
from trainer.testing.chaos.faults import Missed, World, give
from trainer.testing.chaos.metadata import MetadataServer
from trainer.testing.chaos.processes import MARK
from trainer.testing.chaos.schedule import RUNNING, Fault
from trainer.testing.chaos.subject import Subject


@pytest.mark.parametrize(("kind", "options"), [("kill-worker", {}), ("hang", {"who": "one"})])
def test_a_fault_that_comes_between_the_last_step_and_the_jobs_end_is_missed(
    tmp_path: Path, kind: str, options: dict[str, str]
) -> None:
    """Its workers have left, and nobody has written yet that it is completed."""
    job = jobs.make_job(tmp_path / "job")
    jobs.start(job)
    subject = Subject(job, [], {MARK: "nobody"}, tmp_path / "output")
    threading.Timer(0.2, jobs.end, (job,)).start()
    with MetadataServer() as metadata, pytest.raises(Missed):
        give(Fault(0, kind, RUNNING, 0.0, 0.5, options), subject, World(metadata))
