"""The first process of a container, or of any PID namespace: whoever is that has duties, and lacks what others have.

The kernel does nothing by default with the signals that such a process gets, and gives it every process that loses its
parent, to be waited for. So it does only this: the command runs as its child.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time

GRACE_SECONDS = 120.0  # for those whom a killed command has left behind, to save what they do


def stand_by() -> None:
    """In a first process: returns in a child of it, and never in itself. Elsewhere: does nothing."""
    if os.getpid() != 1:
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    command = os.fork()
    if not command:
        _take_the_terminal()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    os._exit(_serve(command))


def _take_the_terminal() -> None:
    """What a terminal sends is for the command alone, which would else get it twice: Ctrl-C twice means at once."""
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpid())  # signals are blocked here, SIGTTOU too
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)  # there is no shell that would wake it


def _serve(command: int) -> int:
    """Passes on what it is told, and waits for all that end. Gives the command's exit code, or 128 + N if signal N ended it."""
    code, until = None, 0.0
    while True:
        left = None if code is None else max(0.0, until - time.monotonic())
        told = signal.sigtimedwait(signal.valid_signals(), 1.0 if left is None else min(left, 1.0))
        ended, alone = _reap()
        if command in ended:
            code, until = ended[command], time.monotonic() + GRACE_SECONDS
        if code is not None and (alone or code >= 0 or time.monotonic() > until):
            return code if code >= 0 else 128 - code
        if told is None or told.si_signo == signal.SIGCHLD:
            continue
        with contextlib.suppress(ProcessLookupError):
            os.kill(command if code is None else -1, told.si_signo)


def _reap() -> tuple[dict[int, int], bool]:
    """The exit codes of those who have ended (-N of signal N), by process, and whether nobody else is left."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except OSError as error:
            return ended, error.errno == errno.ECHILD
        if not pid:
            return ended, False
        ended[pid] = os.waitstatus_to_exitcode(status)
