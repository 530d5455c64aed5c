"""What was added to a file since one last looked: each byte is read once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Tail:
    """Follows a text file that may not exist yet, and whose last line may be half written."""

    path: Path
    _position: int = field(default=0, init=False)
    _rest: list[bytes] = field(default_factory=list, init=False)  # parts of the last line
    _inode: int = field(default=0, init=False)

    def lines(self) -> list[str]:
        """The complete lines added since the last call; all of them if the file was replaced."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return []
        size = stat.st_size
        if stat.st_ino != self._inode or size < self._position:  # another file under this name: from its beginning
            self._position, self._rest, self._inode = 0, [], stat.st_ino
        if size == self._position:
            return []
        with open(self.path, "rb") as file:
            file.seek(self._position)
            added = file.read(size - self._position)
        self._position += len(added)
        first, *others = added.split(b"\n")
        self._rest.append(first)
        if not others:
            return []
        *others, rest = others
        lines, self._rest = [b"".join(self._rest), *others], [rest]
        return [line.decode("utf-8", "replace").rstrip("\r") for line in lines]

    def records(self, wrong: Callable[[dict[str, Any]], str | None] = lambda record: None) -> list[dict[str, Any]]:
        """The JSON records added since the last call; a damaged line is left out. wrong: says what is wrong with a record."""
        records = []
        for line in self.lines():
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict) and wrong(found) is None:
                records.append(found)
        return records

    def remainder(self) -> str:
        """An unfinished last line."""
        return b"".join(self._rest).decode("utf-8", "replace")
