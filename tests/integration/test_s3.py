"""A job whose directory is on S3, by the real command, against a server that speaks S3 over HTTP."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.command import FAULTY, as_from_a_terminal, environment, processes_of, until
from tests.projects import MINE, project
from trainer.testing.chaos.s3 import Server
from trainer.testing.chaos.s3_objects import Manners

URL = "s3://bucket/jobs/one"


class Machine:
    """A machine with a cache of its own."""

    def __init__(self, s3: Server, home: Path) -> None:
        self.cache = home / "cache"
        self.environment = {**environment(), **s3.environment(), "HEADWAY_CACHE": str(self.cache)}
        self.home = home
        home.mkdir()

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "trainer", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
            cwd=self.home,
            start_new_session=True,
            preexec_fn=as_from_a_terminal,
        )

    def headway(self, *arguments: str) -> str:
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
        return output

    @property
    def staged(self) -> Path:
        return self.cache / "jobs/bucket/jobs/one"


@pytest.fixture
def s3() -> Iterator[Server]:
    with Server("bucket", seed=1) as server:
        yield server


def names(s3: Server) -> set[str]:
    return {key.removeprefix("jobs/one/") for key in s3.stored("bucket")}


@pytest.mark.slow
def test_a_job_on_s3_is_all_there_and_read_from_anywhere(s3: Server, tmp_path: Path) -> None:
    one, other = Machine(s3, tmp_path / "one"), Machine(s3, tmp_path / "other")
    s3.faults(rate=0.1)
    output = one.headway("train", "train.epochs=2", f"job.dir={URL}", "job.encryption=sse-s3")
    assert f"model  {URL}/model" in output
    assert {"config.yaml", "events.jsonl", "metrics.jsonl", "result.json", "model/artifact.json"} <= names(s3)
    assert any(name.startswith("checkpoints/") and name.endswith("manifest.json") for name in names(s3))
    headers = s3.stored("bucket")["jobs/one/model/artifact.json"].headers
    assert "AES256" in str(headers)
    assert "Completed" in other.headway("show", URL)
    assert "prediction" in other.headway("predict", f"model={URL}/model", "data=digits")
    before = {key: stored.etag for key, stored in s3.stored("bucket").items()}
    assert "already completed" in other.headway("train", "train.epochs=2", f"job.dir={URL}")
    assert {key: stored.etag for key, stored in s3.stored("bucket").items()} == before


@pytest.mark.slow
def test_what_could_not_be_brought_up_is_brought_up_by_the_same_command(s3: Server, tmp_path: Path) -> None:
    machine = Machine(s3, tmp_path / "one")
    machine.headway("train", "train.epochs=1", f"job.dir={URL}")
    stored = s3.stored("bucket")
    whole = stored["jobs/one/events.jsonl"].data
    s3.put("bucket", "jobs/one/events.jsonl", whole[: whole.rindex(b'{"time"')])
    output = machine.headway("resume", URL)
    assert "bringing up the rest" in output
    assert s3.stored("bucket")["jobs/one/events.jsonl"].data == whole


@pytest.mark.slow
def test_one_that_is_done_is_trained_further_by_another_machine(s3: Server, tmp_path: Path) -> None:
    Machine(s3, tmp_path / "one").headway("train", "train.epochs=1", f"job.dir={URL}")
    before = s3.stored("bucket")["jobs/one/model/model.safetensors"].data
    output = Machine(s3, tmp_path / "other").headway("resume", URL, "train.epochs=2")
    assert "goes on from step 45" in output
    assert f"model  {URL}/model" in output
    stored = s3.stored("bucket")
    assert stored["jobs/one/model/model.safetensors"].data != before
    result = json.loads(stored["jobs/one/result.json"].data)
    assert (result["steps"], result["model"]) == (90, f"{URL}/model")


@pytest.mark.slow
def test_of_two_live_copies_the_older_one_stops_and_the_newer_one_ends_right(s3: Server, tmp_path: Path) -> None:
    first, second = Machine(s3, tmp_path / "one"), Machine(s3, tmp_path / "two")
    job = [FAULTY, "+algorithm.seconds=0.01", "train.epochs=60", "checkpoint.every=25"]
    older = first.start("train", *job, f"job.dir={URL}")
    end = time.monotonic() + 600
    while not any("checkpoints/" in name and name.endswith("manifest.json") for name in names(s3)):
        assert time.monotonic() < end
        time.sleep(0.05)
    output = second.headway("resume", URL)
    assert "goes on from step" in output
    said, _ = older.communicate(timeout=600)
    assert older.returncode == 130
    assert "taken over by" in said
    assert (
        s3.stored("bucket")["jobs/one/model/model.safetensors"].data
        == (second.staged / "model/model.safetensors").read_bytes()
    )
    assert not (first.staged / "model").exists()


@pytest.mark.promise
@pytest.mark.slow
def test_a_machine_that_is_lost_with_its_disk_loses_only_what_was_not_up(s3: Server, tmp_path: Path) -> None:
    machine = Machine(s3, tmp_path / "one")
    job = [FAULTY, "+algorithm.seconds=0.01", "train.epochs=12", "checkpoint.every=25", f"job.dir={URL}"]
    process = machine.start("train", *job)
    end = time.monotonic() + 600
    while sum(name.endswith("manifest.json") for name in names(s3)) < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    agent = json.loads((machine.staged / "logs/node-0.json").read_text())["agent"]
    os.kill(agent, 9)
    process.communicate(timeout=600)
    shutil.rmtree(machine.staged)
    output = machine.headway("resume", URL)
    assert "goes on from step" in output
    assert "Completed" in output


@pytest.mark.slow
def test_a_job_that_goes_on_on_another_machine_brings_its_code(s3: Server, tmp_path: Path) -> None:
    one, other = Machine(s3, tmp_path / "one"), Machine(s3, tmp_path / "other")
    tree = project(one.home / "proj")
    one.environment["PYTHONPATH"] += os.pathsep + str(tree)
    process = one.start("train", MINE, "data=digits", "train.epochs=20", "checkpoint.every=25", f"job.dir={URL}")
    end = time.monotonic() + 600
    while not any(name.endswith("manifest.json") for name in names(s3)):
        assert time.monotonic() < end
        time.sleep(0.05)
    process.terminate()
    process.communicate(timeout=600)
    while processes_of(one.staged):  # its agent still brings up what it has saved
        assert time.monotonic() < end + 60
        time.sleep(0.05)
    assert {"submission/submission.json", "submission/code.zip", "submission/requirements.lock"} <= names(s3)
    shutil.rmtree(one.home)
    output = other.headway("resume", URL)
    assert "goes on from step" in output
    assert "Completed" in output
    shutil.rmtree(other.cache)
    assert "prediction" in other.headway("predict", f"model={URL}/model", "model.trust_code=true", "data=digits")


def test_a_server_that_cannot_keep_a_job_is_refused_before_anything_begins(s3: Server, tmp_path: Path) -> None:
    s3.manners = Manners(match="refused")
    machine = Machine(s3, tmp_path / "one")
    process = machine.start("train", f"job.dir={URL}")
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 2
    assert output.startswith(f"error: {URL}/")
    assert f"{s3.url} refuses a write whose condition is true" in output
    assert len(output.splitlines()) == 1
    assert s3.stored("bucket") == {}
    assert not (machine.staged / "config.yaml").exists()


@pytest.mark.slow
def test_one_that_takes_no_conditions_is_told_and_the_job_goes_on(s3: Server, tmp_path: Path) -> None:
    s3.manners = Manners(match="ignored", absent="unknown", on_completion="ignored", crc32="refused", quotes=False)
    output = Machine(s3, tmp_path / "one").headway("train", "train.epochs=1", f"job.dir={URL}")
    assert output.startswith(f"{URL}: {s3.url} doesn't hold a write to its condition; two live copies of this job may")
    assert "model/artifact.json" in names(s3)


@pytest.mark.slow
def test_a_job_that_ends_while_s3_is_away_says_where_it_is_and_is_brought_up_later(s3: Server, tmp_path: Path) -> None:
    machine = Machine(s3, tmp_path / "one")
    process = machine.start("train", FAULTY, "+algorithm.seconds=0.01", "train.epochs=4", f"job.dir={URL}")
    until(lambda: "config.yaml" in names(s3))
    s3.faults(1.0, ["unavailable"])
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if line.startswith(f"bringing up what {URL} has not yet"):
            process.send_signal(signal.SIGINT)
            break
    rest, _ = process.communicate(timeout=600)
    model = machine.staged / "model"
    assert process.returncode == 75
    assert "Completed  one" in rest
    assert f"model  {model.relative_to(machine.home)}\n" in rest
    assert "S3     lacks model, " in rest
    assert f"next   headway resume {URL}  # on this machine" in rest
    assert f"{URL}/model" not in said + rest
    assert json.loads((machine.staged / "result.json").read_text())["model"] == str(model)
    s3.faults(0.0)
    output = machine.headway("resume", URL)
    assert f"model  {URL}/model" in output
    assert s3.stored("bucket")["jobs/one/model/model.safetensors"].data == (model / "model.safetensors").read_bytes()
    assert json.loads(s3.stored("bucket")["jobs/one/result.json"].data)["model"] == f"{URL}/model"


@pytest.mark.slow
def test_a_stop_while_s3_is_away_says_what_it_waits_for_and_what_is_left(s3: Server, tmp_path: Path) -> None:
    machine = Machine(s3, tmp_path / "one")
    process = machine.start("train", FAULTY, "+algorithm.seconds=0.01", "train.epochs=400", f"job.dir={URL}")
    until(lambda: "metrics.jsonl" in names(s3))
    s3.faults(1.0, ["unavailable"])
    stop = machine.start("stop", URL)
    assert stop.stdout is not None
    said = stop.stdout.readline()
    assert said.startswith(f"bringing up what {URL} has not yet")
    stop.send_signal(signal.SIGINT)
    rest, _ = stop.communicate(timeout=600)
    assert stop.returncode == 75
    assert "one: Stopped" in rest
    assert "not on S3: model, checkpoints/step-" in rest
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "S3     lacks model, checkpoints/step-" in output
    s3.faults(0.0)
    assert "not on S3" in machine.headway("ls", str(machine.staged.parent))
    assert "not on S3" in machine.headway("show", URL)
