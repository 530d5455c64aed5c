"""Jobs on SLURM nodes that have no folder in common: all that they share is S3, a server that speaks it over HTTP."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.command import FAULTY, headway, trained
from tests.integration.slurms import lose, nodes_of, number_of, run
from trainer.job.directory import Job, State
from trainer.job.remote.download import bring
from trainer.storage.objects import staging
from trainer.testing.chaos.s3 import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = "s3://bucket/jobs"
# 90 steps, each of so many seconds
SLOW = [FAULTY, "data=digits", "train.epochs=2", "checkpoint.every=10", "tracking=none", "+algorithm.seconds=0.08"]
TWO = ["launcher.nodes=2", "launcher.workers=1"]


@pytest.fixture(autouse=True)
def s3(slurm: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server("bucket", seed=1) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HEADWAY_CACHE", str(folder / "cache"))
        yield server
        run("scancel", "--user=root")


def submitted(name: str, *overrides: str) -> Job:
    """Detached; read in a folder in which no agent works."""
    url = f"{ROOT}/{name}"
    done = headway("train", "launcher=slurm", *overrides, f"job.dir={url}", "job.detach=true")
    assert done.returncode == 0, done.stderr
    return Job(staging(url), url)


def until(condition: Callable[[], Any], job: Job, seconds: float = 600.0) -> Any:
    end = time.monotonic() + seconds
    while True:
        bring(job, every=0.3)
        if found := condition():
            return found
        assert time.monotonic() < end, [job.events(), *(p.read_text() for p in Path("/tmp").glob("headway-*.log"))]
        time.sleep(0.1)


def reaches(job: Job, step: int) -> None:
    until(lambda: ((job.progress() or {}).get("step") or 0) >= step, job)


def ends(job: Job) -> State:
    until(lambda: job.state().is_final, job)
    return job.state()


def events(job: Job, state: State, key: str) -> list[Any]:
    return [event[key] for event in job.events() if event["state"] == state]


def weights(s3: Server, name: str) -> bytes:
    return s3.stored("bucket")[f"jobs/{name}/model/model.safetensors"].data


def trained_here(name: str, *overrides: str) -> bytes:
    return (trained(Path("runs", name).absolute(), *overrides).model / "model.safetensors").read_bytes()


def test_two_nodes_train_what_two_nodes_here_train_and_all_is_told_to_who_follows(s3: Server, folder: Path) -> None:
    options = ["algorithm=linear", "data=digits", "train.epochs=2", *TWO]
    done = headway("train", "launcher=slurm", *options, f"job.dir={ROOT}/two")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Completed  two" in done.stdout
    assert f"model  {ROOT}/two/model" in done.stdout
    assert weights(s3, "two") == trained_here("here", *options)
    names = {key.removeprefix("jobs/two/") for key in s3.stored("bucket")}
    assert {"job.sbatch", "slurm.json", "result.json", "logs/attempt-0-rank-1.log"} <= names
    os.environ["HEADWAY_CACHE"] = str(folder / "elsewhere")  # as from another machine
    shown = headway("show", f"{ROOT}/two")
    assert shown.stdout.splitlines()[0] == "two  Completed", shown.stderr


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_preempted_it_goes_on_from_what_each_node_has_carried_to_the_same_end(s3: Server, strategy: str) -> None:
    options = [*SLOW, *TWO, f"strategy={strategy}", "train.epochs=4"]
    job = submitted("low", *options, "launcher.partition=low")
    reaches(job, 20)
    number = number_of(job)
    run("sbatch", "--partition=high", "--nodes=4", "--exclusive", "--time=1", "--output=/dev/null", "--wrap=sleep 2")
    until(lambda: events(job, State.INTERRUPTED, "source"), job)
    for node in (0, 1):  # it comes back to machines that know nothing of it
        shutil.rmtree(staging(str(job.url), node).parents[2])
    assert ends(job) is State.COMPLETED
    assert events(job, State.INTERRUPTED, "source") == ["preempted"]
    assert number_of(job) == number
    assert [line["steps_lost"] for line in (job.result() or {})["interruptions"]] == [0]
    assert weights(s3, "low") == trained_here("calm", *options)


def test_a_node_that_is_lost_takes_its_share_of_the_newest_checkpoint_along_and_the_other_goes_on(
    slurm: Path, s3: Server
) -> None:
    job = submitted(
        "lost", *SLOW, *TWO, "launcher.min_nodes=1", "train.epochs=6", "checkpoint.every=20", "checkpoint.keep=3"
    )
    until(lambda: any(name.endswith("/manifest.json") for name in s3.stored("bucket")), job)
    gone = nodes_of(job)[0]
    lose(slurm, gone)
    try:
        until(lambda: events(job, State.RUNNING, "world_size") == [2, 1], job)
        assert ends(job) is State.COMPLETED
        until(lambda: run("squeue", "--noheader", "--states=running", f"--jobs={number_of(job)}") == "", job)
    finally:
        run("slurmd", "-N", gone)
    [line] = (job.result() or {})["interruptions"]
    assert line["source"] == "agent died"
    assert line["resumed"] >= 20


def test_what_a_worker_of_another_node_died_of_is_told(s3: Server) -> None:
    done = headway(
        "train", "launcher=slurm", *SLOW, *TWO, f"job.dir={ROOT}/bad", "+algorithm.rank=1", "+algorithm.how=bug",
        "+algorithm.at=5",
    )  # fmt: skip
    assert done.returncode == 1
    assert "my own bug" in done.stdout + done.stderr
    assert "rank 1" in done.stderr
    assert f"{ROOT}/bad/logs/attempt-1-rank-1.log" in done.stderr
