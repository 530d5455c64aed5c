"""A terminal that is gone takes nobody with it: what is written there is lost, and the command goes on to its end."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any


class _Terminal(io.FileIO):
    def write(self, text: Any, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.ENXIO):
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return super().write(text)


def outlive() -> None:
    """From now on, for standard output and error where they are a terminal."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or not stream.isatty():
            continue
        stream.flush()
        raw = _Terminal(stream.fileno(), "w", closefd=False)
        lasting = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding=stream.encoding, errors=stream.errors, line_buffering=True
        )
        setattr(sys, name, lasting)
