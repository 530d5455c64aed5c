"""A notebook's output, where there is no terminal and a person looks on all the same. Standard library only."""

from __future__ import annotations

import sys
from typing import Any, TextIO

WIDTH = 100  # characters that a cell's output has room for


def is_notebook() -> bool:
    """Whether this process is a notebook's kernel."""
    ipython: Any = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class OneLine:
    """A stream of text below whose last line another one stands, which is written over as often as one likes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._standing = stream, ""

    def stand(self, line: str) -> None:
        """Writes `line` over the one that stands there; "" leaves nothing."""
        if line != self._standing:
            self._stream.write("\r" + line.ljust(len(self._standing)) + ("" if line else "\r"))
            self._stream.flush()
            self._standing = line

    def write(self, text: str) -> int:
        if text:
            self.stand("")
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()
