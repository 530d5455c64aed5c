"""A job and its directory: the wire format by which submitter, agents, workers, tuner and people meet.

    config.yaml      the resolved config
    data/            rows that Python gave, see `trainer.api.given`
    code/            the user's own code, see `trainer.job.code_path`
    submission/      when, by which command, of which commit, in which environment: see `trainer.submission.bundle`
    events.jsonl     one line a state change: its moment (time, up, boot: see `trainer.process.clock`), state, attempt, reason, and what
                     else is known (world_size, step)
    metrics.jsonl    one line a report: its moment, step, epoch, samples, values
    checkpoints/     step-00001200/ …, see `trainer.job.checkpoint`
    model/           the artifact
    opt/, output/    of a script: its containers' folders; model.tar.gz, output.tar.gz and failure, as SageMaker has them
    logs/            attempt-0-rank-0.log …, node-0.log (the agent's), progress.json (where the job stands right now)
    result.json      how it ended

Standard library only: everyone may import this.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from trainer.errors import DamagedFile
from trainer.job.records import wrong_event, wrong_progress, wrong_report, wrong_result
from trainer.process import clock, plain_file

AS_TOLD = "as its directory tells: "  # how a status's reason begins where nobody could be asked
GIVEN = "data"  # the folder of rows that Python gave
MAX_RUNTIME = "MaxRuntimeExceeded"  # the source of an end: train.max_time was over before there was a trained model


class State(str, Enum):
    """Where a job stands. The last three are final."""

    PENDING = "Pending"
    STARTING = "Starting"
    RUNNING = "Running"
    INTERRUPTED = "Interrupted"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"

    @property
    def is_final(self) -> bool:
        return self in (State.COMPLETED, State.FAILED, State.STOPPED)

    @property
    def is_active(self) -> bool:
        """Whether someone is supposed to be at work on it."""
        return self in (State.PENDING, State.STARTING, State.RUNNING)


@dataclass(frozen=True)
class Status:
    """How a job fares, as its backend and its directory tell together.

    alive: the backend still has it, at work or waiting; who follows a job follows it until then.
    reason: why, in the backend's own words, such as what a queue waits for; empty if there is nothing to say.
    """

    state: State
    alive: bool
    reason: str = ""


@dataclass(frozen=True)
class Job:
    """A job is its directory. url: where that lies on S3, if those who work on the job have folders of their own; `dir` is
    then this machine's."""

    dir: Path
    url: str | None = None

    @property
    def name(self) -> str:
        return self.dir.name

    @property
    def config_path(self) -> Path:
        return self.dir / "config.yaml"

    @property
    def events_path(self) -> Path:
        return self.dir / "events.jsonl"

    @property
    def metrics_path(self) -> Path:
        return self.dir / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.dir / "checkpoints"

    @property
    def own_state(self) -> Path:
        """What a script keeps by itself, to go on from; see `algorithms.script`."""
        return self.dir / "opt" / "ml" / "checkpoints"

    @property
    def model(self) -> Path:
        return self.dir / "model"

    @property
    def logs(self) -> Path:
        return self.dir / "logs"

    def workers(self) -> set[int]:
        """The process ids of the workers that each node's agent has started last, as far as they are known here."""
        told = [read_hint(path).get("workers") for path in self.logs.glob("node-*.json")]
        return {pid for pids in told if isinstance(pids, list) for pid in pids if isinstance(pid, int)}

    @property
    def result_path(self) -> Path:
        return self.dir / "result.json"

    @property
    def progress_path(self) -> Path:
        return self.logs / "progress.json"

    @property
    def profile(self) -> Path:
        """Traces and tables of `train.profile`, by rank."""
        return self.logs / "profile"

    @property
    def event_files(self) -> list[Path]:
        """TensorBoard's: in the directory itself, so that the board calls the job as it is called."""
        return sorted(self.dir.glob("events.out.tfevents.*"))

    @property
    def reserve(self) -> Path:
        """A file that holds some room on the disk while the job runs, given up to say how it ended on a full one."""
        return self.logs / ".reserve"

    def log_path(self, attempt: int, rank: int) -> Path:
        return self.logs / f"attempt-{attempt}-rank-{rank}.log"

    def error_path(self, attempt: int, rank: int) -> Path:
        return self.logs / f"attempt-{attempt}-rank-{rank}.error.json"

    def gpu_path(self, attempt: int, rank: int) -> Path:
        """What a node's GPUs did in an attempt, kept by the first of its workers: names, energy, errors."""
        return self.logs / f"attempt-{attempt}-rank-{rank}.gpu.json"

    @property
    def id(self) -> str | None:
        """What tells it from every other job, wherever its directory lies, as its first event says; None if none does."""
        return next((str(event["job"]) for event in self.events() if event.get("job")), None)

    def exists(self) -> bool:
        return self.config_path.is_file()

    def is_copy(self, directory: str | None = None) -> bool:
        """Whether a record of who is at work, in this directory, is of another one, of which this is a copy. One that is
        gone was moved here. directory: what the record names; else the newest start of workers tells it. A job on S3 is one in
        however many folders."""
        if self.url is not None:
            return False
        directory = directory or next((e["dir"] for e in reversed(self.events()) if "dir" in e), None)
        try:
            return directory is not None and not os.path.samefile(directory, self.dir)
        except OSError:
            return False

    # what happened

    def add_event(self, state: State, **details: Any) -> None:
        """Appends a state change; `details` are attempt, reason, world_size, step and the like."""
        end_torn_line(self.events_path)
        event = {**clock.now(), "state": state.value, **details}
        append_line(self.events_path, event, durable=not state.is_active)

    def events(self) -> list[dict[str, Any]]:
        """The state changes, oldest first; what is damaged of them is left out. So it is of reports."""
        return lines_of(self.events_path, wrong_event).records

    def last_event(self) -> dict[str, Any]:
        """The newest state change; {} before the first."""
        events = self.events()
        return events[-1] if events else {}

    def state(self) -> State:
        """The state as the directory tells it; a launcher knows whether those at work are still alive. Raises DamagedFile if
        there is no such state."""
        return self.state_of(self.last_event())

    def state_of(self, event: Mapping[str, Any]) -> State:
        """That of one of its events; Pending before the first, {}. Raises DamagedFile."""
        return _known_state(self.events_path, event.get("state", State.PENDING))

    @property
    def out_of_time(self) -> bool:
        """Whether it was stopped because train.max_time was over."""
        last = self.last_event()
        return last.get("state") == State.STOPPED and last.get("source") == MAX_RUNTIME

    def status(self) -> Status:
        """The same as a status, for who has no launcher to ask."""
        state = self.state()
        return Status(state, state.is_active)

    def metrics(self) -> list[dict[str, Any]]:
        return lines_of(self.metrics_path, wrong_report).records

    def result(self) -> dict[str, Any] | None:
        """How it ended; what it names of its directory is where that is now. None if it hasn't. Raises DamagedFile."""
        found = read_json(self.result_path)
        if found is None:
            return None
        if wrong := wrong_result(found):
            raise DamagedFile(self.result_path, wrong)
        _known_state(self.result_path, found["status"])
        if found.get("model") and "://" not in found["model"]:
            found["model"] = str(self.model)
        error = found.get("error") or {}
        if error.get("log") and "://" not in error["log"] and not Path(error["log"]).exists():
            error["log"] = str(self.logs / Path(error["log"]).name)
        return found

    def result_is_lost(self) -> bool:
        """Whether it is damaged, as by a loss of power: a job that goes on from its end writes it again."""
        try:
            self.result()
        except DamagedFile:
            return True
        return False

    def progress(self) -> dict[str, Any] | None:
        """Where it stood last; None if that isn't known."""
        found = read_hint(self.progress_path)
        return None if not found or wrong_progress(found) else found


def _known_state(path: Path, name: str) -> State:
    try:
        return State(name)
    except ValueError:
        raise DamagedFile(path, f"this version knows no state {name!r}") from None


_numbers = itertools.count()  # threads and signal handlers may write the same file at once


def append_line(path: Path, record: Mapping[str, Any], *, durable: bool = False) -> None:
    """Adds one JSON line in one write, so that a reader never meets half of two lines. Raises OSError, also where the disk
    had room for a part of it: that is taken back.
    durable: it is on the disk then."""
    line = (json.dumps(record, separators=(",", ":"), allow_nan=True) + "\n").encode()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        written = os.write(fd, line)
        if written < len(line):
            os.ftruncate(fd, os.lseek(fd, 0, os.SEEK_END) - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)


def end_torn_line(path: Path) -> None:
    """A line that was being written when a machine died must not swallow the next one."""
    try:
        with plain_file.opened(path) as file:
            file.seek(-1, os.SEEK_END)
            torn = file.read(1) != b"\n"
    except OSError:  # not there, or empty
        return
    if torn:
        with open(path, "ab") as file:
            file.write(b"\n")


@dataclass(frozen=True)
class Lines:
    """The records of a JSON-lines file, and how many of its lines are none. damage: what is wrong with the first of those that
    no machine leaves which loses its power: such a one ends in the middle, or in zeros."""

    records: list[dict[str, Any]]
    dropped: int = 0
    damage: str | None = None


def lines_of(path: Path, wrong: Callable[[dict[str, Any]], str | None] = lambda record: None) -> Lines:
    """What there is in a JSON-lines file; nothing if it isn't there. wrong: says what is wrong with a record. Raises
    DamagedFile if it is no file."""
    content = _bytes_of(path) or b""
    found: list[dict[str, Any]] = []
    damage, dropped = None, 0
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        why = None
        try:
            record = json.loads(line)
            why = wrong(record) if isinstance(record, dict) else f"it is no record but {line[:20].decode()}"
        except (ValueError, RecursionError):
            why = "" if b"\0" in line or (line.startswith(b"{") and _is_text(line)) else "it is no text of JSON"
        if why is None:
            found.append(record)
            continue
        dropped += 1
        if why and damage is None:
            damage = f"line {number}: {why}"
    return Lines(found, dropped, damage)


def _is_text(line: bytes) -> bool:
    """Whether it is, but for its last character, which may be half written."""
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return len(line) - error.start < 4
    return True


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a JSON-lines file; nothing if it isn't there; lines that are none are left out."""
    yield from lines_of(path).records


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON file's content; None if it isn't there. Raises DamagedFile if it is no JSON object."""
    content = _bytes_of(path)
    if content is None:
        return None
    if not content.strip(b"\0 \n"):
        raise DamagedFile(
            path, "it is empty" if not content else "it holds nothing but zeros, as after a loss of power"
        )
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise DamagedFile(path, "it is no JSON") from None
    if not isinstance(found, dict):
        raise DamagedFile(path, f"it holds no JSON object but {str(found)[:20]}")
    return found


def read_hint(path: Path) -> dict[str, Any]:
    """The content of a JSON file that one can do without; {} if it isn't there, or is damaged."""
    try:
        return read_json(path) or {}
    except DamagedFile:
        return {}


def _bytes_of(path: Path) -> bytes | None:
    try:
        return plain_file.content(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DamagedFile(path, f"it can't be read ({error.strerror})") from None


def write_json(path: Path, value: Any, *, durable: bool = False) -> None:
    """Writes beside, then renames: a reader sees the old or the new file, never a part; `durable`: after a loss of power too."""
    text = json.dumps(value, indent=None if path.name == "progress.json" else 2)
    write_text(path, f"{text}\n", durable=durable)


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """The same of any text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.{next(_numbers)}")
    with open(beside, "w", encoding="utf-8") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(beside, path)
    if durable:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
