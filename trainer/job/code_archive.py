"""The copy of a job's own code in one file, by which it travels to S3 and from there; see `trainer.job.code_path`."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from trainer.job.code_path import CODE
from trainer.process.safe_path import below

ARCHIVE = "submission/code.zip"


def pack(directory: Path) -> str:
    """`code/` in one file. Returns its sum."""
    import zipfile

    archive, code = directory / ARCHIVE, directory / CODE
    archive.unlink(missing_ok=True)  # it may be another job's too
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as file:
        for path in sorted(code.rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(code))
    return digest(archive)


def unpack(directory: Path) -> None:
    """Puts `code/` back from its archive."""
    import zipfile

    beside = directory / f".{CODE}.partial"
    shutil.rmtree(beside, ignore_errors=True)
    with zipfile.ZipFile(directory / ARCHIVE) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                path = below(beside, member.filename)
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as content, open(path, "wb") as file:
                    shutil.copyfileobj(content, file)
    replace(directory / CODE, beside)


def digest(archive: Path) -> str:
    """The sum by which a record names its archive; empty if there is none."""
    return hashlib.sha256(archive.read_bytes()).hexdigest() if archive.is_file() else ""


def replace(code: Path, beside: Path) -> None:
    """Puts a whole new copy, or nothing, in the place of the old one."""
    old = code.with_name(f".{code.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if code.exists():
        os.rename(code, old)
    if beside.exists():
        os.rename(beside, code)
    shutil.rmtree(old, ignore_errors=True)
