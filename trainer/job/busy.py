"""What a job's workers are busy with besides training, where that takes long: logs/busy.json, while it lasts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from trainer.job import records
from trainer.job.directory import Job, read_hint, write_json
from trainer.process import clock

LOOK_SECONDS = 0.5
PATIENCE = 2.0  # seconds that nobody asks about


def path_of(job: Job) -> Path:
    return job.logs / "busy.json"


def words_of(job: Job, since: Mapping[str, Any] | None = None) -> str:
    """What they are busy with now; empty if with nothing that takes long. since: the event with which they began; what was told
    before it is what a killed worker has left."""
    found = read_hint(path_of(job))
    if since is not None and (records.wrong(found, {"time": records.moment}, {}) or not clock.earlier(since, found)):
        return ""
    return str(found.get("words") or "")


@contextlib.contextmanager
def busy(job: Job, ask: Callable[[], str]) -> Iterator[None]:
    """Says what `ask` gives, as soon as it has given the same for a while, until this ends. Empty: nothing to say."""
    ended = threading.Event()
    thread = threading.Thread(target=_tell, args=(job, ask, ended), daemon=True, name="busy")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(OSError):
            path_of(job).unlink(missing_ok=True)


def _tell(job: Job, ask: Callable[[], str], ended: threading.Event) -> None:
    words, since, said = "", 0.0, ""
    while not ended.wait(LOOK_SECONDS):
        with contextlib.suppress(OSError):  # of a folder that just goes, or a full disk: nothing depends on it
            now = ask()
            since = since + LOOK_SECONDS if now == words else 0.0
            words = now
            if words != said and (since >= PATIENCE or not words):
                write_json(path_of(job), {**clock.now(), "words": words})
                said = words
