"""A small drill, by the real command."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from shutil import which

import pytest

from tests.integration.command import headway, start
from trainer.testing.chaos.processes import MARK, marked
from trainer.testing.chaos.report import REPORT, main, read

JOB = ["algorithm=linear", "data=digits", "launcher.workers=2", "train.epochs=60"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_survives_what_it_is_given(tmp_path: Path) -> None:
    kinds = "kill-worker,kill-all,sigterm,aws,hang,corrupt,withdrawn" + (",clock,disk-slow" if which("cc") else "")
    count = 2 + len(kinds.split(","))
    done = headway("chaos", *JOB, f"faults={count}", "seed=1", f"kinds={kinds}", f"dir={tmp_path}/drill", timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "drill" / REPORT).read_text())
    assert record["ok"]
    assert record["problems"] == []
    assert (record["total"]["given"], record["total"]["survived"]) == (count, count)
    assert (record["wrong_resumes"], record["lost_after_notice"]) == (0, 0)
    assert record["weights_identical"] == record["metrics_identical"] == record["runs_compared"] == len(record["runs"])
    assert set(record["kinds"]) == set(kinds.split(","))
    for words in (f"{count} faults: {count} survived", "weights identical", "kill-worker", "report"):
        assert words in done.stdout
    assert read(tmp_path / "drill" / REPORT).record() == record
    assert main([str(tmp_path / "drill")]) == 0


def test_a_mistake_is_the_jobs_own_line_and_leaves_nothing(tmp_path: Path) -> None:
    done = headway("chaos", "algorithm=linaer", f"dir={tmp_path}/drill")
    assert done.returncode == 2
    assert "did you mean 'linear'" in done.stderr
    assert not (tmp_path / "drill").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_drill_that_is_ended_leaves_no_process_and_no_disk_behind(number: signal.Signals, tmp_path: Path) -> None:
    place = tmp_path / "drill"
    process = start("chaos", *JOB, "kinds=kill-worker,disk-full", "faults=1000", f"dir={place}")
    end = time.monotonic() + 600
    while not (place / "run-001.log").exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(1)
    mark = _mark_of(process.pid)
    os.kill(process.pid, number)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 128 + number, output
    assert not mark or not marked(mark)
    assert str(place) not in Path("/proc/mounts").read_text()
    assert json.loads((place / REPORT).read_text())["error"] == (
        "ended by hand" if number == signal.SIGINT else "ended by SIGTERM"
    )


def _mark_of(parent: int) -> str:
    """The mark that a drill's job carries."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    for pid in children:
        for variable in Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0"):
            if variable.startswith(f"{MARK}="):
                return variable.partition("=")[2]
    return ""
