"""Jobs on a real Ray of two nodes, both on this machine."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.command import FAULTY, environment, headway, start, until
from tests.integration.ray_cluster import add_node, held_by, lose_node, ray, two_nodes
from trainer.job.directory import Job, State

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PORT = 26479
ADDRESS = f"127.0.0.1:{PORT}"
ON = ["launcher=ray", f"launcher.address={ADDRESS}", "tracking=none"]
# 45 steps an epoch, each of so many seconds
SLOW = [FAULTY, "data=digits", "+algorithm.seconds=0.08", "checkpoint.every=10", *ON]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with two_nodes(PORT):
        yield


@pytest.fixture(autouse=True)
def _all_is_given_back(cluster: None, folder: Path) -> Iterator[None]:
    yield
    until(lambda: not held_by(ADDRESS)[0])


def begun(name: str, *overrides: str) -> tuple[Job, subprocess.Popen[str]]:
    process = start("train", *SLOW, *overrides, f"job.name={name}")
    job = Job(Path("runs", name).absolute())
    until(lambda: process.poll() is None and ((job.progress() or {}).get("step") or 0) >= 15, job)
    return job, process


def ends(process: subprocess.Popen[str], code: int = 0) -> str:
    said, _ = process.communicate(timeout=600)
    assert process.returncode == code, said
    return said


def worlds(job: Job) -> list[int]:
    return [event["world_size"] for event in job.events() if event["state"] == State.RUNNING]


@pytest.mark.promise
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
    until(lambda: held_by(ADDRESS)[:2] == ([], 4.0))
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


# what changes the cluster comes last


def test_a_node_that_is_lost_is_done_without_and_another_taken_in() -> None:
    job, process = begun("lost", "launcher.nodes=2", "launcher.min_nodes=1", "launcher.cpus=2", "train.epochs=8")
    lose_node("second")
    until(lambda: worlds(job)[-1] == 1, job)
    add_node(ADDRESS, "third")
    until(lambda: worlds(job)[-1] == 2, job)
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
