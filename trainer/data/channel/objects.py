"""Which objects a channel holds, how they are called below its folder, and whose they are.

A prefix matches as keys do: `s3://bucket/data/tr` is data/tr/one.csv, data/train.csv and data/train-2/two.csv. Those below
`data/tr/` are called by what comes after it, all others by what comes after the prefix's last `/`.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.data.channel.spec import AUGMENTED, FAST_FILE, MANIFEST, S3, SHARDED, Channel
from trainer.data.files import cache
from trainer.data.files.bucket import Bucket
from trainer.errors import UserError
from trainer.process.safe_path import below
from trainer.storage.objects import Missing, in_parallel

PARALLEL = 8  # objects at once
READ = 1 << 20  # bytes of a file at once
REF = "-ref"  # ends the name of an attribute whose value is an object's address


@dataclass(frozen=True)
class Local:
    """A file. name: below the channel's folder."""

    name: str
    path: Path

    def brought(self) -> Path:
        return self.path

    def read(self) -> Iterator[bytes]:
        with open(self.path, "rb") as file:
            while data := file.read(READ):
                yield data


@dataclass(frozen=True)
class Remote:
    """An object on S3. stamp: its ETag and when it was written, unix seconds, where they are known."""

    name: str
    storage: Bucket
    key: str
    stamp: tuple[str, float] = ("", 0.0)

    def brought(self) -> Path:
        """Where it lies on this machine, brought here unless it is here as it is there. Not to be written to."""
        etag, written = self.stamp
        folder = cache.folder() / "channels" / cache.key(self.storage.bucket, self.key, etag)
        path = below(folder, self.key.rpartition("/")[2])
        if not (path.is_file() and path.stat().st_mtime == int(written)):  # else somebody has written to it
            path = self.storage.bring(self.key, folder, path.name)
            os.utime(path, (int(written), int(written)))
            path.chmod(path.stat().st_mode & 0o444)
        return path

    def read(self) -> Iterator[bytes]:
        yield from self.storage.stream(self.key)


@dataclass(frozen=True)
class Told:
    """An attribute that a manifest's line holds itself."""

    name: str
    data: bytes

    def brought(self) -> Path:
        raise TypeError("an attribute is no file")

    def read(self) -> Iterator[bytes]:
        yield self.data


Object = Local | Remote | Told
Unit = tuple[
    Object, ...
]  # what is neither divided between hosts nor torn by shuffling: an object, or a line's attributes


def units(channel: Channel) -> list[Unit]:
    """All of a channel, in order of the keys, or of the manifest's lines. Raises UserError."""
    if channel.s3_data_type == AUGMENTED:
        return _lines(channel)
    found = _listed(channel) if channel.s3_data_type == MANIFEST else _matching(channel)
    if not found:
        raise UserError(f"data.channels.{channel.name}: there is nothing at {channel.s3_data}")
    return [(one,) for one in found]


def share(channel: Channel, all_units: Sequence[Unit], epoch: int, host: int, hosts: int) -> list[Unit]:
    """What one of the hosts gets in an epoch: with ShardedByS3Key one of so many parts, else all."""
    order = list(all_units)
    if channel.seed is not None:
        random.Random(f"{channel.seed} {epoch}").shuffle(order)
    return order[host::hosts] if channel.distribution == SHARDED else order


def _matching(channel: Channel) -> list[Object]:
    if not channel.is_remote:
        return list[Object](_files(Path(channel.s3_data)))
    bucket, _, prefix = channel.s3_data.removeprefix(S3).partition("/")
    storage = Bucket(bucket)
    stamps = storage.stamps(prefix)
    folder, beside = f"{prefix}/" if prefix and not prefix.endswith("/") else prefix, prefix.rpartition("/")[0]
    named: dict[str, str] = {}
    for key in sorted(stamps):
        is_below = key.startswith(folder)
        name = key[len(folder) :] if is_below else key[len(beside) + 1 if beside else 0 :]
        if channel.input_mode == FAST_FILE and not is_below and key != prefix:
            raise UserError(
                f"data.channels.{channel.name}: FastFile takes whole folders, and {channel.s3_data} matches {S3}{bucket}/{key}"
            )
        if name in named:
            raise UserError(
                f"data.channels.{channel.name}: {S3}{bucket}/{named[name]} and {key} would both be {name}; "
                f"write a prefix that ends with /"
            )
        named[name] = key
    return [Remote(name, storage, key, stamps[key]) for name, key in named.items()]


def _files(path: Path) -> list[Local]:
    if not path.is_dir():
        return [Local(path.name, path)]
    found = [Path(folder, name) for folder, _, names in os.walk(path, followlinks=True) for name in names]
    named = sorted((one.relative_to(path).as_posix(), one) for one in found)
    return [Local(name, one) for name, one in named]


def _listed(channel: Channel) -> list[Object]:
    """The objects that a manifest names, in its order."""
    buckets = _Buckets()
    where = f"data.channels.{channel.name}: {channel.s3_data}"
    try:
        content = json.loads(_text(channel, buckets))
    except ValueError as error:
        raise UserError(f"{where} is no JSON: {error}") from None
    first = content[0] if isinstance(content, list) and content else None
    if not isinstance(first, dict) or not isinstance(first.get("prefix"), str) or not first["prefix"]:
        raise UserError(f'{where} is no manifest: it begins with [{{"prefix": "{S3}BUCKET/PREFIX"}}, …')
    prefix, names = first["prefix"], content[1:]
    if not all(isinstance(name, str) and name for name in names):
        raise UserError(f"{where}: after its prefix a manifest holds names, and nothing else")
    begins = prefix.rpartition("/")[2]  # of a name: a prefix needs no / at its end
    with ThreadPoolExecutor(PARALLEL) as pool:
        return in_parallel(pool, lambda name: _at(channel, prefix + name, begins + name, where, buckets), names)


def _lines(channel: Channel) -> list[Unit]:
    """The attributes of an augmented manifest's lines."""
    buckets, found = _Buckets(), list[Unit]()
    for number, text in enumerate(_text(channel, buckets).splitlines(), 1):
        where = f"data.channels.{channel.name}: {channel.s3_data}, line {number}"
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError as error:
            raise UserError(f"{where} is no JSON: {error}") from None
        lacking = [name for name in channel.attribute_names if not isinstance(line, dict) or name not in line]
        if lacking:
            raise UserError(f"{where} has no attribute {lacking[0]}")
        found.append(tuple(_attribute(channel, name, line[name], where, buckets) for name in channel.attribute_names))
    if not found:
        raise UserError(f"data.channels.{channel.name}: there is nothing in {channel.s3_data}")
    return found


def _attribute(channel: Channel, name: str, value: Any, where: str, buckets: _Buckets) -> Object:
    if not name.endswith(REF):
        text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        return Told(name, text.encode())
    if not isinstance(value, str):
        raise UserError(f"{where}: {name} is not the address of an object")
    return _at(channel, value, name, where, buckets)


def _at(channel: Channel, address: str, name: str, where: str, buckets: _Buckets) -> Object:
    """The object of an address, which may be a path beside a manifest. Raises UserError if there is none."""
    if not address.startswith(S3):
        path = Path(os.path.dirname(channel.s3_data) if not channel.is_remote else "/", address)
        if channel.is_remote or not path.is_file():
            raise UserError(f"{where}: there is no {address}")
        return Local(name, path)
    bucket, _, key = address.removeprefix(S3).partition("/")
    storage = buckets[bucket]
    if name.endswith(REF):  # one of many, each of which is read once
        return Remote(name, storage, key)
    stamp = storage.stamp(key)
    if stamp is None:
        raise UserError(f"{where}: there is no {address}")
    return Remote(name, storage, key, stamp)


class _Buckets(dict[str, Bucket]):
    """Each opened once."""

    def __missing__(self, bucket: str) -> Bucket:
        self[bucket] = Bucket(bucket)
        return self[bucket]


def _text(channel: Channel, buckets: _Buckets) -> str:
    if not channel.is_remote:
        data = Path(channel.s3_data).read_bytes()
    else:
        bucket, _, key = channel.s3_data.removeprefix(S3).partition("/")
        try:
            data = b"".join(buckets[bucket].stream(key))
        except Missing:
            raise UserError(f"data.channels.{channel.name}: there is nothing at {channel.s3_data}") from None
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"data.channels.{channel.name}: {channel.s3_data} is no text: {error.reason}") from None
