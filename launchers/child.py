"""Processes that are to go with whoever started them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainer.process.interpreter import safe
from trainer.process.parent_death import dies_with


def start(
    command: Sequence[str], log: Path, env: Mapping[str, str], *, detached: bool = False
) -> subprocess.Popen[bytes]:
    """Starts a command in a session of its own, its output at the end of `log`.

    It goes with the thread that called (`trainer.process.parent_death.dies_with`); a detached one stays.
    """
    with open(log, "ab") as output:
        return subprocess.Popen(
            command,
            env={**env, **safe()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=None if detached else dies_with(os.getpid()),
        )
