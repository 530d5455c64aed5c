"""What a script keeps by itself, carried to S3 as it is, and brought back: files by name, deletions included.

opt/ml/checkpoints/…      the files
opt/ml/checkpoints.json   of those that are there whole: size and time of change, by name; written after them
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trainer.job import Job
from trainer.storage import S3, Missing, in_parallel

PREFIX, INDEX = "opt/ml/checkpoints/", "opt/ml/checkpoints.json"
Stamps = dict[str, list[int]]


def stamps(folder: Path) -> Stamps:
    """Size and time of change (ns) of each file, by its name in the folder."""
    found: Stamps = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            stat = path.stat()
            if path.is_file():
                found[path.relative_to(folder).as_posix()] = [stat.st_size, stat.st_mtime_ns]
    return found


class OwnState:
    """Carries it up. claim: called before anything is written there."""

    def __init__(self, storage: S3, job: Job, claim: Callable[[], None]) -> None:
        self._storage, self._folder, self._claim = storage, job.own_state, claim
        self._sent: Stamps | None = None
        self._seen: Stamps = {}

    def send(self, pool: ThreadPoolExecutor, *, everything: bool) -> None:
        """Carries what has rested since the last call, or everything, and deletes what is gone."""
        if not self._folder.is_dir():
            return
        if self._sent is None:
            self._sent = _index(self._storage) or {}
        sent, now = self._sent, stamps(self._folder)
        rested = {name: stamp for name, stamp in now.items() if everything or self._seen.get(name) == stamp}
        self._seen = now
        changed = [name for name, stamp in rested.items() if sent.get(name) != stamp]
        gone = [name for name in sent if name not in now]
        if not changed and not gone:
            return
        self._claim()

        def upload(name: str) -> bool:
            try:
                self._storage.upload(self._folder / name, PREFIX + name)
            except FileNotFoundError:  # deleted or renamed meanwhile
                return False
            return True

        done = [name for name, ok in zip(changed, in_parallel(pool, upload, changed), strict=True) if ok]
        kept = {name: stamp for name, stamp in sent.items() if name not in gone}
        kept |= {name: rested[name] for name in done}
        self._storage.write(INDEX, json.dumps(kept).encode())
        self._storage.delete(PREFIX + name for name in gone)
        self._sent = kept


def bring(storage: S3, job: Job, pool: ThreadPoolExecutor) -> None:
    """Brings it down, unless what is here is newer than all that is there."""
    there, folder = _index(storage), job.own_state
    here = stamps(folder)
    if there is None or _newest(here) > _newest(there):
        return
    for name in set(here) - set(there):
        (folder / name).unlink()

    def download(name: str) -> None:
        with contextlib.suppress(Missing):
            storage.download(PREFIX + name, folder / name)
            os.utime(folder / name, ns=(there[name][1], there[name][1]))

    wanted = [name for name, stamp in there.items() if here.get(name) != stamp and ".." not in Path(name).parts]
    in_parallel(pool, download, wanted)


def _newest(found: Stamps) -> int:
    return max((time for _, time in found.values()), default=0)


def _index(storage: S3) -> Stamps | None:
    found = storage.read(INDEX)
    return json.loads(found[0]) if found else None
