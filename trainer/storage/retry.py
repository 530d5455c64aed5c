"""Writes that outlast a disk which can't be written for a moment: full, read-only after an error, away. Standard library only."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EFBIG})
PATIENCE = 30.0  # seconds
LOOK = 0.1


def patiently(write: Callable[[], T], seconds: float = PATIENCE) -> T:
    """What `write` gives, which is tried again while its disk can't be written, for so many seconds. Raises OSError."""
    end = time.monotonic() + seconds
    while True:
        try:
            return write()
        except OSError as error:
            if error.errno not in PASSING or time.monotonic() > end:
                raise
            time.sleep(LOOK)
