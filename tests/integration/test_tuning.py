"""Whatever befalls a study, it goes on where it was: the same points, each trained once, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.integration.command import headway
from tests.integration.studies import (
    COMMON,
    SPAN,
    agent_of,
    begun,
    done,
    own_temporary_folder,
    processes,
    resumed,
    size,
    steps_of,
    study,
    wait_until_gone,
)
from trainer.job.directory import Job, State
from trainer.job.node_state import parent_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.usefixtures("temporary")]

THREE = ["tune.trials=3", "tune.parallel=1"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of three trials, one after the other, that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    before = os.getcwd()
    os.chdir(folder)
    try:
        with own_temporary_folder() as temporary:
            done(*COMMON, "study.name=study", *THREE)
            wait_until_gone(temporary)
            assert size(temporary) == 0
    finally:
        os.chdir(before)
    return folder / "studies/study"


def assert_same(there: Path, whole: Path) -> None:
    """The same points in the same order, trained to the same weights to the bit, every report there once."""
    from trainer.tuning.record import read

    ours, theirs = read(there), read(whole)
    assert [t.state for t in ours.trials] == [t.state for t in theirs.trials] == ["completed"] * len(theirs.trials)
    assert [t.params for t in ours.trials] == [t.params for t in theirs.trials]
    assert [t.objective for t in ours.trials] == [t.objective for t in theirs.trials]
    assert sorted(p.name for p in (there / "trials").iterdir()) == sorted(p.name for p in (whole / "trials").iterdir())
    for name in sorted(p.name for p in (whole / "trials").iterdir()):
        mine, other = Job(there / "trials" / name), Job(whole / "trials" / name)
        assert steps_of(mine) == steps_of(other)
        for file in other.model.glob("*.safetensors"):
            assert (mine.model / file.name).read_bytes() == file.read_bytes()


def test_a_driver_that_is_killed_again_and_again(folder: Path, whole: Path, temporary: Path) -> None:
    """In the middle of a trial; as another has just got its directory; as its job ends; as the last one trains."""
    run = begun("study", *THREE)
    run.trains(0)
    run.kill()
    run = resumed("study")
    run.until(lambda: len(run.jobs()) == 2)
    run.kill()
    run = resumed("study")
    run.until(lambda: run.jobs()[1].state() is State.COMPLETED)
    run.kill()
    wait_until_gone(temporary)
    assert size(temporary) < 5 << 20
    run = resumed("study")
    run.trains(2, step=50)
    run.kill()
    assert "3 trials done" in resumed("study").ends()
    assert_same(folder / "studies/study", whole)
    assert [p.name for p in temporary.glob("headway-ray-*")] == []
    assert [t.reason for t in study("study").trials] == [""] * 3
    for job in run.jobs():
        assert State.FAILED not in [event["state"] for event in job.events()]


@pytest.mark.promise
def test_jobs_that_outlive_their_driver_are_found_again(folder: Path, whole: Path) -> None:
    run = begun("study", *THREE, "launcher._target_=detached.Detached")
    job = run.trains(0, step=5)
    run.kill()
    time.sleep(1)
    agent = agent_of(job)
    assert parent_of(agent) == 1
    resumed("study").ends()
    assert agent_of(job) == agent
    assert [event["state"] for event in job.events()].count("Starting") == 1
    assert_same(folder / "studies/study", whole)


def test_told_to_leave_jobs_save_their_state_and_the_study_goes_on_later(
    folder: Path, whole: Path, temporary: Path
) -> None:
    run = begun("study", *THREE)
    job = run.trains(0)
    run.tell(signal.SIGTERM)
    run.tell(signal.SIGTERM)  # as `timeout` does: the same again
    said = run.ends(75)
    assert "SIGTERM: 1 trial" in said
    assert "headway tune resume study" in said
    assert job.state() is State.STOPPED
    wait_until_gone(temporary)
    assert size(temporary) == 0
    resumed("study").ends()
    assert [line["steps_lost"] for line in (job.result() or {})["interruptions"]] == [0]
    assert_same(folder / "studies/study", whole)


def test_told_twice_it_leaves_at_once(folder: Path, temporary: Path) -> None:
    run = begun("study", *THREE, "+algorithm.validating=20")
    job = run.trains(0, step=45)  # the last of an epoch: it validates, and can leave only after that
    run.tell(signal.SIGINT)
    time.sleep(0.5)
    run.tell(signal.SIGINT)
    assert "ending them now" in run.ends(130)
    assert job.state() is not State.COMPLETED
    wait_until_gone(temporary, 15)


def test_what_kills_a_trials_processes_is_no_failure(folder: Path, whole: Path, temporary: Path) -> None:
    """Its worker, its agent, the actor that follows it, and the Ray that this is of, one after the other."""
    run = begun("study", *THREE)
    job = run.trains(0)
    os.kill(json.loads((job.logs / "node-0.json").read_text())["workers"][0], signal.SIGKILL)
    run.until(lambda: states(job).count("Running") == 2)
    os.kill(agent_of(job), signal.SIGKILL)
    run.until(lambda: states(job).count("Running") == 3)
    job = run.trains(1)
    for pid in [pid for pid, command in processes(temporary) if command.startswith("ray::Trial")]:
        os.kill(pid, signal.SIGKILL)
    run.trains(2)
    [raylet] = [pid for pid, command in processes(temporary) if command.partition(" ")[0].endswith("/raylet")]
    os.kill(raylet, signal.SIGKILL)
    said = run.ends(1)
    assert "the Ray that followed the trials has ended" in said.splitlines()[-1]
    run = resumed("study")
    run.ends()
    assert_same(folder / "studies/study", whole)
    assert "Failed" not in [state for job in run.jobs() for state in states(job)]


def states(job: Job) -> list[str]:
    return [event["state"] for event in job.events()]


def test_a_failing_configuration_is_told_with_its_reason_and_tried_again_only_if_asked(folder: Path) -> None:
    nan = ["+algorithm.how=nan", "+algorithm.rank=0", "tune.parallel=1", "tune.max_failures=2"]
    said = done(*COMMON, *nan, "study.name=once", code=1)
    assert "2 trials in a row failed alike" in said
    assert [t.state for t in study("once").trials] == ["failed", "failed"]
    assert all("the loss became nan at step 21" in t.reason for t in study("once").trials)
    jobs = [Job(path) for path in Path("studies/once/trials").iterdir()]
    assert [states(job).count("Failed") for job in jobs] == [1, 1]
    done(*COMMON, *nan, "study.name=twice", "tune.retries=1", "tune.max_failures=1", code=1)
    [job] = [Job(path) for path in Path("studies/twice/trials").iterdir()]
    assert states(job).count("Failed") == 2


@pytest.mark.parametrize("at_end", ["stop", "finish"])
def test_when_its_time_is_over_what_runs_is_stopped_or_finished(folder: Path, at_end: str) -> None:
    run = begun(
        "other",
        "algorithm.seconds=0.1",
        "tune.trials=9",
        "tune.parallel=1",
        "tune.max_time=1000s",
        f"tune.at_end={at_end}",
    )
    run.trains(0)
    run.kill()
    run = resumed("other", "tune.max_time=1s")
    said = run.ends(1 if at_end == "stop" else 0)
    assert "tune.max_time is over" in said
    assert [t.state for t in study("other").trials] == ["interrupted" if at_end == "stop" else "completed"]


# bad input


def test_two_drivers_of_one_study(folder: Path) -> None:
    run = begun("study", *THREE)
    run.until(lambda: (run.dir / "study.yaml").exists())
    said = done("resume", "study", code=2)
    assert f"process {run.process.pid}" in said
    run.kill()


def test_a_name_that_is_another_studys(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(whole.parents[1])
    other = [a if a != SPAN else "algorithm.lr=tag(log,interval(1e-2,1e-1))" for a in COMMON]
    said = done(*other, "study.name=study", *THREE, code=2)
    assert "0.001" in said
    assert "0.01" in said
    assert done(*COMMON, "study.name=study", *THREE).count("3 trials done") == 1  # the same: it is over


def test_a_metric_that_nobody_reports(folder: Path) -> None:
    said = done(*COMMON, "tune.metric=validation_f7", "tune.trials=2", "tune.parallel=1", code=2)
    assert "no report carries 'validation_f7'" in said
    assert "validation_loss" in said


def test_more_than_the_machine_has(folder: Path, temporary: Path) -> None:
    began = time.monotonic()
    said = done(*COMMON, "launcher.workers=4000", code=2)
    assert "takes 4000 CPUs" in said
    assert time.monotonic() - began < 60
    assert not list(temporary.iterdir())


def test_a_damaged_journal(whole: Path, folder: Path) -> None:
    shutil.copytree(whole, folder / "studies/study")
    journal = folder / "studies/study/study.journal"
    sound = journal.read_bytes()
    lines = sound.splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:4], lines[4][:30] + b"\n", *lines[5:]]))
    assert "line 5 is damaged" in done("resume", "study", code=2)
    journal.write_bytes(sound + lines[-1][:20])
    assert "3 trials done" in done("resume", "study")
    assert journal.read_bytes() == sound


def test_a_sweep_of_hydras_is_the_same_study(folder: Path, whole: Path) -> None:
    common = [a for a in COMMON if a != "search=tpe"]
    sweeper = ["hydra/sweeper=headway", "search@hydra.sweeper.search=tpe", "hydra.sweeper.study.name=study"]
    sweeper += [f"hydra.sweeper.{a}" for a in THREE]
    finished = headway("train", "-m", *sweeper, *common)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert_same(folder / "studies/study", whole)
