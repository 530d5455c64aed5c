"""Output that nobody can take any more: a terminal that is gone, a closed pipe, a full disk.

What runs goes on to its end without it. Of a verb that only tells something, a closed pipe ends it, and a full disk is an error.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

from trainer.errors import HeadwayError

GONE = (errno.EIO, errno.ENXIO)  # of a terminal


class _Lasting(io.FileIO):
    """A stream of which writes go nowhere once one has failed. goes_on: no failure is told."""

    goes_on = True

    def write(self, text: Any, /) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            if not self.goes_on:
                raise
            self._to_nowhere()
        except OSError as error:
            gone = error.errno in GONE and self.isatty()
            self._to_nowhere()
            if not self.goes_on and not gone:
                raise HeadwayError(f"what it prints can't be written: {error.strerror}") from None
        return super().write(text)

    def _to_nowhere(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def outlive(*, goes_on: bool) -> None:
    """From now on, for standard output and error. goes_on: the verb does something, whether or not anybody reads of it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was closed before this process began
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for as long as the process lives
            continue
        stream.flush()
        raw = _Lasting(stream.fileno(), "w", closefd=False)
        raw.goes_on = goes_on or name == "stderr"
        at_once = stream.write_through  # PYTHONUNBUFFERED: whoever reads a pipe wants each line as it is said
        lasting = io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=at_once or stream.line_buffering or stream.isatty(),
        )
        setattr(sys, name, lasting)
