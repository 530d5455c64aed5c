"""Folders for what lives no longer than a process: in TMPDIR, and gone with their owner however that ends.

An owner that is killed can't remove its folder; each who makes one, or has seen an owner die, removes those of the dead. A lock on
a file in the folder, which the kernel lets go of, tells them. Standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX, LOCK = "headway-", ".lock"
YOUNG_SECONDS = 1.0  # a file that was just made may not be locked yet


@contextmanager
def folder(kind: str = "", parent: Path | None = None, keep: tuple[str, Path] | None = None) -> Iterator[Path]:
    """A new folder, for as long as the context lasts, or this process. Its name is short: sockets have names of at most 107
    characters.

    keep: a file in it, and the folder where that goes, under the name that `kept` gives, if the owner is killed.
    """
    place = Path(tempfile.gettempdir()) if parent is None else parent
    clear(place)
    made = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}", dir=place))
    with owned(made, keep):
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)


@contextmanager
def owned(made: Path, keep: tuple[str, Path] | None = None) -> Iterator[None]:
    """Holds the lock of a folder that another process may have made."""
    with open(made / LOCK, "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if keep is not None:
            lock.write(f"{keep[0]}\n{keep[1].absolute()}")
            lock.flush()
        yield


def kept(left: Path, file: str, target: Path) -> Path:
    """Where a file of a dead owner's folder is: still there, or in the folder `target`, to which it was saved."""
    return left / file if (left / file).is_file() else target / f".{left.name}.{file}"


def clear(place: Path | None = None) -> None:
    """Removes this user's folders whose owners are gone."""
    for found in (Path(tempfile.gettempdir()) if place is None else place).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # it has just been removed
            if _is_left(found):
                _save(found)
                shutil.rmtree(found, ignore_errors=True)


def _save(left: Path) -> None:
    file, _, target = (left / LOCK).read_text(encoding="utf-8").partition("\n")
    with contextlib.suppress(OSError):  # nothing was written yet, or the target is gone
        if file:
            shutil.copyfile(left / file, Path(target) / f".{left.name}.{file}")


def _is_left(found: Path) -> bool:
    known = found.lstat()
    if known.st_uid != os.getuid() or not found.is_dir() or found.is_symlink():
        return False
    try:
        lock = os.open(found / LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:  # of its making, its removal, or of another kind of folder
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return time.time() - os.fstat(lock).st_mtime > YOUNG_SECONDS
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
