"""What the agent of a node and its workers share while they live: a folder on the node's own disk. Standard library only.

    beats         16 bytes a worker: the last step done, and a count that moves whenever anything does
    at            8 bytes a worker: what it is at, a number among PARTS
    notice.json   the newest notice of an interruption: id, leave, why, deadline, stop

Workers write beats by plain stores to mapped memory, so that a step pays nanoseconds for being watched.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.job.directory import read_json, write_json

BEATS, AT, NOTICE = "beats", "at", "notice.json"
# what a training's time goes to, in the order of a worker's way from the end of one step to the end of the next
PARTS = ("idle", "communication", "validation", "checkpoint", "data", "forward", "backward", "optimizer")
UNSTARTED = -1
APART = "HEADWAY_APART"  # in the environment of workers whose nodes have no folder in common: where the job lies on S3
JOB = "HEADWAY_JOB"  # in the environment of a job's workers, and of what they start: its directory


@dataclass(frozen=True)
class Ask:
    """What the workers of a node are asked to do at a step that all agree on.

    id: counts up; leave: leave with the state saved, else save it and go on; stop: leave, as somebody ends the job for now;
    deadline: seconds of this machine's `time.monotonic()` at which they are gone anyway, None if not known; why: words for the
    log.
    """

    id: int
    leave: bool
    why: str
    deadline: float | None = None
    stop: bool = False


def make(folder: Path, workers: int) -> memoryview:
    """The beats of a node's workers, not started yet. The agent's view: two numbers a worker."""
    beats, at = _map(folder / BEATS, 2 * workers), _map(folder / AT, workers)
    for i in range(workers):
        beats[2 * i], beats[2 * i + 1], at[i] = UNSTARTED, 0, 0
    return beats


def beat_of(folder: Path, local_rank: int, workers: int) -> memoryview:
    """A worker's own two numbers: step, count."""
    return _map(folder / BEATS, 2 * workers)[2 * local_rank : 2 * local_rank + 2]


def at_of(folder: Path, local_rank: int, workers: int) -> memoryview:
    """A worker's own number of what it is at."""
    return _map(folder / AT, workers)[local_rank : local_rank + 1]


def standings(folder: Path, workers: int) -> list[tuple[int, int]]:
    """Where each worker of a node stands: the last step that it has done, and what it is at."""
    beats, at = _map(folder / BEATS, 2 * workers), _map(folder / AT, workers)
    return [(beats[2 * i], at[i]) for i in range(workers)]


def standing(step: int, part: int) -> str:
    """Where a worker stands, in words."""
    if step == UNSTARTED:
        return "before its first step"
    name = PARTS[part]
    if name == PARTS[0]:
        return f"after step {step:,}"
    if part < PARTS.index("data"):
        return f"in the {name} after step {step:,}"
    what = "waiting for the data" if name == "data" else f"in the {name}"
    return f"{what} of step {step + 1:,}"


def steps_left_in(beats: Path) -> list[int]:
    """The last steps of workers whose agent is gone."""
    numbers = memoryview(beats.read_bytes()).cast("q")
    return [int(step) for step in numbers[::2]]


def ask(folder: Path, what: Ask) -> None:
    write_json(folder / NOTICE, what.__dict__)


def asked(folder: Path) -> Ask | None:
    record: dict[str, Any] | None = read_json(folder / NOTICE)
    return Ask(**record) if record else None


def job_of(pid: int) -> Path | None:
    """The directory of the job of which a process on this machine is a worker, or was started by one; None if it is none that
    can be seen. A program that gives itself a title (setproctitle) writes it over its environment: its parents still tell."""
    mark = f"{JOB}=".encode()
    process: int | None = pid
    while process:
        try:
            lines = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
        except OSError:  # it is gone, or another user's
            return None
        if told := next((line for line in lines if line.startswith(mark)), None):
            return Path(os.fsdecode(told[len(mark) :]))
        process = parent_of(process)
    return None


def parent_of(pid: int) -> int | None:
    """The process that started another; None if that can't be told."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


def process_lives(pid: int) -> bool:
    """Whether a process of this machine still runs; one that waits to be reaped doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return False


def _map(path: Path, numbers: int) -> memoryview:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.ftruncate(fd, 8 * numbers)
        return memoryview(mmap.mmap(fd, 8 * numbers)).cast("q")
    finally:
        os.close(fd)
