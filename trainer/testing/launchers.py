"""What a launcher must keep, as tests of the real command. A plugin runs them on its own:

    from trainer.testing.launchers import LauncherSuite

    class TestMine(LauncherSuite):
        overrides = ["launcher=mine", "launcher.zone=a"]

They need pytest, jobs' directories that all nodes share with this machine, and half a minute each at most.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from trainer.job.directory import Job, State, read_json

STEPS = 90
PACED = ["algorithm._target_=trainer.testing.paced.Paced", "data=digits", "train.epochs=2", "checkpoint.every=10"]
PACED += ["tracking=none"]


class LauncherSuite:
    """overrides: that choose the launcher. never: that ask for what it can never have, None if there is no such thing."""

    overrides: ClassVar[list[str]] = []
    never: ClassVar[list[str] | None] = None
    # seconds that anything here may take, on a busy machine
    patience: ClassVar[float] = 120.0
    # whether jobs can outlive who submits them
    detaches: ClassVar[bool] = True

    def lose_node(self, job: Job) -> None:
        """Ends all of a job's second node, as if the machine were gone."""
        pytest.skip("this launcher's suite has no way to lose a node")

    def kill_worker(self, job: Job) -> None:
        """SIGKILLs the first node's first worker. As it stands, for nodes that are this machine."""
        os.kill((read_json(job.logs / "node-0.json") or {})["workers"][0], signal.SIGKILL)

    @pytest.fixture(autouse=True)
    def _in_a_folder_of_its_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.chdir(tmp_path)
        self._followers: list[subprocess.Popen[bytes]] = []
        yield
        for follower in self._followers:
            follower.terminate()
            follower.wait(self.patience)

    # what tests do

    def command(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "trainer", *arguments],
            capture_output=True, text=True, timeout=self.patience, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def begin(self, name: str, *overrides: str) -> Job:
        """A job that goes on without us: detached, or followed by a process that we leave alone."""
        arguments = ["train", *PACED, *self.overrides, *overrides, f"job.name={name}"]
        if self.detaches:
            self.command(*arguments, "job.detach=true")
        else:
            command = [sys.executable, "-m", "trainer", *arguments]
            self._followers.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        job = Job(Path("runs", name).absolute())
        self.until(job.exists, job)
        return job

    def until(self, condition: Callable[[], Any], job: Job) -> Any:
        end = time.monotonic() + self.patience
        while not (found := condition()):
            logs = [path.read_text()[-2000:] for path in job.logs.glob("*.log")] if time.monotonic() > end else []
            assert time.monotonic() < end, [job.events(), *logs]
            time.sleep(0.1)
        return found

    def reaches(self, job: Job, step: int) -> None:
        self.until(lambda: ((job.progress() or {}).get("step") or 0) >= step, job)

    def ends(self, job: Job, state: State) -> dict[str, Any]:
        """Its result, once it has ended so and nothing of it is left on this machine."""
        self.until(lambda: job.state().is_final, job)
        assert job.state() is state, job.events()
        self.until(lambda: not processes_of(job), job)
        return job.result() or {}

    # the contract

    def test_submitted_it_is_followed_to_its_end(self) -> None:
        said = self.command("train", *PACED, *self.overrides, "job.name=whole")
        job = Job(Path("runs/whole").absolute())
        assert f"step {STEPS}" in said.replace("  ", " ")
        assert "Completed  whole" in said
        result = self.ends(job, State.COMPLETED)
        assert result["steps"] == STEPS
        assert (job.model / "model.safetensors").exists()
        assert [event["state"] for event in job.events()] == ["Pending", "Starting", "Running", "Completed"]

    def test_it_goes_on_without_who_submitted_it_and_its_logs_can_be_followed(self) -> None:
        job = self.begin("alone", "+algorithm.seconds=0.03")
        self.until(lambda: self.status(job) in ("Starting", "Running"), job)
        self.reaches(job, 5)
        assert "Running" in self.command("ls")
        self.command("logs", "alone", "-f")
        self.ends(job, State.COMPLETED)

    def status(self, job: Job) -> str:
        return self.command("show", job.name).splitlines()[0].split()[1]

    @pytest.mark.parametrize(("how", "words"), [("raise", "as it was asked to"), ("memory", "memory")])
    def test_a_failure_is_told_with_its_reason(self, how: str, words: str) -> None:
        said = self.command("train", *PACED, *self.overrides, f"+algorithm.how={how}", "job.name=failed", code=1)
        assert words in said
        result = self.ends(Job(Path("runs/failed").absolute()), State.FAILED)
        assert words in result["error"]["message"]

    def test_stopped_it_saves_and_it_goes_on_when_asked(self) -> None:
        job = self.begin("stopped", "+algorithm.seconds=0.05")
        self.reaches(job, 15)
        said = self.command("stop", "stopped")
        assert said.startswith("stopped: Stopped\nits model after step ")
        self.ends(job, State.STOPPED)
        assert self.command("stop", "stopped", code=2).startswith("error: stopped is not running")
        self.command("resume", "stopped", "job.detach=false")
        assert [line["steps_lost"] for line in self.ends(job, State.COMPLETED)["interruptions"]] == [0]

    def test_interrupted_it_ends_with_the_same_weights(self) -> None:
        self.command("train", *PACED, *self.overrides, "job.name=calm")
        job = self.begin("shaken", "+algorithm.seconds=0.05")
        self.reaches(job, 15)
        self.kill_worker(job)
        result = self.ends(job, State.COMPLETED)
        assert result["attempts"] == 2
        calm = Path("runs/calm/model/model.safetensors").read_bytes()
        assert (job.model / "model.safetensors").read_bytes() == calm

    def test_a_lost_node_is_done_without(self) -> None:
        job = self.begin("lost", "launcher.nodes=2", "launcher.min_nodes=1", "+algorithm.seconds=0.08")
        self.reaches(job, 15)
        self.lose_node(job)
        self.ends(job, State.COMPLETED)
        worlds = [event["world_size"] for event in job.events() if event["state"] == State.RUNNING]
        assert (worlds[0], worlds[-1]) == (2, 1)

    def test_what_can_never_start_says_why_and_can_be_stopped(self) -> None:
        if self.never is None:
            pytest.skip("this launcher starts whatever it takes")
        job = self.begin("never", *self.never)
        self.until(lambda: len(self.command("show", "never").splitlines()[0].split()) > 2, job)
        assert self.status(job) == "Pending"
        assert self.command("stop", "never") == "never: Stopped\n"
        self.ends(job, State.STOPPED)


def processes_of(job: Job) -> list[str]:
    """Command lines of this machine's processes that work on a job."""
    found = []
    for process in (path for path in Path("/proc").iterdir() if path.name.isdigit()):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            output = os.readlink(process / "fd/1")
        except OSError:
            continue
        if ("launchers." in command and str(job.dir) in command) or output.startswith(str(job.dir)):
            found.append(command)
    return found
