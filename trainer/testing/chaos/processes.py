"""Processes of a drill, as /proc shows them: whether they live, and whose they are."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

MARK = "HEADWAY_CHAOS"  # in the environment of every process of a drill
PR_SET_PDEATHSIG = 1


def lives(pid: int) -> bool:
    """Whether it still runs; one that is dead and not yet reaped doesn't."""
    return state(pid) not in ("", "Z", "X")


def state(pid: int) -> str:
    """The letter of its state; empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def command_of(pid: int) -> str:
    """Its command line, as far as it fits a line, and where it waits."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return f"{words[:200]} ({state(pid)}, {Path(f'/proc/{pid}/wchan').read_text()})"
    except OSError:
        return f"{pid}, which is gone by now"


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Sends a signal to all that are there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def is_marked(pid: int, mark: str) -> bool:
    """Whether it is a process of this drill: numbers of dead ones are given to others."""
    try:
        return f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def marked(mark: str, word: bytes = b"") -> list[int]:
    """The living processes of a drill, orphans too; `word`: those that have it on their command line."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for place in Path("/proc").iterdir():
        if not place.name.isdigit():
            continue
        try:
            if wanted not in (place / "environ").read_bytes().split(b"\0"):
                continue
            if word in (place / "cmdline").read_bytes() and lives(int(place.name)):
                found.append(int(place.name))
        except OSError:
            continue
    return found


def wait_gone(gone: Callable[[], bool], seconds: float) -> bool:
    """Waits until it is so. False if it took too long."""
    end = time.monotonic() + seconds
    while not gone():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def wait_dead(pids: Iterable[int], seconds: float) -> bool:
    """Waits until none of them lives. False if it took too long."""
    known = list(pids)
    return wait_gone(lambda: not any(map(lives, known)), seconds)


def dies_with_us(number: signal.Signals) -> Callable[[], None]:
    """What a child does first, so that a drill that is killed leaves nothing behind."""
    libc = ctypes.CDLL(None)  # loaded before the fork
    return lambda: libc.prctl(PR_SET_PDEATHSIG, int(number))
