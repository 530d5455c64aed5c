"""A warm agent runs job after job: each as a cold one would, and none of them notices the others.

The fast tests have a stand-in run the jobs, which imports no torch; the slow ones train.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launchers.agent.warm_pool import Run, Warm
from launchers.local import Local
from tests.integration.command import HERE as FAULTY_FOLDER
from trainer.config import schema
from trainer.config.compose import compose
from trainer.config.instantiate import build
from trainer.errors import UserError
from trainer.job import checkpoint
from trainer.job.directory import Job, State
from trainer.submission.place import place
from trainer.submission.submit import write
from trainer.testing.chaos.judge import differing_metrics

# what a stand-in does with a job is its first word
STAND_IN = """
import os, signal, sys, threading, time
from launchers.agent.serving import serve
from trainer.errors import UserError

def run(words):
    print("this is job", *words, flush=True)
    if words[0] == "tell":
        print(words[1], "is", os.environ.get(words[1]), flush=True)
    if words[0] == "change":
        os.environ[words[1]] = "changed"
    if words[0] == "mistake":
        raise UserError("no such column")
    if words[0] == "bug":
        raise RuntimeError("a bug of ours")
    if words[0] == "until":
        heard = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: heard.append(number))
        print("listens", flush=True)
        while not heard:
            time.sleep(0.01)
        print("heard", signal.Signals(heard[0]).name, flush=True)
        return 75
    return 0

serve(run, sys.argv[2])
"""
LINEAR = ["algorithm=linear", "data=digits", "train.epochs=2", "tracking=none"]


class Submitter:
    """Has stand-ins run jobs. `log` is the last job's."""

    def __init__(self, folder: Path) -> None:
        self.warm, self.folder, self.count = Warm(), folder, 0
        self.env = dict(os.environ)

    def start(self, *words: str) -> Run:
        self.count += 1
        return self.warm.run([sys.executable, "-c", STAND_IN, *words], self.env, self.log)

    def run(self, *words: str) -> tuple[int, int]:
        """The exit code of a job, and the process id of the agent that ran it."""
        run = self.start(*words)
        return run.wait(600), run.pid

    @property
    def log(self) -> Path:
        return self.folder / f"job-{self.count}.log"

    def waits(self, run: Run) -> None:
        """Until a job says that it listens."""
        end = time.monotonic() + 600
        while "listens" not in self.log.read_text():
            assert time.monotonic() < end
            assert run.poll() is None
            time.sleep(0.01)


@pytest.fixture
def submitter(tmp_path: Path) -> Iterator[Submitter]:
    made = Submitter(tmp_path)
    yield made
    made.warm.end()


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 600
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_jobs_that_follow_one_another_share_an_agent(submitter: Submitter) -> None:
    assert len({submitter.run("a")[1] for _ in range(5)}) == 1


def test_jobs_at_the_same_time_have_agents_of_their_own(submitter: Submitter) -> None:
    first = submitter.start("until")
    submitter.waits(first)
    code, pid = submitter.run("b")
    assert code == 0
    assert pid != first.pid
    first.send_signal(signal.SIGINT)
    assert first.wait(600) == 75
    assert submitter.run("c")[1] in (first.pid, pid)


def test_each_job_writes_to_its_own_log(submitter: Submitter) -> None:
    submitter.run("one")
    submitter.run("two")
    texts = [(submitter.folder / f"job-{i}.log").read_text() for i in (1, 2)]
    assert texts == ["this is job one\n", "this is job two\n"]


def test_a_users_mistake_is_told_in_the_log_and_the_agent_goes_on(submitter: Submitter) -> None:
    _, pid = submitter.run("a")
    assert submitter.run("mistake") == (2, pid)
    assert "error: no such column" in submitter.log.read_text()
    assert submitter.run("b") == (0, pid)


def test_an_agent_with_a_bug_tells_it_in_the_log_and_the_next_job_has_another(submitter: Submitter) -> None:
    code, pid = submitter.run("bug")
    assert code == 1
    assert "RuntimeError: a bug of ours" in submitter.log.read_text()
    code, other = submitter.run("b")
    assert code == 0
    assert other != pid


def test_an_agent_that_was_killed_is_replaced(submitter: Submitter) -> None:
    _, pid = submitter.run("a")
    os.kill(pid, signal.SIGKILL)
    code, other = submitter.run("b")
    assert code == 0
    assert other != pid


def test_a_job_whose_agent_is_killed_ends_with_it(submitter: Submitter) -> None:
    run = submitter.start("until")
    submitter.waits(run)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait(600) == -signal.SIGKILL
    assert submitter.run("b")[0] == 0


def test_an_agent_that_hangs_is_replaced(submitter: Submitter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launchers.agent.warm_pool.TAKE_SECONDS", 1.0)
    _, pid = submitter.run("a")
    os.kill(pid, signal.SIGSTOP)
    code, other = submitter.run("b")
    assert code == 0
    assert other != pid
    assert is_gone(pid)


def test_a_signal_meant_for_a_job_that_has_ended_harms_no_other(submitter: Submitter) -> None:
    run = submitter.start("a")
    run.wait(600)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(run.pid, number)
    assert submitter.run("b") == (0, run.pid)
    other = submitter.start("until")
    submitter.waits(other)
    run.send_signal(signal.SIGINT)  # by the one of before
    time.sleep(0.1)
    assert other.poll() is None
    other.send_signal(signal.SIGINT)
    assert other.wait(600) == 75


def test_a_job_sees_the_environment_that_it_was_submitted_with(submitter: Submitter) -> None:
    submitter.env["COLOUR"] = "red"
    _, pid = submitter.run("tell", "COLOUR")
    submitter.env["COLOUR"] = "blue"
    _, other = submitter.run("tell", "COLOUR")
    assert "COLOUR is blue" in submitter.log.read_text()
    assert other != pid
    assert is_gone(pid)  # it makes room


def test_what_a_job_changes_in_the_environment_is_undone(submitter: Submitter) -> None:
    submitter.env["COLOUR"] = "red"
    _, pid = submitter.run("change", "COLOUR")
    assert submitter.run("tell", "COLOUR")[1] == pid
    assert "COLOUR is red" in submitter.log.read_text()


def test_a_job_of_another_working_folder_gets_another_agent(
    submitter: Submitter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, pid = submitter.run("a")
    monkeypatch.chdir(tmp_path)
    assert submitter.run("b")[1] != pid


def test_a_job_that_may_use_fewer_cores_gets_another_agent(submitter: Submitter) -> None:
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("needs two cores")
    _, pid = submitter.run("a")
    try:
        os.sched_setaffinity(0, {min(cores)})
        assert submitter.run("b")[1] != pid
    finally:
        os.sched_setaffinity(0, cores)


# a submitter that has a job run, or (busy) under way, and a child by fork that holds all that it has open
LEAVES_BEHIND = """
import os, sys, time
from pathlib import Path
from launchers.agent.warm_pool import Warm
warm, log = Warm(), Path(sys.argv[2])
run = warm.run([sys.executable, "-c", sys.argv[1], sys.argv[3]], os.environ, log)
while sys.argv[3] == "until" and not (log.exists() and "listens" in log.read_text()):
    time.sleep(0.01)
run.wait(600) if sys.argv[3] != "until" else None
child = os.fork()
if child == 0:
    time.sleep(60)
print(run.pid, child, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("job", ["a", "until"])
def test_an_agent_ends_with_the_submitter_and_interrupts_its_job_in_order(job: str, tmp_path: Path) -> None:
    log, temporary = tmp_path / "job.log", tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-c", LEAVES_BEHIND, STAND_IN, str(log), job]
    env = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as submitter:
        assert submitter.stdout
        agent, child = map(int, submitter.stdout.readline().split())
        submitter.kill()
        try:
            wait_until(lambda: is_gone(agent))
        finally:
            os.kill(child, signal.SIGKILL)
    assert ("heard SIGTERM" in log.read_text()) == (job == "until")
    assert not list(temporary.iterdir())


def test_when_all_agents_are_ended_nothing_is_left(submitter: Submitter, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = submitter.folder / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    _, idle = submitter.run("a")
    busy = submitter.start("until")
    submitter.waits(busy)
    submitter.warm.end()
    wait_until(lambda: is_gone(idle) and is_gone(busy.pid) and not list(temporary.iterdir()))
    assert "heard SIGTERM" in submitter.log.read_text()


# with real jobs


@pytest.fixture(scope="module")
def faulty() -> Iterator[None]:
    """The faulty algorithm can be imported, here and by workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FAULTY_FOLDER))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(FAULTY_FOLDER), os.environ.get("PYTHONPATH", "")]))
        yield


def submit(folder: Path, *overrides: str, cold: bool = False) -> tuple[Job, Local]:
    """Submits a job, as a tuner does: with a launcher of its own."""
    config = schema.check(compose([*overrides, f"job.dir={folder}"]))
    launcher = build(config["launcher"], "launcher")
    if not cold:
        launcher.keep_warm()
    placed = place(config)
    job, plan = placed.job, launcher.plan(placed.job)
    write(job, placed.config, is_new=placed.before is None)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTEST_CURRENT_TEST")  # which is another in each test, and so would be the agent
        launcher.submit(job, plan)
    return job, launcher


def train(folder: Path, *overrides: str, cold: bool = False) -> Job:
    """Runs a job to its end."""
    job, launcher = submit(folder, *overrides, cold=cold)
    launcher.wait(job, timeout=120)
    assert launcher.state(job) is job.state()
    return job


def agents(job: Job) -> list[int]:
    """The process ids of the agents that a job has had."""
    return [event["pid"] for event in job.events() if event["state"] == State.STARTING]


def wait_for_step(job: Job, step: int) -> None:
    wait_until(lambda: (job.progress() or {}).get("step", 0) >= step)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "artifact.json"}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_warm_agents_jobs_end_with_the_bits_of_a_cold_ones(workers: int, tmp_path: Path) -> None:
    settings = [*LINEAR, f"launcher.workers={workers}"]
    cold = train(tmp_path / "cold", *settings, cold=True)
    jobs = [train(tmp_path / f"warm-{i}", *settings) for i in range(5)]
    assert {job.state() for job in jobs} == {State.COMPLETED}
    assert len({pid for job in jobs for pid in agents(job)}) == 1
    for job in jobs:
        assert not differing_metrics(job.metrics(), cold.metrics())
        assert content(job.model) == content(cold.model)
        assert (job.logs / "node-0.log").read_text() == (cold.logs / "node-0.log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "state", "says"),
    [
        (["algorithm._target_=faulty.Faulty", "+algorithm.how=raise", "+algorithm.rank=0"], State.FAILED, "my own bug"),
        (["algorithm._target_=faulty.Faulty", "+algorithm.how=exit", "+algorithm.rank=0"], State.FAILED, "code 3"),
        (["train.early_stopping.patience=1", "train.early_stopping.metric=none"], State.FAILED, "none"),
    ],
    ids=["error", "exit", "mistake"],
)
def test_a_job_that_fails_leaves_the_next_one_as_good_as_ever(
    overrides: list[str], state: State, says: str, tmp_path: Path, faulty: None
) -> None:
    before = train(tmp_path / "before", *LINEAR)
    bad = train(tmp_path / "bad", *LINEAR, *overrides)
    assert bad.state() is state
    assert says in bad.last_event()["reason"]
    after = train(tmp_path / "after", *LINEAR)
    assert {*agents(before), *agents(bad), *agents(after)} == {agents(before)[0]}
    assert content(after.model) == content(before.model)


@pytest.mark.slow
@pytest.mark.parametrize("by", ["the submitter", "another"])
def test_a_stopped_job_keeps_its_state_and_goes_on_in_the_same_agent(by: str, tmp_path: Path, faulty: None) -> None:
    settings = [*LINEAR, "algorithm._target_=faulty.Faulty", "launcher.workers=2"]
    whole = train(tmp_path / "whole", *settings)
    job, launcher = submit(tmp_path / "cut", *settings, "+algorithm.seconds=0.02")
    wait_for_step(job, 5)
    stopper = launcher if by == "the submitter" else Local()
    assert stopper.is_alive(job)
    stopper.stop(job)
    launcher.wait(job, timeout=60)
    assert job.state() is State.STOPPED
    assert checkpoint.listing(job.checkpoints)
    assert not stopper.is_alive(job)
    with pytest.raises(UserError, match="not running"):
        stopper.stop(job)
    job = train(tmp_path / "cut", *settings, "+algorithm.seconds=0.02")
    assert job.state() is State.COMPLETED
    assert content(job.model) == content(whole.model)
    assert {*agents(job)} == {*agents(whole)}


@pytest.mark.slow
def test_a_killed_worker_is_started_again_by_a_warm_agent_too(tmp_path: Path, faulty: None) -> None:
    settings = [*LINEAR, "algorithm._target_=faulty.Faulty", "launcher.workers=2", "checkpoint.every=5"]
    whole = train(tmp_path / "whole", *settings)
    job, launcher = submit(tmp_path / "cut", *settings, "+algorithm.seconds=0.02")
    wait_for_step(job, 12)
    os.kill(workers_of(job)[1], signal.SIGKILL)
    launcher.wait(job, timeout=120)
    assert job.state() is State.COMPLETED
    assert job.result()["attempts"] == 2  # type: ignore[index]
    assert content(job.model) == content(whole.model)


def workers_of(job: Job) -> list[int]:
    found: list[int] = json.loads((job.logs / "node-0.json").read_text())["workers"]
    return found


@pytest.mark.slow
def test_a_job_whose_warm_agent_is_killed_goes_on_in_a_fresh_one(tmp_path: Path, faulty: None) -> None:
    settings = [*LINEAR, "algorithm._target_=faulty.Faulty", "checkpoint.every=5"]
    whole = train(tmp_path / "whole", *settings)
    job, launcher = submit(tmp_path / "cut", *settings, "+algorithm.seconds=0.02")
    wait_for_step(job, 12)
    os.kill(agents(job)[0], signal.SIGKILL)
    launcher.wait(job, timeout=60)
    assert launcher.state(job) is State.INTERRUPTED
    job = train(tmp_path / "cut", *settings, "+algorithm.seconds=0.02")
    assert job.state() is State.COMPLETED
    assert content(job.model) == content(whole.model)
    assert len({*agents(job)}) == 2


@pytest.mark.slow
def test_a_job_that_needs_other_libraries_finds_them_imported(tmp_path: Path) -> None:
    pytest.importorskip("xgboost")
    trees = ["algorithm=xgboost", "data=breast_cancer", "algorithm.rounds=3", "tracking=none"]
    cold = train(tmp_path / "cold", *trees, cold=True)
    first = train(tmp_path / "first", *LINEAR)
    second = train(tmp_path / "second", *trees)
    third = train(tmp_path / "third", *LINEAR)
    assert agents(first) == agents(second) == agents(third)
    assert content(second.model) == content(cold.model)
    assert content(third.model) == content(first.model)


@pytest.mark.slow
def test_a_killed_agent_leaves_no_folder(tmp_path: Path, short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = short_folder
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setenv("COLOUR", "green")  # so it is an agent of its own
    job = train(tmp_path / "job", *LINEAR)
    assert len(list(temporary.iterdir())) == 1
    os.kill(agents(job)[0], signal.SIGKILL)
    wait_until(lambda: not list(temporary.iterdir()))


@pytest.mark.slow
def test_an_agent_does_not_grow_with_its_jobs(tmp_path: Path) -> None:
    def taken(pid: int) -> tuple[int, int, int]:
        """Open files, threads, bytes of memory."""
        memory = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task")), memory

    settings = [*LINEAR, "train.epochs=null", "train.max_steps=5", "launcher.workers=2"]
    pid = agents(train(tmp_path / "0", *settings))[0]
    early = taken(pid)
    for i in range(1, 12):
        assert agents(train(tmp_path / str(i), *settings)) == [pid]
    late = taken(pid)
    assert late[0] <= early[0] + 12  # the last job's store, until the interpreter's next collection
    assert late[1] <= early[1] + 1
    assert late[2] < early[2] + (16 << 20)
