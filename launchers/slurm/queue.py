"""SLURM's commands, asked gently: all of this user's processes on this machine share one look at the queue.

The look, a table of all the user's batch jobs, lies in the user's cache folder and is taken anew when it is older than
`EVERY` seconds, by one process while the others wait for it: however many jobs are followed, one call every few seconds.
"""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.errors import HeadwayError, UserError, did_you_mean
from trainer.job.directory import read_json, write_json

EVERY = 3.0  # seconds between looks at the queue
CALL_SECONDS = 60.0
FIELDS = "%i|%T|%r|%N"
BUSY = ("Unable to contact", "Socket timed out", "Zero Bytes were transmitted", "Connection refused", "try again")


@dataclass(frozen=True)
class Record:
    """A batch job as SLURM tells it: its state and reason in SLURM's words, the nodes that it has."""

    state: str
    reason: str = ""
    nodes: str = ""


def record(number: str, *, since: float) -> tuple[Record | None, str]:
    """A batch job's record, None if SLURM knows none; and why SLURM can't be asked now, empty if it can.

    since: unix time of its submission; an older look does not tell of it.
    """
    try:
        table = _table(since)
    except FileNotFoundError:
        return None, "there is no squeue here to ask"
    except HeadwayError as error:
        return None, str(error)
    if number in table:
        return Record(*table[number]), ""
    return accounted(number), ""


def _table(since: float) -> dict[str, list[str]]:
    try:
        path = _place() / f"queue-{hashlib.sha1(os.environ.get('SLURM_CONF', '').encode()).hexdigest()[:8]}.json"
        with open(path.with_suffix(".lock"), "a") as lock:
            known = _read(path)
            if known is not None and _is_fresh(known, since):
                return known["jobs"]
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = _read(path)  # another process may have looked meanwhile
            if known is None or not _is_fresh(known, since):
                known = {"time": time.time(), "jobs": _look()}
                write_json(path, known)
            return known["jobs"]
    except FileNotFoundError:
        raise  # there is no squeue
    except OSError:  # a home that can't be written, or locked, on this machine
        return _look()


def _is_fresh(known: Mapping[str, Any], since: float) -> bool:
    return bool(known["time"] >= since and 0 <= time.time() - known["time"] < EVERY)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path)
    except ValueError:
        return None


def _place() -> Path:
    """A folder that nobody else can write to, made if it isn't there."""
    folder = Path(os.environ.get("HEADWAY_CACHE") or "~/.cache/headway").expanduser() / "slurm"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _look() -> dict[str, list[str]]:
    """All the user's batch jobs that SLURM remembers, ended ones too, by number; array tasks by NUMBER_TASK."""
    said = _call(
        ["squeue", f"--user={getpass.getuser()}", "--states=all", "--array", "--noheader", f"--format={FIELDS}"]
    )
    rows = [line.split("|") for line in said.splitlines()]
    return {row[0]: row[1:4] for row in rows if len(row) >= 4}


_ended: dict[str, Record | None] = {}


def accounted(number: str) -> Record | None:
    """A batch job that the controller has forgotten, where there is accounting. Asked once: it has ended."""
    if number not in _ended:
        try:
            said = _call(
                ["sacct", f"--jobs={number}", "--allocations", "--noheader", "--parsable2", "--format=State,Reason"]
            )
        except (HeadwayError, FileNotFoundError):
            said = ""  # no accounting
        state, _, reason = said.strip().splitlines()[-1].partition("|") if said.strip() else ("", "", "")
        _ended[number] = Record(state.split()[0], reason) if state else None
    return _ended[number]


def write(path: str, text: str) -> None:
    beside = Path(f"{path}.{os.getpid()}")
    beside.write_bytes(text.encode("utf-8", "surrogateescape"))
    mode = beside.stat().st_mode
    beside.chmod((mode | (mode & 0o444) >> 2) & 0o7777)  # who may read it may run it
    os.replace(beside, path)


def sbatch(command: Sequence[str], env: Mapping[str, str]) -> str:
    """Submits. Returns what sbatch printed. Raises UserError for what SLURM refuses."""
    try:
        return _call(command, env).strip()
    except FileNotFoundError:
        raise UserError(
            "launcher=slurm: there is no sbatch here; call headway on a machine of the cluster, or choose another launcher"
        ) from None
    except HeadwayError as error:
        if any(words in str(error) for words in BUSY):
            raise
        raise UserError(f"launcher: SLURM refuses the job: {error}{_hint(str(error), command)}") from None


def _hint(said: str, command: Sequence[str]) -> str:
    if "invalid partition" not in said:
        return ""
    known = [name.rstrip("*") for name in _call(["sinfo", "--noheader", "--format=%P"]).split()]
    asked = said.rpartition(":")[2].strip()
    return f"; launcher.partition: {did_you_mean(asked, known)}"


def scancel(*arguments: str) -> None:
    _call(["scancel", *arguments])


def scontrol(*arguments: str) -> str:
    """What it tells."""
    return _call(["scontrol", *arguments])


def requeue(number: str) -> None:
    _call(["scontrol", "requeue", number])


def _call(command: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """What a command printed. Raises HeadwayError with its own last line of what was wrong."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=CALL_SECONDS,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **env} if env else None,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise HeadwayError(f"{command[0]} gave no answer within {CALL_SECONDS:.0f} s") from None
    if done.returncode == 0:
        return done.stdout
    lines = [line.removeprefix(f"{command[0]}: ") for line in done.stderr.splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith("fatal: ")]
    words = [*fatal, *lines, f"{command[0]} ended with {done.returncode}"][0]
    raise HeadwayError(words.removeprefix("fatal: ").removeprefix("error: "))
