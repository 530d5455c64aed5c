"""Folders and files that an algorithm reads by itself, each by a name: what SageMaker calls channels.

Imports nothing heavy: whoever only submits a job imports this.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from trainer.data import cache
from trainer.data.sources import Source
from trainer.errors import UserError

NAME = re.compile(r"[A-Za-z0-9._-]+")
S3 = "s3://"


@dataclass(kw_only=True)
class Channels(Source):
    """channels: a file or folder, local or on S3, for each name."""

    name: ClassVar[str] = "channels"
    typed: ClassVar[bool] = False

    channels: dict[str, str] = field(default_factory=dict)

    def check(self, role: str = "train", takes_text: bool = False) -> None:
        for key in ("train", "test"):
            if getattr(self, key):
                raise UserError(f"data.{key}: data=channels has none; write +data.channels.{key}={getattr(self, key)}")
        for name, path in self.channels.items():
            if not NAME.fullmatch(name) or not name.strip("."):
                raise UserError(f"data.channels.{name}: a channel's name is of letters, digits and . _ -")
            if not path.startswith(S3) and not os.path.exists(path):
                raise UserError(f"data.channels.{name}: there is no file or folder {path}")

    def fetched(self) -> dict[str, Path]:
        """Where each channel lies on this machine; what is on S3 is brought here, unless it is here already."""
        return {name: _fetched(path) if path.startswith(S3) else Path(path) for name, path in self.channels.items()}


def _fetched(url: str) -> Path:
    """A folder with all objects below a prefix, or the object of that very name. Raises UserError if there is none."""
    from trainer import storage

    url = url.rstrip("/")
    target = cache.folder() / "channels" / cache.key(url)
    beneath = storage.S3(url)
    found = beneath.list()
    for name, size in found.items():
        path = target / name
        if not (path.is_file() and path.stat().st_size == size):
            beneath.bring(name, target)
    if found:
        return target
    parent, _, last = url.rpartition("/")
    if "/" in parent.removeprefix(S3):
        beside = storage.S3(parent)
        if last in beside.list(last):
            return beside.bring(last, target)
    raise UserError(f"data.channels: there is nothing at {url}")
