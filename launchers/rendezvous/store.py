"""Where the agents of a job's nodes leave word for one another: files in a folder that all see, or objects on S3."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from trainer.job.directory import Job, read_hint, write_json
from trainer.job.records import Kind, anything, list_of, mapping, record, text, whole, wrong
from trainer.storage.objects import S3, record_in

NODES = "nodes"
_MEMBER = {"node": whole, "id": text, "host": text, "pid": whole}
# by what a record's name begins with: what it holds
_HELD: dict[str, dict[str, Kind]] = {
    "node": {**_MEMBER, "waiting": anything, "beat": whole},
    "round": {"number": whole, "members": list_of(record(_MEMBER)), "address": text, "port": whole},
    "ask": {"id": whole, "round": whole, "from": text, "regroup": anything, "notice": mapping},
    "end": {"round": whole, "state": text},
}


def _sound(name: str, found: dict[str, Any]) -> dict[str, Any] | None:
    """A record, or None for one that was lost with some machine's power: whoever wrote it is gone too."""
    return found if found and wrong(found, _HELD.get(name.partition("-")[0], {}), {}) is None else None


def board_of(job: Job) -> Board:
    """Where the nodes of a job meet."""
    return Objects(S3(job.url)) if job.url else Files(job.dir)


class Board(Protocol):
    """Records by name; each is replaced as a whole.

    look: seconds between looks. beat: between two signs of life. lost: without one, after which a node counts as gone.
    """

    look: float
    beat: float
    lost: float

    def read(self, name: str) -> dict[str, Any] | None:
        """Raises OSError or HeadwayError if it can't be known."""
        ...

    def read_all(self, prefix: str) -> list[dict[str, Any]]: ...

    def write(self, name: str, record: Mapping[str, Any]) -> None: ...

    def remove(self, name: str) -> None: ...


class Files:
    """In the job's directory."""

    look, beat, lost = 0.1, 0.5, 5.0

    def __init__(self, directory: Path) -> None:
        self._folder = directory / NODES
        self._folder.mkdir(parents=True, exist_ok=True)

    def read(self, name: str) -> dict[str, Any] | None:
        return _sound(name, read_hint(self._folder / f"{name}.json"))

    def read_all(self, prefix: str) -> list[dict[str, Any]]:
        found = [_sound(prefix, read_hint(path)) for path in self._folder.glob(f"{prefix}*.json")]
        return [record for record in found if record]

    def write(self, name: str, record: Mapping[str, Any]) -> None:
        write_json(self._folder / f"{name}.json", record)

    def remove(self, name: str) -> None:
        (self._folder / f"{name}.json").unlink(missing_ok=True)


class Objects:
    """On S3, where requests are paid for: one lists what there is, and only what has changed is read."""

    look, beat, lost = 1.0, 3.0, 20.0

    def __init__(self, storage: S3) -> None:
        self._storage = storage
        self._known: dict[str, tuple[str, dict[str, Any] | None]] = {}  # by name: ETag and content
        self._lock = threading.Lock()

    def read(self, name: str) -> dict[str, Any] | None:
        found = self._storage.read(f"{NODES}/{name}.json")
        return _sound(name, record_in(found[0]) or {}) if found else None

    def read_all(self, prefix: str) -> list[dict[str, Any]]:
        stamps = self._storage.stamps(f"{NODES}/{prefix}")
        with self._lock:
            known = self._known
        fresh = {name: known[name] for name, (etag, _) in stamps.items() if known.get(name, ("",))[0] == etag}
        for name in stamps.keys() - fresh.keys():
            if found := self._storage.read(name):
                fresh[name] = (found[1], _sound(prefix, record_in(found[0]) or {}))
        with self._lock:
            self._known = fresh
        return [record for _, record in fresh.values() if record]

    def write(self, name: str, record: Mapping[str, Any]) -> None:
        self._storage.write(f"{NODES}/{name}.json", json.dumps(record).encode())

    def remove(self, name: str) -> None:
        self._storage.delete([f"{NODES}/{name}.json"])
