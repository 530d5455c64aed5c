"""Where data lies: the one place that turns what a user wrote into files and opens them.

Local files, folders and globs. `s3://` will come here; nothing else in the data layer opens a path.
"""

from __future__ import annotations

import codecs
import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from trainer.errors import UserError, did_you_mean

_HEAD = 1 << 16  # bytes looked at by a check
_MAGIC = {b"PAR1": "parquet", b"\x93NUMPY": "npy", b"\x1f\x8b": "gzip", b"ARROW1": "arrow", b"PK\x03\x04": "zip"}


def resolve(pattern: str | Sequence[str]) -> list[str]:
    """The files that a path, a folder, a glob or a list of these names: absolute, each sorted by name.

    Raises UserError if one of them names nothing; the error tells the nearest names in that folder.
    """
    if not isinstance(pattern, str):
        return [file for one in pattern for file in resolve(one)]
    if "://" in pattern:
        scheme = pattern.split("://", 1)[0]
        raise UserError(f"{pattern}: {scheme}:// paths aren't supported yet; copy the data to a local path")
    path = Path(pattern).expanduser()
    if path.is_dir():
        return _folder(path, pattern)
    if path.exists():
        return [os.path.abspath(path)]
    if glob.has_magic(pattern):
        found = sorted(p for p in glob.glob(str(path), recursive=True) if os.path.isfile(p))
        if found:
            return [os.path.abspath(p) for p in found]
        raise UserError(f"{pattern}: no file matches; {_neighbours(path)}")
    raise UserError(f"{pattern}: there is no such file; {_neighbours(path)}")


def _folder(path: Path, pattern: str) -> list[str]:
    """The files of a folder, without hidden ones and those that start with an underscore."""
    try:
        files = sorted(p for p in path.iterdir() if p.is_file() and p.name[0] not in "._")
    except PermissionError:
        raise UserError(f"{pattern}: no permission to read this folder") from None
    if not files:
        raise UserError(f"{pattern}: the folder holds no files")
    return [os.path.abspath(p) for p in files]


def _neighbours(path: Path) -> str:
    """What a mistyped path may have meant."""
    folder = path.parent
    while not folder.is_dir():
        path, folder = folder, folder.parent
    try:
        names = [p.name for p in folder.iterdir()]
    except PermissionError:
        return f"no permission to list {os.path.abspath(folder)}"
    where = f"in {os.path.abspath(folder)} "
    if len(names) > 12:
        import difflib

        names = difflib.get_close_matches(path.name, names, n=3, cutoff=0.3) or sorted(names)[:12]
    return where + did_you_mean(path.name, names)


def open_file(path: str) -> BinaryIO:
    """Opens a file of `resolve` to be read."""
    try:
        return open(path, "rb")
    except PermissionError:
        raise UserError(f"{path}: no permission to read it") from None
    except FileNotFoundError:
        raise UserError(f"{path}: the file is gone") from None


def fingerprint(path: str) -> tuple[str, int, int]:
    """Changes when the file does: path, size, time of the last change in nanoseconds."""
    stat = os.stat(path)
    return path, stat.st_size, stat.st_mtime_ns


def check_file(path: str, kind: str | None, *, text: bool) -> None:
    """Raises UserError if the file is empty, unreadable, another format than `kind` or, where `text`, not UTF-8."""
    with open_file(path) as file:
        head = file.read(_HEAD)
    if not head:
        raise UserError(f"{path}: the file is empty")
    found = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    if found != kind:
        wanted = f"is not a {kind} file" if kind else "is not a text file"
        advice = f"; choose data={found}" if found in ("parquet", "npy") else ""
        raise UserError(f"{path}: {wanted}{f' but {found}' if found else ''}{advice}")
    if text:
        _decode(head, path, final=len(head) < _HEAD)


def check_same_format(files: Sequence[str]) -> None:
    """Raises UserError if the files' endings differ."""
    first = Path(files[0])
    for other in map(Path, files[1:]):
        if other.suffix.lower() != first.suffix.lower():
            raise UserError(
                f"{other}: has another format than {first.name}; "
                f"choose files of one format, for example {first.parent}/*{first.suffix}"
            )


def _decode(head: bytes, path: str, *, final: bool) -> None:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final)
    except UnicodeDecodeError as error:
        raise not_utf8(path, error.start, head[error.start]) from None


def not_utf8(path: str, offset: int, byte: int) -> UserError:
    return UserError(
        f"{path}, byte {offset}: 0x{byte:02x} is not UTF-8; "
        f"convert it, for example: iconv -f latin1 -t utf-8 {Path(path).name}"
    )


def find_not_utf8(path: str) -> UserError | None:
    """The error for the first byte of a file that isn't UTF-8, or None."""
    offset = 0
    rest = b""
    with open_file(path) as file:
        while block := file.read(1 << 20):
            data = rest + block
            try:
                used = codecs.utf_8_decode(data, "strict", False)[1]
            except UnicodeDecodeError as error:
                return not_utf8(path, offset + error.start, data[error.start])
            offset += used
            rest = data[used:]
    return not_utf8(path, offset, rest[0]) if rest else None
