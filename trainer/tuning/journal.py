"""A study's storage: Optuna's journal in one file, with one writer, who holds the study's lock.

The lines are those of Optuna's own file backend, so that `optuna-dashboard FILE` opens it. Unlike there, several changes
are written together, by one write; and a line that was being written when the machine died is cut off.

What is written outlives this process at once. That it outlives the machine takes a disk some milliseconds, in which the
study goes on: the last changes before a crash may be missing afterwards, and the jobs' directories tell what they were of.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from trainer.errors import UserError


class Journal(BaseJournalBackend):
    """The log of a storage. Raises UserError if the file can't be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()
        self._unread = _read(path)  # from the line number `_first` on; what Optuna has read isn't kept twice
        self._first = 0
        self._waiting: list[dict[str, Any]] | None = None
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - until `close`
        self._unsynced = threading.Event()
        self._closed = False
        self._syncing = threading.Thread(target=self._sync, name="journal", daemon=True)
        self._syncing.start()

    def close(self) -> None:
        """Returns once all is on the disk."""
        self._closed = True
        self._unsynced.set()
        self._syncing.join()
        self._file.close()

    def _sync(self) -> None:
        while not self._closed or self._unsynced.is_set():
            self._unsynced.wait()
            self._unsynced.clear()
            os.fsync(self._file.fileno())

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        del self._unread[: log_number_from - self._first]
        self._first = log_number_from
        yield from list(self._unread)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._unread += [json.loads(json.dumps(log)) for log in logs]  # as one who reads the file gets it
        if self._waiting is not None:
            self._waiting += logs
        else:
            self._write(logs)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is changed inside is written at its end, all of it or nothing."""
        if self._waiting is not None:
            yield
            return
        self._waiting = []
        try:
            yield
        finally:
            logs, self._waiting = self._waiting, None
            self._write(logs)

    def _write(self, logs: list[dict[str, Any]]) -> None:
        if not logs:
            return
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self._file.write(text.encode())
        self._unsynced.set()


def _read(path: Path) -> list[dict[str, Any]]:
    """The file's lines; one without an end is cut off."""
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        os.truncate(path, end)
    lines = []
    for number, line in enumerate(content[:end].splitlines(), 1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or "op_code" not in record:
            raise UserError(
                f"{path}: line {number} is damaged; put back a copy of this file, or cut it off there "
                f"(head -n {number - 1}) to lose what came later, and `headway tune resume` goes on"
            )
        lines.append(record)
    return lines
