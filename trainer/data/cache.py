"""Keeps what was made from files, so that they are parsed once ever: $HEADWAY_CACHE, else ~/.cache/headway/data.

An entry is a folder with a `contents.json` that was written last and lists every file's size. It is made beside and
renamed; of two writers the last one loses quietly. An entry that isn't whole is made again.
"""

from __future__ import annotations

import contextlib
import errno
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
    if _whole(entry):
        try:
            return read(entry)
        except _BROKEN:
            shutil.rmtree(entry, ignore_errors=True)
    _make(entry, make)
    return read(entry)


def _make(entry: Path, make: Callable[[Path], None]) -> None:
    temporary = None
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        temporary = entry.parent / f"{entry.name}.{uuid.uuid4().hex[:8]}"
        temporary.mkdir()  # not by tempfile, whose folders are always one's own: the umask says whose it is
        make(temporary)
        sizes = {p.name: p.stat().st_size for p in temporary.iterdir()}
        (temporary / _CONTENTS).write_text(json.dumps(sizes))
        _settle(temporary, entry)
    except OSError as error:
        if temporary and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise HeadwayError(
            f"{entry.parent}: can't keep the encoded data here: {error.strerror or error}; "
            f"make room, or set HEADWAY_CACHE to another folder"
        ) from None
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)


def _settle(temporary: Path, entry: Path) -> None:
    if not _whole(entry):
        shutil.rmtree(entry, ignore_errors=True)
    try:
        temporary.rename(entry)
    except OSError:
        if not _whole(entry):  # else someone else was first
            raise


def _whole(entry: Path) -> bool:
    try:
        sizes = json.loads((entry / _CONTENTS).read_text())
        return all((entry / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def note(entry: Path, name: str, value: Any) -> None:
    """Adds a small JSON file to an entry."""
    temporary = entry / f"{name}.{uuid.uuid4().hex[:8]}"
    temporary.write_text(json.dumps(value))
    with contextlib.suppress(FileNotFoundError):
        os.replace(temporary, entry / name)


def noted(entry: Path, name: str) -> Any | None:
    """What `note` added; None if it isn't there."""
    try:
        return json.loads((entry / name).read_text())
    except (OSError, ValueError):
        return None
