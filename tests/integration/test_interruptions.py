"""Whatever interrupts a job, it ends as if nothing had: the same weights to the bit, the same reports, and an account."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.command import FAULTY, HERE, environment, start, trained, until
from trainer.cli.command import main
from trainer.job import checkpoint
from trainer.job.directory import Job, State
from trainer.job.result import is_of_the_run

pytestmark = pytest.mark.slow

EVERY = 25  # steps between checkpoints
STEPS = 180
COMMON = [
    FAULTY,
    "+algorithm.seconds=0.01",
    "train.epochs=4",
    "train.log_every=10",
    f"checkpoint.every={EVERY}",
    "launcher.workers=2",
    "tracking=none",
]
# the bound is the interval, and the few steps for which a save that is still being written postpones the next
LOST_AT_MOST = EVERY + 5

Start = Callable[..., "Run"]


class Run:
    """A job's command that is at work."""

    def __init__(self, directory: Path, *more: str) -> None:
        self.job = Job(directory)
        self.process = start("train", *COMMON, f"job.dir={directory}", *more)

    def wait_for_step(self, step: int) -> None:
        """Until this life has done so many steps."""
        self.until(lambda: len(states(self.job, State.RUNNING)) > 0)
        began = states(self.job, State.RUNNING)[-1]["time"]
        self.until(lambda: at(self.job)["step"] >= step and at(self.job)["time"] > began)
        assert self.job.state() is State.RUNNING, self.job.events()

    def until(self, condition: Callable[[], bool], seconds: float = 600.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{self.job.events()} after {seconds} s"
            assert self.process.poll() is None, self.process.communicate()[0]
            time.sleep(0.02)

    def agent(self, node: int = 0) -> int:
        return int(self._processes(node)["agent"])

    def workers(self, node: int = 0) -> list[int]:
        return list(self._processes(node)["workers"])

    def _processes(self, node: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.job.logs / f"node-{node}.json").read_text())
        return found

    def ends(self, code: int = 0) -> str:
        """What the command said, once it has left."""
        output, _ = self.process.communicate(timeout=600)
        assert self.process.returncode == code, f"{self.process.returncode}: {output}\n{self.job.events()}"
        return output


def at(job: Job) -> dict[str, Any]:
    return job.progress() or {"step": -1, "time": 0.0}


def states(job: Job, state: State) -> list[dict[str, Any]]:
    return [event for event in job.events() if event["state"] == state.value]


def result_of(job: Job) -> dict[str, Any]:
    result = job.result()
    assert result is not None
    return result


def reports(job: Job) -> list[tuple[int, dict[str, float]]]:
    return [(line["step"], learned(line)) for line in job.metrics()]


def learned(line: dict[str, Any]) -> dict[str, float]:
    """What a report says of the training, and not of the machines."""
    return {name: value for name, value in line["values"].items() if not is_of_the_run(name)}


def assert_undisturbed(job: Job, whole: Job) -> None:
    """The job has become what it would have been."""
    assert job.state() is State.COMPLETED, job.events()
    ours, theirs = reports(job), reports(whole)
    assert [step for step, _ in ours] == [step for step, _ in theirs]
    assert ours == theirs
    weights = [(one.model / "model.safetensors").read_bytes() for one in (job, whole)]
    assert weights[0] == weights[1], "the weights differ"
    result, undisturbed = result_of(job), result_of(whole)
    for name in ("status", "metrics", "steps", "epochs", "samples"):
        assert result[name] == undisturbed[name], name


def assert_accounted(job: Job, source: str, lost_at_most: int = LOST_AT_MOST) -> dict[str, Any]:
    """One interruption, told with what it cost."""
    result = result_of(job)
    [line] = result["interruptions"]
    assert line["source"] == source
    assert line["steps_lost"] == line["step"] - line["resumed"]
    assert 0 <= line["steps_lost"] <= lost_at_most
    assert line["recovery_seconds"] > 0
    assert (line["seconds_lost"] > 0) == (line["steps_lost"] > 0)
    assert result["seconds"]["lost"] == line["seconds_lost"]
    assert 0 < result["goodput"] < 1
    assert result["attempts"] == 2
    return dict(line)


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a job's command, or the same one again; what is left of it is ended after the test."""
    monkeypatch.setenv("HEADWAY_NOTICE_SECONDS", "0.1")
    runs: list[Run] = []

    def one(*more: str) -> Run:
        runs.append(Run(tmp_path / "job", *more))
        return runs[-1]

    yield one
    for run in runs:
        run.process.kill()
        run.process.communicate()


def undisturbed(directory: Path, *more: str) -> Job:
    return trained(directory, *COMMON, *more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """The same job, which nothing interrupts."""
    return undisturbed(tmp_path_factory.mktemp("whole") / "job")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """One without dropout, whose random numbers would differ with the number of workers."""
    return undisturbed(tmp_path_factory.mktemp("plain") / "job", "+algorithm.dropout=0.0")


def test_a_killed_worker_is_started_again_in_place(begin: Start, whole: Job) -> None:
    run = begin()
    run.wait_for_step(60)
    os.kill(run.workers()[1], signal.SIGKILL)
    run.ends()
    assert_undisturbed(run.job, whole)
    line = assert_accounted(run.job, "worker died")
    assert "worker 1 was ended by SIGKILL" in line["reason"]
    assert line["step"] >= 60
    assert line["resumed"] % EVERY == 0
    names = [event["state"] for event in run.job.events()]
    assert names == ["Pending", "Starting", "Running", "Interrupted", "Starting", "Running", "Completed"]
    assert len({event["pid"] for event in states(run.job, State.STARTING)}) == 1  # by the same agent


@pytest.mark.promise
def test_a_notice_loses_no_step(begin: Start, whole: Job) -> None:
    """SIGTERM, as a cluster sends it."""
    run = begin()
    run.wait_for_step(40)
    os.kill(run.agent(), signal.SIGTERM)
    output = run.ends(75)
    assert "SIGTERM" in output
    assert run.job.state() is State.INTERRUPTED
    result = result_of(run.job)
    assert result["status"] == "Interrupted"
    assert result["model"] is None
    newest = checkpoint.newest(run.job.checkpoints).checkpoint
    assert newest == checkpoint.folder(run.job.checkpoints, result["steps"])
    begin().ends()
    assert_undisturbed(run.job, whole)
    line = assert_accounted(run.job, "signal", lost_at_most=0)
    assert line["resumed"] == result["steps"]


def test_a_users_own_bug_is_not_tried_for_ever(begin: Start) -> None:
    """It comes at the same step again: the job fails with it, after two attempts."""
    run = begin("+algorithm.how=bug", "+algorithm.at=30")
    output = run.ends(1)
    assert "my own bug" in output
    assert "twice in a row after step 30" in output
    assert len(states(run.job, State.STARTING)) == 2
    result = result_of(run.job)
    assert result["status"] == "Failed"
    assert result["attempts"] == 2
    assert result["error"]["type"] == "RuntimeError"
    assert result["error"]["rank"] == 1
    assert "faulty.py" in result["error"]["where"]


@pytest.mark.promise
def test_a_job_that_is_killed_again_and_again_gets_to_its_end(begin: Start, whole: Job) -> None:
    """After 60 steps of each life. Each leaves a newer checkpoint, so that it never counts as getting nowhere."""
    run = begin("+algorithm.how=kill", "+algorithm.at=60", "launcher.max_restarts=0")
    run.ends()
    assert_undisturbed(run.job, whole)
    result = result_of(run.job)
    began = 0
    for line in result["interruptions"]:
        assert line["step"] == began + 60
        assert 0 < line["steps_lost"] <= LOST_AT_MOST + EVERY  # the newest may not have been written yet
        began = line["resumed"]
    assert result["attempts"] == len(result["interruptions"]) + 1 >= 4
    assert result["seconds"]["lost"] > 0


def test_a_worker_that_hangs_is_found_and_the_job_goes_on(begin: Start, whole: Job) -> None:
    run = begin("train.hang_timeout=2s")
    run.wait_for_step(60)
    os.kill(run.workers()[1], signal.SIGSTOP)
    run.ends()
    assert_undisturbed(run.job, whole)
    line = assert_accounted(run.job, "hang")
    assert "worker 1 (stopped by a signal) made no step for 2 s" in line["reason"]
    for rank in (0, 1):  # where each stood
        log = run.job.log_path(0, rank).read_text()
        assert "most recent call first" in log
        assert "trainer/worker/training/loop.py" in log


def test_a_long_validation_is_no_hang(begin: Start) -> None:
    run = begin("train.hang_timeout=1s", "+algorithm.validating=0.7", "train.epochs=1")
    run.ends()
    assert states(run.job, State.INTERRUPTED) == []


def test_slurms_warning_is_a_notice(begin: Start, whole: Job) -> None:
    """SIGUSR1, by `sbatch --signal`."""
    run = begin()
    run.wait_for_step(40)
    os.kill(run.agent(), signal.SIGUSR1)
    run.ends(75)
    begin().ends()
    assert_undisturbed(run.job, whole)
    assert "SIGUSR1" in assert_accounted(run.job, "signal", lost_at_most=0)["reason"]


def test_a_notice_in_a_file_is_one(begin: Start, whole: Job, tmp_path: Path) -> None:
    notice = tmp_path / "notice"
    run = begin(f"launcher.notices=[file:{notice}]")
    run.wait_for_step(40)
    notice.write_text('{"reason": "maintenance", "seconds": 60}')
    assert "maintenance" in run.ends(75)
    notice.unlink()
    begin(f"launcher.notices=[file:{notice}]").ends()
    assert_undisturbed(run.job, whole)
    assert_accounted(run.job, "file", lost_at_most=0)


def test_a_warning_that_capacity_may_go_away_saves_and_goes_on(begin: Start, whole: Job, tmp_path: Path) -> None:
    notice = tmp_path / "notice"
    run = begin(f"launcher.notices=[file:{notice}]", "checkpoint.every=null", "checkpoint.keep=9")
    run.wait_for_step(40)
    notice.write_text('{"reason": "may go away", "leave": false}')
    run.ends()
    assert_undisturbed(run.job, whole)
    assert [event["state"] for event in run.job.events()] == ["Pending", "Starting", "Running", "Completed"]
    warned, last = [checkpoint.step_of(c) for c in checkpoint.listing(run.job.checkpoints)]
    assert 40 <= warned < last == STEPS


def test_a_killed_agent_is_noted_by_the_next(begin: Start, whole: Job) -> None:
    """Nobody could say anything; the same command goes on from the newest checkpoint."""
    run = begin()
    run.wait_for_step(60)
    os.kill(run.agent(), signal.SIGKILL)
    run.ends(75)
    begin().ends()
    assert_undisturbed(run.job, whole)
    line = assert_accounted(run.job, "agent died")
    assert line["step"] >= 60
    assert line["recovery_seconds"] < 60  # from its death on


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(begin: Start, whole: Job) -> None:
    run = begin()
    run.wait_for_step(80)
    for pid in run.workers():
        os.kill(pid, signal.SIGSTOP)
    time.sleep(0.1)
    damaged = checkpoint.newest(run.job.checkpoints).checkpoint
    assert damaged is not None
    shard = next(damaged.glob("*.safetensors"))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    os.kill(run.workers()[1], signal.SIGKILL)
    run.ends()
    assert_undisturbed(run.job, whole)
    line = assert_accounted(run.job, "worker died", lost_at_most=EVERY + LOST_AT_MOST)
    assert line["resumed"] == checkpoint.step_of(damaged) - EVERY
    running = states(run.job, State.RUNNING)[-1]
    assert running["passed_over"] == [f"{damaged.name}: {shard.name} has another checksum"]
    assert f"passed over {damaged.name}: {shard.name} has another checksum" in run.job.log_path(1, 0).read_text()


def test_another_jobs_checkpoint_is_passed_over_and_ones_own_goes_along_wherever_the_job_is(
    begin: Start, whole: Job, tmp_path: Path
) -> None:
    """A checkpoint that was copied from another job would be taken for progress that this one never made; a job that was
    moved, or is reached through a link, has its own."""
    run = begin()
    run.wait_for_step(60)
    os.kill(run.agent(), signal.SIGTERM)
    run.ends(75)
    other = checkpoint.newest(whole.checkpoints).checkpoint
    assert other is not None
    moved = Job(tmp_path / "else where" / "a job")
    moved.dir.parent.mkdir()
    shutil.move(run.job.dir, moved.dir)
    shutil.copytree(other, moved.checkpoints / other.name)
    run.job.dir.symlink_to(moved.dir)
    own = states(moved, State.INTERRUPTED)[-1]["step"]
    begin().ends()
    running = states(moved, State.RUNNING)[-1]
    assert running["step"] == own
    assert running["passed_over"] == [f"{other.name}: it is another job's, and was copied here"]
    assert_undisturbed(moved, whole)


def test_it_goes_on_with_three_workers_and_with_one(begin: Start, plain: Job) -> None:
    """The same samples in the same steps; sums in another order differ in the last bits."""
    run = begin("+algorithm.dropout=0.0")
    run.wait_for_step(40)
    os.kill(run.agent(), signal.SIGTERM)
    run.ends(75)
    more = begin("+algorithm.dropout=0.0", "launcher.workers=3")
    more.wait_for_step(90)
    os.kill(more.agent(), signal.SIGTERM)
    more.ends(75)
    begin("+algorithm.dropout=0.0", "launcher.workers=1").ends()
    assert [event["world_size"] for event in states(run.job, State.RUNNING)] == [2, 3, 1]
    assert [line["steps_lost"] for line in result_of(run.job)["interruptions"]] == [0, 0]
    assert_same_curve(run.job, plain)


def test_more_than_twenty_notices_in_a_row_lose_nothing_whatever_the_workers(
    warm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One agent stays for all of them: how a command and its agent leave on a notice is seen above."""
    monkeypatch.setenv("HEADWAY_NOTICE_SECONDS", "0.1")
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    monkeypatch.syspath_prepend(str(HERE))
    notice, job, given = warm_folder / "notice", Job(warm_folder / "job"), 21
    longer = ["+algorithm.dropout=0.0", "train.epochs=20"]
    told = [*COMMON, *longer, f"launcher.notices=[file:{notice}]", f"job.dir={job.dir}"]

    def give(step: int, lives: int) -> None:
        until(lambda: len(states(job, State.RUNNING)) > lives, job)
        began = states(job, State.RUNNING)[-1]["time"]
        until(lambda: at(job)["step"] >= step and at(job)["time"] > began, job)
        notice.write_text('{"reason": "maintenance", "seconds": 60}')

    step, workers = 0, [(1, 2)[number % 2] for number in range(given + 1)]
    for number, count in enumerate(workers[:-1]):
        giver = threading.Thread(target=give, args=(step + 2, number), daemon=True)
        giver.start()
        assert main(["train", *told, f"launcher.workers={count}"]) == 75
        giver.join()
        notice.unlink()
        step = result_of(job)["steps"]
        assert checkpoint.newest(job.checkpoints).checkpoint == checkpoint.folder(job.checkpoints, step)
    assert main(["train", *told, f"launcher.workers={workers[-1]}"]) == 0
    assert [event["world_size"] for event in states(job, State.RUNNING)] == workers
    result = result_of(job)
    assert [line["steps_lost"] for line in result["interruptions"]] == [0] * given
    assert (result["attempts"], result["seconds"]["lost"]) == (given + 1, 0)
    assert main(["train", *COMMON, *longer, f"job.dir={warm_folder / 'whole'}"]) == 0
    assert_same_curve(job, Job(warm_folder / "whole"))


def assert_same_curve(job: Job, whole: Job) -> None:
    ours, theirs = job.metrics(), whole.metrics()
    for name in ("step", "samples", "epoch"):
        assert [line[name] for line in ours] == [line[name] for line in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert set(learned(mine)) == set(learned(other))
        for name, value in learned(mine).items():
            np.testing.assert_allclose(value, other["values"][name], rtol=1e-5, err_msg=f"{name}, step {mine['step']}")


def test_gradients_are_accumulated_over_an_interruption(begin: Start, tmp_path: Path) -> None:
    parts = ["train.gradient_accumulation=3", "train.gradient_clip=0.5"]
    whole = undisturbed(tmp_path / "whole", *parts)
    run = begin(*parts)
    run.wait_for_step(30)
    os.kill(run.workers()[0], signal.SIGKILL)
    run.ends()
    assert_undisturbed(run.job, whole)
    assert_accounted(run.job, "worker died")


def test_early_stopping_and_the_best_so_far_outlive_an_interruption(begin: Start, tmp_path: Path) -> None:
    """Nothing improves after the first validation: it ends with the third, though it was interrupted in between."""
    still = ["algorithm.lr=0.0", "train.epochs=20", "train.early_stopping.patience=2", "checkpoint.keep_best=1"]
    whole = undisturbed(tmp_path / "whole", *still)
    assert result_of(whole)["epochs"] == 3
    run = begin(*still)
    run.wait_for_step(60)
    os.kill(run.agent(), signal.SIGTERM)
    run.ends(75)
    begin(*still).ends()
    assert_undisturbed(run.job, whole)
    assert result_of(run.job)["metrics"]["validation_loss"]["best"]["step"] == 45
    kept = [[checkpoint.step_of(c) for c in checkpoint.listing(job.checkpoints)] for job in (run.job, whole)]
    assert 45 in kept[0]
    assert 45 in kept[1]


def test_the_time_it_may_train_counts_over_an_interruption(begin: Start) -> None:
    limit = ["train.epochs=1000", "train.max_time=5s"]
    run = begin(*limit)
    run.wait_for_step(20)
    os.kill(run.agent(), signal.SIGTERM)
    run.ends(75)
    before = result_of(run.job)["seconds"]["training"]
    begin(*limit).ends()
    result = result_of(run.job)
    assert result["status"] == "Completed"
    assert result["model"]
    first, second = states(run.job, State.RUNNING)
    assert second["seconds"] == pytest.approx(before, abs=0.5)
    end = states(run.job, State.COMPLETED)[0]
    assert "out of time" in end["reason"]
    assert 5 <= result["seconds"]["training"] < 8
    assert end["time"] - second["time"] < 5  # not the whole time again
    assert first["seconds"] == 0


# several nodes

TWO = ["+algorithm.dropout=0.0", "launcher.nodes=2", "launcher.min_nodes=1", "launcher.workers=1"]


def agent_of(job: Job, node: int) -> subprocess.Popen[bytes]:
    """Starts the agent of a node, as a launcher does."""
    command = [sys.executable, "-m", "launchers.agent", str(job.dir), "--workers", "1"]
    command += ["--nodes", "2", "--min-nodes", "1", "--node", str(node)]
    with open(job.logs / f"node-{node}.log", "ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment(), start_new_session=True)


def nodes(job: Job) -> list[int]:
    """Of how many nodes each life was."""
    return [event["nodes"] for event in states(job, State.STARTING)]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_node_that_is_lost_leaves_the_other_to_go_on(begin: Start, plain: Job, lost: int) -> None:
    run = begin(*TWO)
    run.wait_for_step(60)
    assert states(run.job, State.RUNNING)[-1]["world_size"] == 2
    os.kill(run.agent(lost), signal.SIGKILL)  # its workers go with it
    run.ends()
    assert run.job.state() is State.COMPLETED
    assert nodes(run.job) == [2, 1]
    assert states(run.job, State.RUNNING)[-1]["world_size"] == 1
    assert_same_curve(run.job, plain)
    [line] = result_of(run.job)["interruptions"]
    assert line["steps_lost"] <= LOST_AT_MOST
    assert line["source"] == ("agent died" if lost == 0 else "lost node")


def test_a_node_that_comes_back_is_let_in(begin: Start) -> None:
    run = begin(*TWO, "train.epochs=12")
    run.wait_for_step(60)
    os.kill(run.agent(1), signal.SIGKILL)
    run.until(lambda: len(states(run.job, State.RUNNING)) == 2)
    back = agent_of(run.job, 1)
    try:
        run.ends()
        assert back.wait(600) == 0
    finally:
        back.kill()
    assert nodes(run.job) == [2, 1, 2]
    assert [event["world_size"] for event in states(run.job, State.RUNNING)] == [2, 1, 2]
    lost, regrouped = result_of(run.job)["interruptions"]
    assert lost["steps_lost"] <= LOST_AT_MOST
    assert regrouped["source"] == "regroup"
    assert regrouped["steps_lost"] == 0


def test_a_notice_to_one_node_is_heeded_by_both(begin: Start, plain: Job) -> None:
    """It leaves with nothing lost, and the other goes on alone."""
    run = begin(*TWO)
    run.wait_for_step(60)
    os.kill(run.agent(1), signal.SIGTERM)
    run.ends()
    assert nodes(run.job) == [2, 1]
    assert [line["steps_lost"] for line in result_of(run.job)["interruptions"]] == [0]
    assert_same_curve(run.job, plain)


def test_a_node_that_is_gone_before_the_other_looks_still_leaves_it_to_go_on(begin: Start, plain: Job) -> None:
    """The one that left is not counted, whether its agent has ended already or not."""
    run = begin(*TWO)
    run.wait_for_step(60)
    told = Path(states(run.job, State.STARTING)[-1]["folder"]) / "notice.json"
    leader = run.agent(0)
    os.kill(run.agent(1), signal.SIGTERM)
    run.until(told.exists)
    time.sleep(0.05)
    os.kill(leader, signal.SIGSTOP)
    run.until(lambda: not (run.job.dir / "nodes/node-1.json").exists())
    os.kill(leader, signal.SIGCONT)
    run.ends()
    assert nodes(run.job) == [2, 1]
    assert_same_curve(run.job, plain)


def test_a_notice_to_all_nodes_ends_the_job_for_now(begin: Start, plain: Job) -> None:
    """As a cluster does that takes all of it: none goes on alone, to be killed."""
    run = begin(*TWO)
    run.wait_for_step(40)
    for node in (0, 1):
        os.kill(run.agent(node), signal.SIGTERM)
    run.ends(75)
    assert run.job.state() is State.INTERRUPTED
    assert nodes(run.job) == [2]
    begin(*TWO).ends()
    assert nodes(run.job) == [2, 2]
    assert_same_curve(run.job, plain)
