"""What a mirror says of S3: once when it can't be written and once when it can again, aloud and in the job's folder."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from trainer.job.carried import Carried

SILENCE = 30.0  # seconds without an answer that are told
NAMED = 4


class Standing:
    """answered: when S3 last gave an answer, monotonic."""

    def __init__(self, url: str, folder: Path, say: Callable[[str], None], answered: Callable[[], float]) -> None:
        self._url, self._folder, self._say, self._answered = url, folder, say, answered
        self._trouble: str | None = None
        self._since: float | None = None
        self._asking: float | None = None  # since when something is asked of S3, monotonic
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def begin(self) -> None:
        self._write(None)
        threading.Thread(target=self._watch, daemon=True, name="mirror-watch").start()

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """While it lasts, silence is trouble."""
        self._asking = time.monotonic()
        try:
            yield
        finally:
            self._asking = None

    def is_bad(self, text: str) -> None:
        with self._lock:
            if self._trouble is None:
                self._say(f"{text}; what is new stays local, and is tried again")
                self._since = time.time()
            if text != self._trouble:
                self._trouble = text
                self._write(None)

    def is_well(self) -> None:
        with self._lock:
            if self._trouble is not None:
                self._say(f"{self._url} is up to date again")
                self._trouble = self._since = None
                self._write(None)

    def end(self, lacking: Sequence[str]) -> None:
        """lacking: what S3 has not."""
        self._ended.set()
        more = [f"{len(lacking) - NAMED} more"] if len(lacking) > NAMED else []
        with self._lock:
            self._write((*lacking[:NAMED], *more))

    def _write(self, lacking: tuple[str, ...] | None) -> None:
        with contextlib.suppress(OSError):  # a full disk has its own way to be told
            Carried(self._url, self._trouble, self._since, lacking).write(self._folder)

    def _watch(self) -> None:
        while not self._ended.wait(1.0):
            asking = self._asking
            if asking is not None and time.monotonic() - max(asking, self._answered()) > SILENCE:
                self.is_bad(f"{self._url}: no answer for {SILENCE:.0f} s")
