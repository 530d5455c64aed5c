"""The queue is asked through a squeue of this test's, which counts how often."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from launchers.slurm import queue as slurm_queue
from launchers.slurm.queue import Record, record

SQUEUE = """#!/bin/sh
echo asked >>"{folder}/asked"
[ -e "{folder}/down" ] && {{ echo "squeue: error: Unable to contact slurm controller (connect failure)" >&2; exit 1; }}
cat "{folder}/queue"
"""


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder whose file `queue` squeue prints."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("HEADWAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(slurm_queue, "_ended", {})
    for name, text in (("squeue", SQUEUE.format(folder=tmp_path)), ("sacct", "#!/bin/sh\nexit 1\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "queue").write_text("7|RUNNING|None|n[1-2]\n8_0|PENDING|Priority|\n8_1|COMPLETED|None|n1\n")
    return tmp_path


def asked(queue: Path) -> int:
    return len((queue / "asked").read_text().splitlines())


ASK = "import sys; from launchers.slurm.queue import record; print(*(record(n, since=0.0)[0].state for n in sys.argv[1:]))"


def test_many_jobs_and_many_processes_share_one_look(queue: Path) -> None:
    for number in ("7", "8_0", "8_1") * 100:
        assert record(number, since=0.0)[0] is not None
    others = [
        subprocess.Popen([sys.executable, "-c", ASK, "7", "8_0"], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    assert {other.communicate()[0].strip() for other in others} == {"RUNNING PENDING"}
    assert asked(queue) <= 2  # one more if the processes took longer than a look lasts


def test_a_look_that_is_older_than_a_job_does_not_tell_of_it(queue: Path) -> None:
    assert record("9", since=0.0) == (None, "")
    with open(queue / "queue", "a") as file:
        file.write("9|PENDING|Resources|\n")
    assert record("9", since=time.time()) == (Record("PENDING", "Resources", ""), "")
    assert asked(queue) == 2


def test_a_controller_that_gives_no_answer_has_lost_no_job(queue: Path) -> None:
    (queue / "down").touch()
    found, silence = record("7", since=0.0)
    assert found is None
    assert silence.startswith("Unable to contact slurm controller")


def test_where_there_is_no_slurm_that_is_said(queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(queue / "nowhere"))
    assert record("7", since=0.0) == (None, "there is no squeue here to ask")


def test_where_the_cache_folder_cannot_be_written_slurm_is_asked_each_time(queue: Path) -> None:
    (queue / "cache").write_text("a file")
    for _ in range(2):
        assert record("7", since=0.0) == (Record("RUNNING", "None", "n[1-2]"), "")
    assert asked(queue) == 2


def test_the_look_lies_in_the_users_cache_folder(queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADWAY_CACHE")
    monkeypatch.setenv("HOME", str(queue / "home"))
    (queue / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(queue / "tmp"))
    assert record("7", since=0.0)[0]
    [look] = (queue / "home/.cache/headway/slurm").glob("*.json")
    assert look.parent.stat().st_mode & 0o777 == 0o700
    assert not list((queue / "tmp").iterdir())
