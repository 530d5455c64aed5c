"""What an algorithm gets that reads its data by itself: its channels."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.channel.feed import Feed
from trainer.data.channel.objects import PARALLEL, Remote, Unit, share, units
from trainer.data.channel.spec import FILE, PIPE, PREFIX, SHARDED, Channel
from trainer.data.files import cache
from trainer.data.tables.samples import Samples
from trainer.errors import UserError
from trainer.process.safe_path import below
from trainer.storage.objects import in_parallel


class Folders(Samples):
    """No rows that anybody here could count: a file or folder for each name."""

    def __init__(self, channels: Mapping[str, Channel]) -> None:
        self._channels = dict(channels)
        self.rows = self.columns = 0

    @cached_property
    def channels(self) -> dict[str, Path]:  # type: ignore[override]  # the base's property, kept once it is known
        """Where each lies on this machine, all of it; what is on S3 is brought here. Raises UserError for a channel that a
        script alone can have."""
        return {name: _whole(channel) for name, channel in self._channels.items()}

    def described(self) -> dict[str, dict[str, str]]:
        """What inputdataconfig.json says of each."""
        return {name: channel.described() for name, channel in self._channels.items()}

    def lay(self, name: str, data: Path, host: int, hosts: int) -> tuple[Feed | None, str]:
        """Lays one of so many hosts' part of a channel into a folder: as the folder `name` of links, or as FIFOs, which the
        feed that is returned serves until it is closed. And what should be told of it. Raises UserError."""
        channel = self._channels[name]
        if channel.input_mode != PIPE and channel.distribution != SHARDED and _is_plain(channel):
            path = Path(channel.s3_data)
            if path.is_dir():
                (data / name).symlink_to(path, target_is_directory=True)
                return None, ""
        found = units(channel)
        told = ""
        if channel.distribution == SHARDED and len(found) < hosts:
            told = (
                f"data.channels.{name}: {len(found)} objects for {hosts} hosts: {hosts - len(found)} of them get none"
            )
        if channel.input_mode == PIPE:
            return Feed(channel, data, lambda epoch: share(channel, found, epoch, host, hosts)), told
        _link(share(channel, found, 0, host, hosts), data / name)
        return None, told

    def _take(self, ids: np.ndarray) -> tuple[Any, Any]:
        raise TypeError("channels have no rows")


def _is_plain(channel: Channel) -> bool:
    return not channel.is_remote and channel.s3_data_type == PREFIX


def _link(found: list[Unit], folder: Path) -> None:
    """A folder of links to what lies on this machine then. Raises UserError for a name that leads out of it."""
    folder.mkdir()
    links = [below(folder, unit[0].name) for unit in found]  # else nothing is brought
    with ThreadPoolExecutor(PARALLEL) as pool:
        paths = in_parallel(pool, lambda unit: unit[0].brought(), found)
    for link, path in zip(links, paths, strict=True):
        below(folder, link.relative_to(folder).as_posix())  # it may go through a file that is there by now
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():  # else a manifest names it twice
            link.symlink_to(path)


def _whole(channel: Channel) -> Path:
    if channel.input_mode == PIPE or channel.distribution == SHARDED:
        what = channel.input_mode if channel.input_mode == PIPE else channel.distribution
        raise UserError(f"data.channels.{channel.name}: {what} is for algorithm=script; this one gets all, as {FILE}")
    if _is_plain(channel):
        return Path(channel.s3_data)
    found = units(channel)
    names = [(one.name, one.stamp if isinstance(one, Remote) else str(one.brought())) for (one, *_) in found]
    target = cache.folder() / "channels" / cache.key(channel.s3_data, names)
    if not target.is_dir():
        beside = target.with_name(f".{uuid.uuid4().hex}")
        beside.parent.mkdir(parents=True, exist_ok=True)
        _link(found, beside)
        try:
            os.rename(beside, target)
        except OSError:  # another was faster
            shutil.rmtree(beside)
    only = [unit[0].name for unit in found]
    return target / only[0] if channel.s3_data.endswith(f"/{only[0]}") and len(only) == 1 else target
