"""Jobs on a real Ray of two nodes, both on this machine."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.integration.command import FAULTY, environment, headway, start
from tests.integration.studies import own_temporary_folder, processes
from tests.integration.test_ray import RAY, held_by
from trainer.job import Job, State

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PORT = 26479
ADDRESS = f"127.0.0.1:{PORT}"
ON = ["launcher=ray", f"launcher.address={ADDRESS}", "tracking=none"]
# 45 steps an epoch, each of so many seconds
SLOW = [FAULTY, "data=digits", "+algorithm.seconds=0.08", "checkpoint.every=10", *ON]
MINE = "HEADWAY_TEST_RAY_NODE"
HAS_JOBS = str(find_spec("aiohttp") is not None).lower()  # whether its dashboard takes jobs


def ray(*arguments: str, **env: str) -> str:
    done = subprocess.run([RAY, *arguments], env={**os.environ, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def add_node(name: str) -> None:
    """One with two processors, whose processes can be told from others'."""
    ray("start", f"--address={ADDRESS}", "--node-ip-address=127.0.0.1", "--num-cpus=2", "--disable-usage-stats",
        "--object-store-memory=80000000", **{MINE: name})  # fmt: skip


def lose_node(name: str) -> None:
    """Kills all that runs there, as if the machine were gone."""
    for process in (path for path in Path("/proc").iterdir() if path.name.isdigit()):
        try:
            if f"{MINE}={name}".encode() in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            continue


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    before = dict(os.environ)
    os.environ |= {"RAY_AUTH_MODE": "disabled"}
    os.environ |= {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3"}
    with own_temporary_folder() as temporary:
        ray("start", "--head", f"--port={PORT}", "--node-ip-address=127.0.0.1", "--num-cpus=2", "--disable-usage-stats",
            f"--include-dashboard={HAS_JOBS}", "--dashboard-host=127.0.0.1", f"--dashboard-port={PORT + 1}", f"--temp-dir={temporary}/ray", "--object-store-memory=80000000")  # fmt: skip
        add_node("second")
        yield
        for pid, _ in processes(temporary):
            os.kill(pid, signal.SIGKILL)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _all_is_given_back(cluster: None, folder: Path) -> Iterator[None]:
    yield
    until(lambda: not held_by(ADDRESS)[0], 60)


def until(condition: Callable[[], Any], seconds: float = 90.0, job: Job | None = None) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        logs = [path.read_text()[-2000:] for path in job.logs.glob("*.log")] if job else []
        assert time.monotonic() < end, [job and job.events(), *logs]
        time.sleep(0.1)
    return found


def begun(name: str, *overrides: str) -> tuple[Job, subprocess.Popen[str]]:
    process = start("train", *SLOW, *overrides, f"job.name={name}")
    job = Job(Path("runs", name).absolute())
    until(lambda: process.poll() is None and ((job.progress() or {}).get("step") or 0) >= 15, job=job)
    return job, process


def ends(process: subprocess.Popen[str], code: int = 0) -> str:
    said, _ = process.communicate(timeout=120)
    assert process.returncode == code, said
    return said


def worlds(job: Job) -> list[int]:
    return [event["world_size"] for event in job.events() if event["state"] == State.RUNNING]


def test_two_nodes_train_what_two_nodes_here_train() -> None:
    options = ["algorithm=linear", "data=digits", "train.epochs=2", "launcher.nodes=2", "launcher.workers=2"]
    done = headway("train", *options, *ON, "job.name=there")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search(r"Traceback|usage stat|\(pid=", done.stdout + done.stderr)
    here = headway("train", *options, "tracking=none", "job.name=here")
    assert here.returncode == 0
    there, local = (Path(f"runs/{name}/model/model.safetensors").read_bytes() for name in ("there", "here"))
    assert there == local


def test_what_a_killed_command_held_is_given_back_and_the_job_goes_on_later() -> None:
    job, process = begun("killed", "launcher.nodes=2", "train.epochs=4")
    process.kill()
    process.communicate()
    until(lambda: held_by(ADDRESS)[:2] == ([], 4.0), 60)
    until(lambda: not headway("show", "killed").stdout.startswith("killed  Running"))
    done = headway("resume", "killed")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (job.result() or {})["interruptions"][0]["steps_lost"] == 0


def test_where_no_ray_answers_it_is_said(folder: Path) -> None:
    done = headway("train", "algorithm=linear", "data=digits", "launcher=ray", "launcher.address=127.0.0.1:1")
    assert done.returncode == 1
    assert "launcher.address: no Ray answers at '127.0.0.1:1'" in done.stderr
    done = headway("train", "algorithm=linear", "data=digits", "launcher=ray", "job.detach=true")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "give launcher.address" in done.stderr


def test_detached_it_is_one_of_the_clusters_own_jobs() -> None:
    pytest.importorskip("aiohttp", reason='needs pip install "headway[ray]"')
    done = headway("train", *SLOW, "launcher.nodes=2", "train.epochs=2", "job.detach=true", "job.name=alone")
    assert done.returncode == 0, done.stdout + done.stderr
    job = Job(Path("runs/alone").absolute())
    until(lambda: ((job.progress() or {}).get("step") or 0) >= 15, job=job)
    assert headway("show", "alone").stdout.startswith("alone  Running")
    done = headway("stop", "alone")
    assert done.stdout == "alone: Stopped\n", done.stderr
    done = headway("resume", "alone")
    assert done.returncode == 0, done.stderr
    until(lambda: job.state() is State.COMPLETED, job=job)
    assert (job.result() or {})["interruptions"][0]["steps_lost"] == 0


# what changes the cluster comes last


def test_a_node_that_is_lost_is_done_without_and_another_taken_in() -> None:
    job, process = begun("lost", "launcher.nodes=2", "launcher.min_nodes=1", "launcher.cpus=2", "train.epochs=8")
    lose_node("second")
    until(lambda: worlds(job)[-1] == 1, job=job)
    add_node("third")
    until(lambda: worlds(job)[-1] == 2, job=job)
    ends(process)
    assert job.state() is State.COMPLETED
    assert worlds(job) == [2, 1, 2]


NODES = f"""
import ray
ray.init(address={ADDRESS!r}, log_to_driver=False, logging_level=40)
print(*(n["NodeID"] for n in ray.nodes() if n["Alive"] and not n["Resources"].get("node:__internal_head__")))
"""


def test_a_node_that_ray_drains_is_left_with_the_state_saved() -> None:
    job, process = begun("drained", "launcher.nodes=2", "launcher.min_nodes=1", "launcher.cpus=2", "train.epochs=4")
    node = subprocess.run(
        [sys.executable, "-c", NODES], env=environment(), capture_output=True, text=True, check=True
    ).stdout.split()[-1]
    ray("drain-node", f"--address={ADDRESS}", f"--node-id={node}", "--reason=DRAIN_NODE_REASON_PREEMPTION",
        "--reason-message=taken", "--deadline-remaining-seconds=300")  # fmt: skip
    ends(process)
    assert worlds(job) == [2, 1]
    [line] = (job.result() or {})["interruptions"]
    assert line["steps_lost"] == 0
