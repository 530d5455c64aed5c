"""Whose job it is: of two live copies of one job on S3, the older one finds out at its next write, and stops.

`owner.json` names the copy that is at work: id, job, host, pid, time, step. Whoever starts writes itself into it on the
condition that it is still what was read; the owner writes it again before everything that others will see, on the condition that
it is still what it wrote itself. S3 decides which of two comes first.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import uuid
from pathlib import Path
from typing import Any

from trainer.errors import HeadwayError
from trainer.storage.objects import S3, Conflict, record_in

OWNER = "owner.json"
KNOWN = ".job-id"  # in the local folder: of which job its files are
TRIES = 5


class Superseded(Exception):
    """Another copy has taken the job over."""


class Ownership:
    """This process as the owner of a job on S3."""

    def __init__(self, storage: S3, folder: Path) -> None:
        self._storage, self._folder = storage, folder
        self.id, self._job = uuid.uuid4().hex, ""
        self._etag = ""
        self._since = time.time()
        self.renewed = 0.0  # monotonic

    def take_over(self, step: int) -> dict[str, Any] | None:
        """Makes this process the owner and returns the record of the one before. Raises HeadwayError if it can't."""
        for _ in range(TRIES):
            found = self._storage.read(OWNER)
            before = record_in(found[0]) if found else None
            self._job = str((before or {}).get("job") or known_job(self._folder) or uuid.uuid4().hex)
            with contextlib.suppress(Conflict):
                if found:
                    self._etag = self._storage.write(OWNER, self._record(step), if_match=found[1])
                else:
                    self._etag = self._storage.write(OWNER, self._record(step), if_absent=True)
                self.renewed = time.monotonic()
                be_of_job(self._folder, self._job)
                return before
            time.sleep(0.2)
        raise HeadwayError(f"{self._storage.url}: others take this job over at the same time; start it once")

    def renew(self, step: int) -> None:
        """Says again whose job it is. Raises Superseded, saying by whom, if it is another's."""
        for _ in range(TRIES):
            try:
                self._etag = self._storage.write(OWNER, self._record(step), if_match=self._etag)
            except Conflict:
                found = self._storage.read(OWNER)
                owner = record_in(found[0]) if found else None
                if found is None or owner is None or owner.get("id") != self.id:
                    raise Superseded(who(owner)) from None
                self._etag = found[1]  # our own write, whose answer got lost
            else:
                self.renewed = time.monotonic()
                return
        raise HeadwayError(f"{self._storage.url}/{OWNER} can't be written: its condition fails again and again")

    def _record(self, step: int) -> bytes:
        record = {
            "id": self.id,
            "job": self._job,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": self._since,
            "time": time.time(),
            "step": step,
        }
        return json.dumps(record).encode()


def owner(storage: S3) -> dict[str, Any] | None:
    """The record of who is, or was last, at work on the job; `time` is when it said so."""
    found = storage.read(OWNER)
    return record_in(found[0]) if found else None


def who(record: dict[str, Any] | None) -> str:
    """In words."""
    if not record:
        return f"nobody ({OWNER} was deleted)"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(record.get("since", 0))))
    return f"process {record.get('pid')} on {record.get('host')}, started {since}"


def known_job(folder: Path) -> str | None:
    """Of which job on S3 the files of a local folder are; None if it never met S3."""
    try:
        return (folder / KNOWN).read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None


def be_of_job(folder: Path, job: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / KNOWN).write_text(job + "\n", encoding="utf-8")
