"""The Ray under a study: what it opens, what it holds, what it prints, what it leaves."""

from __future__ import annotations

import os
import re
import signal
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.command import FAULTY, environment, headway, start, until
from tests.integration.ray_cluster import held_by, ray
from tests.integration.studies import (
    COMMON,
    begun,
    done,
    environment_of,
    processes,
    resumed,
    size,
    study,
    wait_until_gone,
)
from trainer.job.directory import Job, State

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.usefixtures("temporary")]

TWO = ["tune.trials=2", "tune.parallel=2"]


def listening(pids: set[int]) -> set[str]:
    """The addresses at which these processes listen, as /proc has them."""
    sockets = set()
    for pid in pids:
        try:
            sockets |= {os.readlink(fd)[8:-1] for fd in Path(f"/proc/{pid}/fd").iterdir() if is_socket(fd)}
        except OSError:
            continue  # it has ended
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            parts = line.split()
            if parts[3] == "0A" and parts[9] in sockets:
                found.add(parts[1].partition(":")[0])
    return found


def is_socket(descriptor: Path) -> bool:
    try:
        return os.readlink(descriptor).startswith("socket:")
    except OSError:
        return False


def assert_private(temporary: Path) -> None:
    """Nobody else can enter the folder of a Ray, and all of its processes ask for a token, which stands in none's command line
    and in no file."""
    folders = list(temporary.glob("headway-ray-*"))
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in folders] == [0o700]
    assert not (temporary / "ray").exists()
    tokens = set()
    for pid, command in processes(temporary):
        if "/ray/" in command or command.startswith("ray::"):
            told = environment_of(pid)
            assert told["RAY_AUTH_MODE"] == "token"
            tokens.add(told["RAY_AUTH_TOKEN"])
    (token,) = tokens
    assert not [command for _, command in processes(temporary) if token in command]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if token.encode() in path.read_bytes()]


def test_a_job_on_a_ray_of_its_own_is_as_private(folder: Path, temporary: Path) -> None:
    process = start(
        "train", FAULTY, "data=digits", "+algorithm.seconds=0.1", "launcher=ray", "tracking=none", "job.name=own"
    )
    job = Job(Path("runs/own"))
    until(lambda: process.poll() is not None or ((job.progress() or {}).get("step") or 0) >= 5, job)
    assert process.poll() is None, process.communicate()[0]
    open_at = listening({pid for pid, _ in processes(temporary)})
    assert open_at
    assert open_at <= LOOPBACK
    assert_private(temporary)
    assert headway("stop", "own").returncode == 0
    process.communicate(timeout=600)
    wait_until_gone(temporary, 15)
    assert size(temporary) == 0


def test_a_job_that_is_taken_away_each_time_before_its_first_step_ends_with_a_line(
    folder: Path, temporary: Path
) -> None:
    (folder / "notice").touch()
    options = ["algorithm=linear", "data=digits", "tracking=none", f"launcher.notices=['file:{folder}/notice']"]
    done = headway("train", "launcher=ray", *options, "job.name=taken")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "taken failed: 5 attempts in a row made no step before they were interrupted" in done.stderr
    wait_until_gone(temporary, 15)


@pytest.mark.parametrize(
    ("number", "code", "state"),
    [(signal.SIGTERM, 75, State.INTERRUPTED), (signal.SIGINT, 130, State.STOPPED)],
)
def test_a_command_that_is_told_to_leave_leaves_with_the_state_saved_and_its_ray_goes_too(
    folder: Path, temporary: Path, number: signal.Signals, code: int, state: State
) -> None:
    options = [FAULTY, "data=digits", "train.epochs=1", "+algorithm.seconds=0.1", "launcher=ray", "tracking=none"]
    process = start("train", *options, "job.name=told")
    job = Job(Path("runs/told"))
    until(lambda: process.poll() is not None or ((job.progress() or {}).get("step") or 0) >= 5, job)
    process.send_signal(number)
    said, _ = process.communicate(timeout=600)
    assert (process.returncode, job.state()) == (code, state), said
    wait_until_gone(temporary, 15)
    done = headway("resume", "told")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line["steps_lost"] for line in (job.result() or {})["interruptions"]] == [0]


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def test_nothing_listens_for_other_machines_and_nothing_stays(folder: Path, temporary: Path) -> None:
    run = begun("study", *TWO)
    run.trains(0, step=5)
    open_at = listening({pid for pid, _ in processes(temporary)})
    assert open_at
    assert open_at <= LOOPBACK
    assert_private(temporary)
    said = run.ends()
    assert not re.search(r"(?i)ray|usage stat|warning|\(pid=", said), said
    wait_until_gone(temporary, 15)
    assert size(temporary) == 0


def test_in_a_terminal_there_is_nothing_of_rays(folder: Path) -> None:
    pexpect, width = pytest.importorskip("pexpect"), 60
    command = ["-m", "trainer", "tune", *COMMON, "study.name=study", "tune.trials=3", "tune.parallel=1"]
    env = {key: value for key, value in environment().items() if key not in ("COLUMNS", "LINES")}  # xdist sets them
    child = pexpect.spawn(sys.executable, command, env=env, dimensions=(24, width), encoding="utf-8", timeout=600)
    child.expect("running, ")
    child.expect("1 done of 3")
    child.sendintr()  # to the whole group, Ray's processes too
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus in (0, 130), child.before
    said = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", child.before)
    assert not re.search(r"(?i)\bray\b(?!\.)|usage stat|Traceback|\(pid=", said), said
    table = (
        said.partition("\nStudy ")[0].replace("\r", "\n").splitlines()
    )  # after it come commands, which are not broken
    assert max(map(len, table)) <= width + 1


# a cluster that is there


@pytest.fixture
def cluster(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Ray of two processors and one GPU that is only claimed."""
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    port = "26379"
    ray("start", "--head", f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=2", "--num-gpus=1",
        "--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={temporary}/ray",
        "--object-store-memory=80000000")  # fmt: skip
    try:
        yield f"127.0.0.1:{port}"
    finally:
        for pid, command in processes(temporary):
            if "/ray/" in command or command.startswith("ray::"):
                os.kill(pid, 9)


def test_a_cluster_gets_back_all_that_a_study_held(folder: Path, cluster: str) -> None:
    """After its end, after it was told to leave, after its driver was killed; half a GPU a trial."""
    run = begun("study", "tune.trials=4", f"ray.address={cluster}", "ray.gpus_per_worker=0.5", "algorithm.seconds=0.15")
    run.trains(0, step=5)
    run.trains(1, step=1)  # at the same time: each has half of it
    groups, _, gpus = held_by(cluster)
    assert groups == ["CREATED", "CREATED"]
    assert not gpus
    run.kill()
    until_free(cluster)
    run = resumed("study")
    run.trains(2, step=5)
    run.tell(15)
    run.ends(75)
    until_free(cluster)
    run = resumed("study")
    run.ends()
    until_free(cluster)
    assert [trial.state for trial in study("study").trials] == ["completed"] * 4


def until_free(cluster: str, seconds: float = 600.0) -> None:
    end = time.monotonic() + seconds
    while (held := held_by(cluster)) != ([], 2.0, 1.0):
        assert time.monotonic() < end, held
        time.sleep(0.5)


def test_where_no_ray_answers_it_is_said_soon(folder: Path) -> None:
    began = time.monotonic()
    said = done(*COMMON, "ray.address=127.0.0.1:1", "tune.trials=2", code=2)
    assert said.splitlines()[-1].startswith("error: ray.address: no Ray answers at '127.0.0.1:1'")
    assert "Traceback" not in said
    assert time.monotonic() - began < 60
