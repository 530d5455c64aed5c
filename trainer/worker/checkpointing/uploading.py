"""A folder whose files are put on S3 as they are left alone, beside whoever writes them, and were perhaps brought from there first.

A file goes up once it has been as it is for one look, again when it changes; at the end all goes up as it is then. What can't
be reached is tried again at the next look.
"""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trainer.errors import HeadwayError
from trainer.job.remote.own_state import Stamps, stamps
from trainer.storage.objects import S3, in_parallel

LOOK_SECONDS = 1.0
PARALLEL = 4  # files at once


class Uploading:
    """Begins at once, unless it is to fetch first. exact: what is deleted in the folder is deleted there too."""

    def __init__(self, folder: Path, url: str, *, fetch: bool, exact: bool) -> None:
        self._storage, self._folder, self._exact = S3(url), folder, exact
        self._sent: Stamps = {}
        self._seen: Stamps = {}
        self.problem = ""  # of the last look
        self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="uploading")
        if fetch:
            self._fetch()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="uploading")
        self._thread.start()

    def finish(self, seconds: float | None = None) -> str:
        """Puts there what is left, for so many seconds at most. Returns what was in the way, in a line; "" if nothing was."""
        self._ended.set()
        self._thread.join(seconds)
        return self.problem if not self._thread.is_alive() else f"{self._storage.url}: not everything could be sent"

    def _fetch(self) -> None:
        """Brings what is there, in place of what is here by the same names and isn't newer. Raises HeadwayError."""
        there, here = self._storage.stamps(), stamps(self._folder)
        older = [name for name, (_, written) in there.items() if name not in here or here[name][1] <= written * 1e9]
        in_parallel(self._pool, lambda name: self._bring(name, there[name][1]), older)
        now = stamps(self._folder)
        self._sent = {name: now[name] for name in older}

    def _bring(self, name: str, written: float) -> None:
        path = self._storage.bring(name, self._folder)
        os.utime(path, (written, written))

    def _run(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self._look(everything=False)
        self._look(everything=True)

    def _look(self, *, everything: bool) -> None:
        now = stamps(self._folder) if self._folder.is_dir() else {}
        changed = [
            name
            for name, stamp in now.items()
            if stamp != self._sent.get(name) and (everything or stamp == self._seen.get(name))
        ]
        gone = [name for name in self._sent if name not in now] if self._exact else []
        self._seen, self.problem = now, ""
        try:
            in_parallel(self._pool, lambda name: self._send(name, now[name]), changed)
            if gone:
                self._storage.delete(gone)
                self._sent = {name: stamp for name, stamp in self._sent.items() if name in now}
        except (HeadwayError, OSError) as error:
            self.problem = str(error)

    def _send(self, name: str, stamp: list[int]) -> None:
        with contextlib.suppress(FileNotFoundError):  # deleted or renamed meanwhile
            self._storage.upload(self._folder / name, name)
            self._sent[name] = stamp
