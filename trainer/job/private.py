"""`job.private`: what belongs to a job is its user's alone, whatever the umask says. Otherwise the umask decides."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

OTHERS = 0o077


def is_private(config: Mapping[str, Any]) -> bool:
    return bool((config.get("job") or {}).get("private"))


@contextmanager
def kept(config: Mapping[str, Any]) -> Iterator[None]:
    """Meanwhile what this process, and any that it starts, writes is its user's alone, if the config says so."""
    before = heed(config)
    try:
        yield
    finally:
        if before is not None:
            os.umask(before)


def heed(config: Mapping[str, Any]) -> int | None:
    """The same from now on. Returns the umask of before, None if nothing has changed."""
    if not is_private(config):
        return None
    before = os.umask(OTHERS)
    os.umask(before | OTHERS)
    return before


def close(folder: Path) -> None:
    """Takes from others what they may do with a folder's files. Raises OSError."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~OTHERS & 0o7777)


def as_umask_says(path: Path) -> None:
    """Takes from a file, made elsewhere with permissions of its own, what this process gives to nobody."""
    path.chmod(path.stat().st_mode & ~_umask() & 0o7777)


def as_made_here(path: Path) -> None:
    """Gives a file that a library has made for its user alone the permissions of any other."""
    path.chmod(0o666 & ~_umask())


def _umask() -> int:
    """Without changing it for a moment, which would change it for other threads."""
    line = next(text for text in Path("/proc/self/status").read_text().splitlines() if text.startswith("Umask:"))
    return int(line.split()[1], 8)
