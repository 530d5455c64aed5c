"""Imported last by the process that workers are forked from, which so ends in order: its agent may have been killed, and
nobody else would remove the socket at which it is asked for workers, and a warm agent's folder around it.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing.forkserver
import os
import shutil
from typing import Any

from trainer.process.scratch import LOCK


def _tidy(own: int) -> None:
    server: Any = multiprocessing.forkserver._forkserver
    address = server._forkserver_address
    if os.getpid() != own or address is None:  # a worker, or the agent
        return
    with contextlib.suppress(OSError):
        os.unlink(address)
    folder = os.path.dirname(address)
    with contextlib.suppress(OSError):
        if (
            os.path.getsize(os.path.join(folder, LOCK)) == 0
        ):  # what a cold agent leaves tells the next one how far it came
            shutil.rmtree(folder, ignore_errors=True)


atexit.register(_tidy, os.getpid())
