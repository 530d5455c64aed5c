"""Imported last by the process that workers are forked from, which so ends in order: its agent may have been killed, and
nobody else would remove the socket at which it is asked for workers, and a warm agent's folder around it.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing.forkserver
import os
from typing import Any


def _tidy(own: int) -> None:
    server: Any = multiprocessing.forkserver._forkserver
    address = server._forkserver_address
    if os.getpid() != own or address is None:  # a worker, or the agent
        return
    with contextlib.suppress(OSError):
        os.unlink(address)
    with contextlib.suppress(OSError):  # what a cold agent leaves in its folder tells the next one how far it came
        os.rmdir(os.path.dirname(address))


atexit.register(_tidy, os.getpid())
