"""A study's storage: Optuna's journal in one file, with one writer, who holds the study's lock.

The lines are those of Optuna's own file backend, so that `optuna-dashboard FILE` opens it. Unlike there, several changes
are written together, by one write, and count together: each line says how many `more` of its group follow. A line, or a
group, that was being written when the machine died is cut off.

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
from trainer.job.checkpoint import sync
from trainer.process import plain_file

MORE = "more"  # in a line, beside what Optuna reads of it: how many more there are of its group


class DamagedLine(ValueError):
    """A line that is whole and no change of a storage."""

    def __init__(self, number: int) -> None:
        super().__init__(f"line {number} is damaged")
        self.number = number


class Snapshot(BaseJournalBackend):
    """The log of a storage as it is now, only to be looked at. Raises ValueError or OSError if the file can't be read."""

    def __init__(self, path: Path) -> None:
        self._lines, _ = _read(path)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        yield from self._lines[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise NotImplementedError


class Journal(BaseJournalBackend):
    """The log of a storage. Raises UserError if the file can't be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.touch()
            sync(path.parent)
            self._unread, whole = _read(path)  # from the line number `_first` on; what Optuna has read isn't kept twice
            if whole < path.stat().st_size:
                os.truncate(path, whole)
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - until `close`
        except OSError as error:
            raise UserError(f"{path} can't be read and written: {error.strerror}; put back a copy of it") from None
        except DamagedLine as error:
            raise UserError(
                f"{path}: {error}; put back a copy of this file, or cut it off there (head -n {error.number - 1}) "
                f"to lose what came later, and `headway tune resume` goes on"
            ) from None
        self._first = 0
        self._waiting: list[dict[str, Any]] | None = None
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
        left = range(len(logs) - 1, -1, -1)
        told = [{**log, MORE: more} if more else log for log, more in zip(logs, left, strict=True)]
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in told)
        self._file.write(text.encode())
        self._unsynced.set()


def _read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The file's lines, and the bytes that they take. A line without an end, and a group without one, are left out.

    Raises DamagedLine.
    """
    content = plain_file.content(path)
    lines: list[dict[str, Any]] = []
    count = whole = end = 0  # the lines and bytes up to the last whole group; the bytes that were looked at
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].split(b"\n")[:-1], 1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or "op_code" not in record:
            raise DamagedLine(number)
        lines.append(record)
        end += len(line) + 1
        if not record.get(MORE):
            count, whole = len(lines), end
    return lines[:count], whole
