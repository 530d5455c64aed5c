"""Studies by the real command: at work, killed, gone on with."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.integration.command import FAULTY, headway, start
from trainer.job.directory import Job, read_lines
from trainer.job.node_state import parent_of
from trainer.process.environment import variables
from trainer.tuning.record import StudyRecord, read

SPAN = "algorithm.lr=tag(log,interval(1e-3,1e-1))"
COMMON = [FAULTY, SPAN, "+algorithm.seconds=0.05", "train.epochs=2", "train.log_every=10", "checkpoint.every=10"]
COMMON += ["tracking=none", "search=tpe"]
STEPS = 90
PATIENCE = 200.0  # seconds that a busy machine may take for anything here


class Running:
    """A study's command that is at work in the working folder."""

    def __init__(self, name: str, *arguments: str) -> None:
        self.dir = Path("studies", name).absolute()
        self.process = start("tune", *arguments)

    def until(self, condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """What the condition gives once it is true."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, f"after {seconds} s: {list(self.dir.glob('trials/*'))}"
            assert self.process.poll() is None, self.process.communicate()[0]
            time.sleep(0.02)
        return found

    def jobs(self) -> list[Job]:
        return [Job(folder) for folder in sorted(self.dir.glob("trials/*"))]

    def trains(self, number: int, step: int = 20) -> Job:
        """The job of a trial, once it has done so many steps."""

        def there() -> Job | None:
            jobs = [job for job in self.jobs() if job.name.startswith(f"{number:04d}-")]
            return jobs[0] if jobs and ((jobs[0].progress() or {}).get("step") or 0) >= step else None

        return self.until(there)  # type: ignore[no-any-return]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=600)

    def tell(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def ends(self, code: int = 0) -> str:
        """What the command said, once it has left."""
        output, _ = self.process.communicate(timeout=2 * PATIENCE)
        assert self.process.returncode == code, f"{self.process.returncode}: {output}"
        return output


def begun(name: str, *more: str) -> Running:
    return Running(name, *COMMON, f"study.name={name}", *more)


def resumed(name: str, *more: str) -> Running:
    return Running(name, "resume", name, *more)


def done(*arguments: str, code: int = 0) -> str:
    """What `headway tune ARGUMENTS` says, run to its end."""
    finished = headway("tune", *arguments, timeout=2 * PATIENCE)
    said = finished.stdout + finished.stderr
    assert finished.returncode == code, said
    assert "Traceback" not in said
    return said


def study(name: str) -> StudyRecord:
    return read(Path("studies", name))


def steps_of(job: Job) -> list[int]:
    return [line["step"] for line in read_lines(job.metrics_path)]


@contextmanager
def own_temporary_folder() -> Iterator[Path]:
    """By which processes and what they leave are told from others'. Its name is short, as Ray wants it."""
    folder = Path(tempfile.mkdtemp(prefix="hw-", dir="/tmp"))
    try:
        with variables({"TMPDIR": str(folder)}):
            yield folder
    finally:
        for pid, _ in processes(folder):
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def processes(folder: Path) -> list[tuple[int, str]]:
    """Number and command line of every process whose temporary folder is this one."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            mine = environment_of(int(process.name)).get("TMPDIR") == str(folder)
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if mine:
            found.append((int(process.name), command))
    return found


def environment_of(pid: int) -> dict[str, str]:
    """What a process was started with. Raises OSError if it has ended, or is another user's.

    A process that gives itself a title, as those of Ray do, empties the start of what /proc shows of its environment, up to the
    first variable that it has changed. What is lost there is what its parent has given it, while that lives.
    """
    text = os.fsdecode(Path(f"/proc/{pid}/environ").read_bytes())  # nothing, of one that waits to be reaped
    lines = text.split("\0")
    own = dict(line.split("=", 1) for line in lines if "=" in line)
    parent = parent_of(pid) if text and "=" not in lines[0] else None
    if not parent:
        return own
    with contextlib.suppress(OSError):
        return environment_of(parent) | own
    return own


# of a Ray that was killed: they tell it of its death first, for a minute, and then go
MOURNERS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


def wait_until_gone(folder: Path, seconds: float = 600.0) -> None:
    end = time.monotonic() + seconds
    while left := [process for process in processes(folder) if not process[1].startswith(MOURNERS)]:
        assert time.monotonic() < end, left
        time.sleep(0.1)


def size(folder: Path) -> int:
    """Bytes of the files in it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def agent_of(job: Job) -> int:
    return int([event for event in job.events() if "pid" in event][-1]["pid"])
