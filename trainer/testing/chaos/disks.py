"""What happens to disks: a small one of our own that can be filled, folders that can't be written, damaged checkpoints."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.job import checkpoint

MS_RDONLY, MS_REMOUNT, MS_BIND, MNT_DETACH = 1, 32, 4096, 2


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: Path, kind: str, flags: int = 0, options: str = "") -> None:
    """mount(2). Raises OSError."""
    if _libc().mount(source.encode(), str(target).encode(), kind.encode(), flags, options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, f"mounting {target}: {os.strerror(number)}")


def unmount(target: Path) -> None:
    """umount2(2), also while somebody is at work there."""
    _libc().umount2(str(target).encode(), MNT_DETACH)


def small_disk(place: Path, size: int) -> None:
    """Mounts a disk of `size` bytes. Raises OSError where that isn't allowed."""
    place.mkdir(parents=True, exist_ok=True)
    mount("tmpfs", place, "tmpfs", 0, f"size={size}")


def take_away(place: Path) -> None:
    """Unmounts it, and deletes where it was."""
    unmount(place)
    with contextlib.suppress(OSError):
        place.rmdir()


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Leaves no room on the disk for a while."""
    ballast = disk / ".ballast"
    with open(ballast, "wb") as file:
        with contextlib.suppress(OSError):  # what is left changes under our hands: until there is nothing
            while True:
                left = os.statvfs(disk)
                size = os.fstat(file.fileno()).st_size
                os.posix_fallocate(file.fileno(), size, max(left.f_bavail * left.f_frsize, left.f_frsize))
        try:
            yield
        finally:
            ballast.unlink(missing_ok=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Makes a folder one that can't be written for a while, as a disk becomes on which an error was found."""
    mount(str(folder), folder, "none", MS_BIND)
    try:
        mount("none", folder, "none", MS_BIND | MS_REMOUNT | MS_RDONLY)
        yield
    finally:
        unmount(folder)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def damage(folder: Path, how: str, draw: float) -> str:
    """Damages a checkpoint. draw: a number from 0 to 1 that chooses where. Returns what was done, in words."""
    manifest = folder / checkpoint.MANIFEST
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != manifest and p.stat().st_size)
    path = files[int(draw * len(files))] if files else manifest
    if how.endswith("manifest") or not files:
        path = manifest
    size = path.stat().st_size
    if how in ("flip", "flip-manifest"):
        with open(path, "r+b") as file:
            at = int(draw * 7919 % 1 * size)
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ (1 << int(draw * 104729) % 8)]))
        return f"a bit of {path.name} flipped"
    if how in ("truncate", "torn-manifest"):
        os.truncate(path, size // 2)
        return f"{path.name} cut in half"
    if how == "empty":
        os.truncate(path, 0)
        return f"{path.name} emptied"
    path.unlink()
    return f"{path.name} deleted"


def drop_what_is_large(job: Path) -> None:
    """Deletes a job's checkpoints and its model; what tells how it went stays."""
    for name in ("checkpoints", "model"):
        shutil.rmtree(job / name, ignore_errors=True)
