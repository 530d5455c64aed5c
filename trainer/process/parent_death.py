"""A process that goes with whoever started it. Standard library only."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def dies_with(parent: int) -> Callable[[], None]:
    """For `preexec_fn`: the process gets SIGTERM when the thread that started it is gone. So a closed terminal or a killed
    submitter interrupts it in order instead of leaving it behind."""

    def ask() -> None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)

    return ask
