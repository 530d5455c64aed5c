"""What a script keeps by itself, carried to S3 as it is, and brought back: files by name, deletions included.

opt/ml/checkpoints/…      the files
opt/ml/checkpoints.json   of those that are there whole: size and time of change, by name; written after them
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trainer.job.directory import Job
from trainer.storage.objects import S3, Missing, in_parallel

PREFIX, INDEX = "opt/ml/checkpoints/", "opt/ml/checkpoints.json"
PATIENCE = 5.0  # seconds after which a file is carried that is never left alone
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
        self._seen: dict[str, tuple[list[int], int, float]] = {}  # stamp, inode, and since when it has been changing

    def send(self, pool: ThreadPoolExecutor, *, everything: bool) -> None:
        """Carries what is not being written just now, or everything, and deletes what is gone."""
        if not self._folder.is_dir():
            return
        if self._sent is None:
            self._sent = _index(self._storage) or {}
        sent, now = self._sent, stamps(self._folder)
        rested = {name: stamp for name, stamp in now.items() if self._is_whole(name, stamp) or everything}
        self._seen = {name: seen for name, seen in self._seen.items() if name in now}
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

    def _is_whole(self, name: str, stamp: list[int]) -> bool:
        """Whether a file is as it was at the last call, or has been put in place by a rename; or has kept changing for long."""
        clock = time.monotonic()
        before, inode, since = self._seen.get(name, (None, None, clock))
        try:
            now = (self._folder / name).stat().st_ino
        except FileNotFoundError:
            return False
        whole = stamp == before or (inode is not None and now != inode) or clock - since > PATIENCE
        self._seen[name] = (stamp, now, clock if whole else since)
        return whole


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
            path = storage.bring(PREFIX + name, folder, name)
            os.utime(path, ns=(there[name][1], there[name][1]))

    wanted = [name for name, stamp in there.items() if here.get(name) != stamp]
    in_parallel(pool, download, wanted)


def _newest(found: Stamps) -> int:
    return max((time for _, time in found.values()), default=0)


def _index(storage: S3) -> Stamps | None:
    found = storage.read(INDEX)
    return json.loads(found[0]) if found else None
