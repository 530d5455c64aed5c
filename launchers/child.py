"""Processes that are to go with whoever started them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainer.interpreter import safe

PR_SET_PDEATHSIG = 1


def start(
    command: Sequence[str], log: Path, env: Mapping[str, str], *, detached: bool = False
) -> subprocess.Popen[bytes]:
    """Starts a command in a session of its own, its output at the end of `log`.

    When the thread that called dies, it gets SIGTERM: a closed terminal or a killed submitter interrupts a job in order
    instead of leaving it behind. A detached one stays.
    """
    parent = os.getpid()

    def die_with_parent() -> None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)

    with open(log, "ab") as output:
        return subprocess.Popen(
            command,
            env={**env, **safe()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=None if detached else die_with_parent,
        )
