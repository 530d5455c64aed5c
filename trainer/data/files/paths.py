"""Where data lies: the one place that turns what a user wrote into files and opens them.

Local files, folders and globs. `s3://` will come here; nothing else in the data layer opens a path.
"""

from __future__ import annotations

import codecs
import glob
import io
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import unquote

from trainer.errors import UserError, did_you_mean

_HEAD = 1 << 16  # bytes looked at by a check
_MAGIC = {
    b"PAR1": "parquet",
    b"\x93NUMPY": "npy",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"ARROW1": "arrow",
    b"PK\x03\x04": "zip",
}
PACKED = ("gzip", "bzip2", "zstd")
_FORMATS = (
    "csv",
    "tsv",
    "parquet",
    "jsonl",
    "ndjson",
    "json",
    "npy",
    "npz",
    "libsvm",
    "svm",
    "arrow",
    "feather",
    "xlsx",
)


def resolve(pattern: str | Sequence[str]) -> list[str]:
    """The files that a path, a folder, a glob or a list of these names: absolute, each sorted by name, and each file once,
    however many patterns and links lead to it.

    Raises UserError if one of them names nothing; the error tells the nearest names in that folder.
    """
    named = [file for one in ([pattern] if isinstance(pattern, str) else pattern) for file in _named(one)]
    return list({os.path.realpath(file): file for file in reversed(named)}.values())[::-1]


def _named(pattern: str) -> list[str]:
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
    """The files of a folder and of those in it, without hidden ones and those that start with an underscore."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: no permission to read this folder") from None

    files, seen = [], set()
    for folder, below, names in os.walk(path, onerror=refuse, followlinks=True):
        seen.add(os.path.realpath(folder))
        inside = [name for name in below if name[0] not in "._"]
        below[:] = [name for name in inside if os.path.realpath(os.path.join(folder, name)) not in seen]
        files += [os.path.abspath(os.path.join(folder, name)) for name in names if name[0] not in "._"]
    if not files:
        raise UserError(f"{pattern}: the folder holds no files")
    return sorted(files)


def partition(pattern: str, path: str) -> dict[str, str]:
    """What the names of the folders below the one that `pattern` names say of a file: `year=2024/day=3` is two columns."""
    base = Path(pattern).expanduser()
    if glob.has_magic(pattern):
        parts = base.parts
        base = Path(*parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])
    folder = os.path.abspath(base)
    if not path.startswith(folder.rstrip(os.sep) + os.sep):
        return {}
    folders = os.path.relpath(path, folder).split(os.sep)[:-1]
    return {key: unquote(value) for key, mark, value in (part.partition("=") for part in folders) if mark and key}


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
    """Opens a file of `resolve` to be read; one that gzip, bzip2 or Zstandard has packed is unpacked as it is read."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - the caller closes it
        packed = _kind_of(file.peek(8))
    except PermissionError:
        raise UserError(f"{path}: no permission to read it") from None
    except FileNotFoundError:
        raise UserError(f"{path}: the file is gone") from None
    return file if packed not in PACKED else cast(BinaryIO, io.BufferedReader(_Unpacked(path, file, packed), 1 << 16))


class _Unpacked(io.RawIOBase):
    """A packed file's content. Raises UserError where the file is damaged."""

    def __init__(self, path: str, file: BinaryIO, packed: str) -> None:
        import bz2
        import gzip

        self._path, self._file = path, file
        self._stream: Any
        if packed == "zstd":
            import pyarrow as pa

            self._stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")
        else:
            self._stream = gzip.GzipFile(fileobj=file) if packed == "gzip" else bz2.BZ2File(file)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise UserError(f"{self._path}: is packed and damaged: {error}; fetch it again") from None
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _kind_of(head: bytes) -> str | None:
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


Fingerprint = tuple[str, int, int, int, int]


def fingerprint(path: str) -> Fingerprint:
    """Changes when the file does: path, size, times of its last change in nanoseconds, and which file it is.

    The time of modification alone can be set, as copying with it kept does; that of the inode's change can't.
    """
    stat = os.stat(path)
    return path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def check_unchanged(before: Sequence[Fingerprint]) -> None:
    """Raises UserError for a file that has been written since: what was read of it may be of two states."""
    for known in before:
        path, size, written, _, inode = known
        _, *now = fingerprint(path)
        if [size, written, inode] != [now[0], now[1], now[3]]:
            raise UserError(f"{path}: the file changed while it was read; start again once it is written")


def check_file(path: str, kind: str | None, *, text: bool) -> None:
    """Raises UserError if the file is empty, unreadable, another format than `kind` or, where `text`, not UTF-8."""
    with open_file(path) as file:
        head = file.read(_HEAD)
    if not head:
        raise UserError(f"{path}: the file is empty")
    found = _kind_of(head)
    if found != kind:
        wanted = f"is not a {kind} file" if kind else "is not a text file"
        advice = f"; choose data={found}" if found in ("parquet", "npy") else ""
        raise UserError(f"{path}: {wanted}{f' but {found}' if found else ''}{advice}")
    if text:
        _decode(head, path, final=len(head) < _HEAD)


def check_same_format(files: Sequence[str]) -> None:
    """Raises UserError if the files' names tell of different formats; parts (`train.00`) and dates in them tell nothing."""
    known = [(path, format) for path in map(Path, files) if (format := _format(path))]
    for path, format in known:
        first, of_first = known[0]
        if format != of_first:
            raise UserError(
                f"{path}: has another format than {first.name}; "
                f"choose files of one format, for example {first.parent}/*.{of_first}"
            )


def _format(path: Path) -> str | None:
    endings = [ending[1:].lower() for ending in path.suffixes]
    return next((ending for ending in reversed(endings) if ending in _FORMATS), None)


def _decode(head: bytes, path: str, *, final: bool) -> None:
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or _every_second(head):
        raise UserError(f"{path}: is UTF-16; convert it, for example: iconv -f utf-16 -t utf-8 {Path(path).name}")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final)
    except UnicodeDecodeError as error:
        raise not_utf8(path, error.start, head[error.start]) from None
    if 0 in head:
        raise UserError(
            f"{path}, byte {head.index(0)}: is zero, which text does not hold; is it another format, or damaged?"
        )


def _every_second(head: bytes) -> bool:
    """Whether most characters are a letter and a zero, as UTF-16 without a mark has them."""
    return len(head) > 3 and 0.4 * len(head) < head.count(0) and 0 in (head[0], head[1])


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
