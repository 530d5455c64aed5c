"""Reads a file in whose place somebody may have put a pipe, which would be waited for, or a device, which may have no end."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from trainer.errors import DamagedFile


def opened(path: Path) -> BinaryIO:
    """The file, open to be read. Raises DamagedFile if it is none, and OSError."""
    file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")  # noqa: SIM115 - its caller's
    kind = os.fstat(file.fileno()).st_mode
    if stat.S_ISREG(kind):
        return file
    file.close()
    raise DamagedFile(path, "it is no file but a pipe, socket or device")


def content(path: Path) -> bytes:
    """All that is in the file. Raises DamagedFile if it is none, and OSError."""
    with opened(path) as file:
        return file.read()
