"""A name that somebody else wrote (an object's key, a file in an archive or a manifest) as a path below a folder, or nothing.

Whatever is written under such a name goes through here. Standard library only: everyone may import this.
"""

from __future__ import annotations

import os
from pathlib import Path

from trainer.errors import UserError

NAME_BYTES = 255  # of one part of a path, as many as Linux's file systems take


class NotBelow(UserError):
    """A name that leads nowhere below its folder."""


def below(folder: Path, name: str) -> Path:
    """The path that `name`, of parts divided by `/`, is below `folder`.

    Raises NotBelow if it leads out of it (absolute, `..`, over a link in the folder), is no plain path (an empty part, `.`, a NUL,
    a part of more than 255 bytes), or goes through a file.
    """
    problem = _problem(name)
    if problem:
        raise NotBelow(f"{name!r} is no path below {folder}: {problem}")
    path = folder.joinpath(name)
    root = os.path.realpath(folder)
    try:
        parent = os.path.realpath(path.parent)
        through = next((up for up in path.parents if up != folder and up.is_relative_to(folder) and _is_file(up)), None)
    except OSError as error:  # too long, or links in a circle
        raise NotBelow(f"{name!r} is no path below {folder}: {error.strerror}") from None
    if through:
        raise NotBelow(f"{name!r} is no path below {folder}: {through.relative_to(folder)} there is a file")
    if os.path.commonpath((root, parent)) != root:
        raise NotBelow(f"{name!r} is no path below {folder}: a link there leads out of it")
    return path


def _problem(name: str) -> str:
    """What is wrong with a name, wherever it is to lie; empty if nothing is."""
    if name.startswith("/"):
        return "it is absolute"
    parts = name.split("/")
    if ".." in parts:
        return "'..' leads out of it"
    if "" in parts or "." in parts:
        return "a part of it is empty or '.'"
    if "\0" in name:
        return "it holds a NUL"
    if any(len(os.fsencode(part)) > NAME_BYTES for part in parts):
        return f"a part of it is longer than {NAME_BYTES} bytes"
    return ""


def _is_file(path: Path) -> bool:
    return path.exists() and not path.is_dir()
