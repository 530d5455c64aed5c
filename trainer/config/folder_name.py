"""What can be called: a job's folder, and a study's."""

from __future__ import annotations

import os
from pathlib import Path

from trainer.errors import UserError

LONGEST = 255  # bytes that a file system gives a name
PATH = 4096 - 512  # and a path, less what lies in the folder
KEY = 1024 - 256  # bytes of a key on S3, less the same


def check_folder(noun: str, name: str | None, place: str | Path | None) -> None:
    """Raises UserError for a name that can be no folder's, and for a path or URL that is too long for what holds it. noun: job or
    study, of whose `name` and `dir` these are."""
    if name is not None:
        if "/" in name or name.startswith(".") or not name or "\0" in name:
            raise UserError(f"{noun}.name: {name!r} can't be a folder's name; use {noun}.dir for a path")
        _check_length(name, f"{noun}.name")
    if place is not None:
        _check_place(str(place), f"{noun}.dir")


def _check_place(text: str, key: str) -> None:
    most = KEY if "://" in text else PATH
    if len(os.fsencode(text)) > most:
        raise UserError(
            f"{key}: {text[:40]}… has {len(os.fsencode(text)):,} bytes, and {most:,} can be; give a shorter one"
        )
    if "://" not in text:
        for part in Path(text).parts:
            _check_length(part, key)


def _check_length(name: str, key: str) -> None:
    size = len(os.fsencode(name))
    if size > LONGEST:
        raise UserError(
            f"{key}: {name[:40]}… has {size:,} bytes, and a folder's name can have {LONGEST}; give a shorter one"
        )
