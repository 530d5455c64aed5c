"""What the real command says of where the time goes, of ranks that are slow and of those that hang."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.command import FAULTY, headway
from trainer.job.directory import Job
from trainer.job.node_state import PARTS
from trainer.job.result import is_of_the_run

pytestmark = pytest.mark.slow

DIGITS = [FAULTY, "data=digits", "train.max_steps=120", "tracking=none"]


def train(directory: Path, *arguments: str) -> tuple[Job, str]:
    done = headway("train", f"job.dir={directory}", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return Job(directory), done.stdout


def result_of(job: Job) -> dict[str, Any]:
    result = job.result()
    assert result is not None
    return result


def learned(job: Job) -> list[tuple[int, dict[str, float]]]:
    return [
        (line["step"], {name: value for name, value in line["values"].items() if not is_of_the_run(name)})
        for line in job.metrics()
    ]


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, str]:
    return train(tmp_path_factory.mktemp("profiled") / "job", *DIGITS, "launcher.workers=2", "train.profile=true")


@pytest.mark.parametrize(
    "more",
    [
        ["launcher.workers=1"],
        ["launcher.workers=2"],
        ["launcher.workers=2", "train.elastic=exact"],
        ["launcher.workers=2", "strategy=fsdp"],
        ["launcher.workers=1", "train.gradient_accumulation=4"],
    ],
    ids=" ".join,
)
def test_the_parts_of_the_time_sum_to_the_training_time(tmp_path: Path, more: list[str]) -> None:
    job, output = train(tmp_path / "job", *DIGITS, *more)
    result = result_of(job)
    split = result["split"]
    assert set(split) == set(PARTS)
    assert sum(split.values()) == pytest.approx(result["seconds"]["training"], abs=0.001 * len(PARTS))
    assert all(split[part] > 0 for part in ("forward", "optimizer", "validation"))
    assert "time went to " in output
    assert ("communication within the others" in output) == ("strategy=fsdp" in more)


def test_times_of_lives_that_were_cut_short_count_too(tmp_path: Path) -> None:
    killed = ["+algorithm.how=kill", "+algorithm.at=70", "+algorithm.rank=0", "+algorithm.seconds=0.02"]
    job, _ = train(tmp_path / "job", *DIGITS, *killed, "launcher.workers=1", "checkpoint.every=20")
    result, progress = result_of(job), job.progress() or {}
    assert result["attempts"] == 2
    assert sum(result["split"].values()) > progress["session_seconds"] + 1  # of the first life's 1.4 s or more


def test_a_profile_is_a_trace_and_a_table_of_each_rank(profiled: tuple[Job, str]) -> None:
    job, output = profiled
    for rank in (0, 1):
        with gzip.open(job.profile / f"rank-{rank}.pt.trace.json.gz", "rt") as file:
            names = {event.get("name", "") for event in json.load(file)["traceEvents"]}
        assert {"ProfilerStep#3", "ProfilerStep#7", "gloo:all_reduce"} <= names
        assert not {"ProfilerStep#2", "ProfilerStep#8"} & names
        table = json.loads((job.profile / f"rank-{rank}.json").read_text())
        assert table["steps"] == 5
        assert set(table["seconds"]) == set(PARTS)
        assert all(table["seconds"][part] > 0 for part in ("data", "forward", "backward", "optimizer", "communication"))
    assert "ms a step" in output
    assert "logs/profile" in output
    shown = headway("show", str(job.dir)).stdout
    assert "ms a step" in shown
    assert "logs/profile" in shown


def test_a_profile_changes_nothing_of_what_is_learned(profiled: tuple[Job, str], tmp_path: Path) -> None:
    job, _ = profiled
    other, _ = train(tmp_path / "job", *DIGITS, "launcher.workers=2")
    assert learned(job) == learned(other)
    assert (job.model / "model.safetensors").read_bytes() == (other.model / "model.safetensors").read_bytes()
    assert not other.profile.exists()


@pytest.mark.parametrize(("steps", "kept"), [(1, 0), (3, 2), (8, 5), (12, 5)])
def test_a_short_training_has_a_shorter_profile(tmp_path: Path, steps: int, kept: int) -> None:
    job, _ = train(tmp_path / "job", *DIGITS, f"train.max_steps={steps}", "launcher.workers=1", "train.profile=true")
    tables = [json.loads(path.read_text()) for path in job.profile.glob("rank-*.json")]
    assert [table["steps"] for table in tables] == [kept] * (kept > 0)
    if not kept:
        assert "too few steps" in job.log_path(0, 0).read_text()


def test_a_slow_rank_is_named_in_the_log_the_result_and_at_the_end(tmp_path: Path) -> None:
    slow = ["+algorithm.slow=0.03", "+algorithm.seconds=0.002", "train.epochs=null", "train.max_steps=250"]
    job, output = train(tmp_path / "job", FAULTY, *slow, "data=digits", "launcher.workers=2", "train.log_every=10")
    log = job.log_path(0, 0).read_text()
    assert log.count("rank 1 is slow") == 1
    assert "rank 0 is slow" not in log
    [episode] = result_of(job)["stragglers"]
    assert episode["rank"] == 1
    assert episode["factor"] > 1.5
    assert "rank 1 was slow" in output
    assert "rank 1 was slow" in headway("show", str(job.dir)).stdout


def test_a_rank_that_hangs_is_named_with_where_it_stands_and_where_the_others_wait(tmp_path: Path) -> None:
    hang = ["+algorithm.how=hang", "+algorithm.at=20", "train.hang_timeout=1s", "launcher.max_restarts=0"]
    done = headway("train", f"job.dir={tmp_path}/job", FAULTY, *hang, "data=digits", "launcher.workers=2")
    assert done.returncode == 1
    assert "worker 1 made no step for" in done.stderr
    assert "worker 1 is in the forward of step 21, worker 0 is in the backward of step 21" in done.stderr
    assert "(rank 1); the trace is in" in done.stderr
    trace = Job(tmp_path / "job").log_path(0, 1).read_text()
    assert "faulty.py" in trace
    assert "in loss" in trace
