"""Keeps what was made from files, so that they are parsed once ever: $HEADWAY_CACHE, else ~/.cache/headway/data.

An entry is a folder with a `contents.json` that was written last and lists every file's size. It is made beside and
renamed; of two writers the last one loses quietly. An entry that isn't whole, or is cleared meanwhile, is made again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from trainer.errors import HeadwayError

T = TypeVar("T")
_CONTENTS = "contents.json"
_LOCK = ".lock"  # in what is being made: its maker holds it
_BROKEN = (OSError, ValueError, KeyError, TypeError)  # what reading a damaged entry raises; Arrow's are ValueErrors


def folder() -> Path:
    given = os.environ.get("HEADWAY_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "headway" / "data"


def key(*parts: Any) -> str:
    """A name for what is made from these: anything JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def kept(name: str, make: Callable[[Path], None], read: Callable[[Path], T]) -> T:
    """What `read` gives for the entry `name`, which `make` fills where it isn't there or is damaged."""
    entry = folder() / name
    for last in (False, False, True):  # another job may be at the same entry, and a person may clear it all
        try:
            if not _whole(entry):
                _make(entry, make)
            try:
                return read(entry)
            except _BROKEN:
                if last:
                    raise
                _drop(entry)
        except _Cleared as error:
            if last:
                raise HeadwayError(f"{entry.parent}: somebody clears this folder while it is filled") from error
    raise AssertionError


class _Cleared(Exception):
    """What was being made is gone."""


def _make(entry: Path, make: Callable[[Path], None]) -> None:
    temporary = None
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        _sweep(entry)
        temporary = entry.parent / f"{entry.name}.{uuid.uuid4().hex[:8]}"
        temporary.mkdir()  # not by tempfile, whose folders are always one's own: the umask says whose it is
        with open(temporary / _LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            make(temporary)
            (temporary / _LOCK).unlink()
            sizes = {p.name: p.stat().st_size for p in temporary.iterdir()}
            (temporary / _CONTENTS).write_text(json.dumps(sizes))
            _settle(temporary, entry)
    except OSError as error:
        if temporary and not temporary.exists() and not _whole(entry):
            raise _Cleared(str(error)) from error
        if temporary and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise HeadwayError(
            f"{entry.parent}: can't keep the encoded data here: {error.strerror or error}; "
            f"make room, or set HEADWAY_CACHE to another folder"
        ) from None
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)


def _sweep(entry: Path) -> None:
    """Deletes what makers of the entry left who were killed: a living one holds a lock."""
    for left in entry.parent.glob(f"{entry.name}.*"):
        with contextlib.suppress(OSError), open(left / _LOCK) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)


def _settle(temporary: Path, entry: Path) -> None:
    try:
        temporary.rename(entry)
    except OSError:
        if _whole(entry):  # someone else was first
            return
        _drop(entry)
        temporary.rename(entry)


def _drop(entry: Path) -> None:
    """Deletes an entry that is damaged, at once: never file by file under the eyes of who reads it."""
    with contextlib.suppress(OSError):
        gone = entry.with_name(f"{entry.name}.{uuid.uuid4().hex[:8]}")
        entry.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _whole(entry: Path) -> bool:
    try:
        sizes = json.loads((entry / _CONTENTS).read_text())
        return all((entry / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def note(entry: Path, name: str, value: Any) -> None:
    """Adds a small JSON file to an entry."""
    temporary = entry / f"{name}.{uuid.uuid4().hex[:8]}"
    with contextlib.suppress(FileNotFoundError):  # somebody clears the cache
        temporary.write_text(json.dumps(value))
        os.replace(temporary, entry / name)


def noted(entry: Path, name: str) -> Any | None:
    """What `note` added; None if it isn't there."""
    try:
        return json.loads((entry / name).read_text())
    except (OSError, ValueError):
        return None
