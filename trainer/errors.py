"""Errors a person reads: one line that says what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """With what commands, agents and workers leave. One that a signal ended leaves with 128 and its number, as in a shell: Ctrl-C
    is a person's stop."""

    COMPLETED = 0
    FAILED = 1
    MISTAKE = 2  # the user's
    INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h: the same command goes on
    STOPPED = 130


class HeadwayError(Exception):
    """A job or a command failed; the command exits with 1."""

    exit_code: int = ExitCode.FAILED


class UserError(HeadwayError):
    """The user's input is at fault; the command exits with 2 and shows no trace."""

    exit_code = ExitCode.MISTAKE


class DamagedFile(UserError, ValueError):
    """A file that is there and doesn't hold what it should: a machine lost its power, a person changed it, or it comes from
    another version."""

    def __init__(self, path: object, why: str) -> None:
        super().__init__(f"{path} is damaged: {why}")
        self.why = why


class LostWorker(HeadwayError):
    """Another worker can't be reached any more. Not this one's fault, and no reason to give up: all are started again."""


class LateWorker(LostWorker):
    """One that was lost, or (timed_out) did not come to where this one waited for it."""

    def __init__(self, message: str, *, timed_out: bool) -> None:
        super().__init__(message)
        self.timed_out = timed_out


def did_you_mean(name: str, known: Iterable[str], listed: Iterable[str] | None = None) -> str:
    """`did you mean 'x'?`, or the list of what there is, for a name that isn't among `known`.

    listed: what is listed then, where all of `known` would be too much.
    """
    options = sorted(set(known))
    close = difflib.get_close_matches(name, options, n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    shown = options if listed is None else sorted(listed)
    return "there is " + ", ".join(shown) if shown else "there is none"


def pip_install(extra: str) -> str:
    """The command that installs what an optional part of Headway needs, from wherever Headway itself came."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        lines = requires("headway") or []
    except PackageNotFoundError:
        lines = []
    of_extra = [line.partition(";")[0].strip() for line in lines if re.search(rf"extra == ['\"]{extra}['\"]", line)]
    return "pip install " + " ".join(f'"{one}"' for one in of_extra or [extra])
