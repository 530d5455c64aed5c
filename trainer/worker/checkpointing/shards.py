"""Tensors as files in the safetensors format, written and read as a stream that is summed on the way.

The library's own writer copies every tensor first and its reader maps the file, so that a checksum would cost a second
pass; here bytes go from the tensor to the disk, and from the disk into the tensor, once.

A tensor that is spread over workers is written in parts, each a flat range of it, under `name@start`; the file's
metadata says of which tensor and shape. A type that the format lacks is written as bytes, and the metadata says which it is. Whoever reads takes the ranges that it needs, out of whatever parts there are.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.job.checkpoint import BLOCK, CHECKSUM, checksum

NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.uint16: "U16",
    torch.uint32: "U32",
    torch.uint64: "U64",
    torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}
DTYPES = {name: dtype for dtype, name in NAMES.items()}
HEADER_LIMIT = 100 << 20
BYTES = "U8"
METADATA, PARTS, TYPES = "__metadata__", "parts", "types"
HEADER = "header"  # in a manifest's line: the header's own checksum, so that a file that isn't needed need not be read


@dataclass(frozen=True)
class Part:
    """A range of a tensor that is spread over workers: its elements from `start` on, in `data` [n], of `shape` in all."""

    shape: tuple[int, ...]
    start: int
    data: Tensor


Held = Tensor | Part  # of a tensor, what a worker has


def data_of(held: Held) -> Tensor:
    return held.data if isinstance(held, Part) else held


def spread(sizes: Mapping[str, int], parts: int) -> list[list[str]]:
    """Names in `parts` lists of about equal bytes, the same wherever it is computed: the largest go first."""
    shares: list[list[str]] = [[] for _ in range(parts)]
    filled = [0] * parts
    for name in sorted(sizes, key=lambda n: (-sizes[n], n)):
        least = filled.index(min(filled))
        shares[least].append(name)
        filled[least] += sizes[name]
    return shares


def as_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous CPU tensor, without a copy."""
    flat = tensor.view(-1) if tensor.dim() else tensor.view(1)
    return flat.view(torch.uint8).numpy().data if tensor.numel() else memoryview(b"")


def write(path: Path, tensors: Mapping[str, Held], told: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Writes contiguous CPU tensors durably. Returns the file's line in the manifest. `told` hears of every block.

    Raises OSError.
    """
    header: dict[str, Any] = {}
    parts: dict[str, Any] = {}
    types: dict[str, Any] = {}
    offset = 0
    for name, held in tensors.items():
        tensor = data_of(held)
        size = tensor.numel() * tensor.element_size()
        stored = name
        if isinstance(held, Part):
            stored = f"{name}@{held.start}"
            parts[stored] = [name, held.start, list(held.shape)]
        if tensor.dtype not in NAMES:
            types[stored] = [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
        header[stored] = {
            "dtype": NAMES.get(tensor.dtype, BYTES),
            "shape": list(tensor.shape) if tensor.dtype in NAMES else [size],
            "data_offsets": [offset, offset + size],
        }
        offset += size
    more = {key: json.dumps(told, separators=(",", ":")) for key, told in ((PARTS, parts), (TYPES, types)) if told}
    if more:
        header[METADATA] = more
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest, of_header = checksum(), checksum()
    of_header.update(text)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        total = _write_all(fd, memoryview(len(text).to_bytes(8, "little") + text), digest)
        small = bytearray()  # many small tensors go in one write
        for held in tensors.values():
            data = as_bytes(data_of(held))
            if len(small) + len(data) < BLOCK:
                small += data
                continue
            total += _write_all(fd, memoryview(small), digest)
            small = bytearray()
            for start in range(0, len(data), BLOCK):
                total += _write_all(fd, data[start : start + BLOCK], digest)
                told()
        total += _write_all(fd, memoryview(small), digest)
        os.fsync(fd)
        told()
    finally:
        os.close(fd)
    return {"size": total, CHECKSUM: digest.hexdigest(), HEADER: of_header.hexdigest()}


def _write_all(fd: int, data: memoryview, digest: Any) -> int:
    digest.update(data)
    left = data
    while len(left):
        left = left[os.write(fd, left) :]
    return len(data)


@dataclass(frozen=True)
class Entry:
    """A stored range: `count` elements from `start` on of tensor `name`, which has `shape` in all."""

    name: str
    shape: tuple[int, ...]
    start: int
    count: int
    dtype: torch.dtype


Span = tuple[int, int]  # of a tensor's elements, laid flat: first, and one after the last


def all_of(name: str, shape: tuple[int, ...]) -> Span | None:
    """The whole of every tensor, for `Reading.wanted`."""
    return 0, math.prod(shape)


@dataclass
class Reading:
    """What is to be read out of several files, and what has been.

    wanted: the span of a tensor that is needed, by its name and shape; None for nothing of it.
    into: tensors to be filled where type and size fit (contiguous, on the CPU); the others are made.
    """

    wanted: Callable[[str, tuple[int, ...]], Span | None] = all_of
    into: Mapping[str, Tensor] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    _spans: dict[str, Span] = field(default_factory=dict)
    _made: dict[str, Tensor] = field(default_factory=dict)
    _filled: dict[str, int] = field(default_factory=dict)

    def overlap(self, entry: Entry) -> Span:
        """What of a stored range is needed, in the tensor's elements; empty if nothing is."""
        if entry.name not in self._spans:
            self._spans[entry.name] = self.wanted(entry.name, entry.shape) or (0, -1)
            self.shapes[entry.name] = entry.shape
        first, last = self._spans[entry.name]
        return max(first, entry.start), min(last, entry.start + entry.count)

    def needs(self, entry: Entry) -> bool:
        first, last = self.overlap(entry)
        return last > first or (last == first and math.prod(entry.shape) == 0)

    def target(self, entry: Entry) -> memoryview:
        """The bytes that the needed elements of a stored range go to."""
        first, last = self._spans[entry.name]
        if entry.name not in self._made:
            given = self.into.get(entry.name)
            fits = given is not None and given.dtype == entry.dtype and given.numel() == last - first
            if given is not None and fits and given.is_contiguous() and given.device.type == "cpu":
                self._made[entry.name] = given.detach()
            else:
                whole = last - first == math.prod(entry.shape)
                self._made[entry.name] = torch.empty(entry.shape if whole else last - first, dtype=entry.dtype)
            self._filled[entry.name] = 0
        begin, end = self.overlap(entry)
        self._filled[entry.name] += end - begin
        size = entry.dtype.itemsize
        return as_bytes(self._made[entry.name])[(begin - first) * size : (end - first) * size]

    def tensors(self) -> dict[str, Tensor]:
        """What was read, by name: in its shape where it is a whole tensor, flat where it is a span.

        Raises ValueError if of a tensor something is missing.
        """
        for name, (first, last) in self._spans.items():
            if last > first and self._filled.get(name, 0) != last - first:
                raise ValueError(f"of {name}, {self._filled.get(name, 0)} elements are there instead of {last - first}")
        return self._made


def read(path: Path, expected: Mapping[str, Any], reading: Reading) -> None:
    """Reads what `reading` needs of a file that `write` wrote, and verifies it against the manifest's line.

    Of a file that has nothing of it only the header is read. Raises ValueError with what is wrong; what was filled
    until then is not to be used.
    """
    digest = checksum()
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed below
    except FileNotFoundError:
        raise ValueError(f"{path.name} is missing") from None
    with file:
        size = os.fstat(file.fileno()).st_size
        if size != expected["size"]:
            raise ValueError(f"{path.name} has {size} bytes instead of {expected['size']}")
        try:
            text = _header(file, size, digest)
            entries = entries_of(text)
            if 8 + len(text) + sum(e.count * e.dtype.itemsize for e in entries) != size:
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{path.name} is damaged") from None
        if HEADER in expected and not any(reading.needs(e) for e in entries):
            of_header = checksum()
            of_header.update(text)
            if of_header.hexdigest() != expected[HEADER]:
                raise ValueError(f"{path.name} has another checksum")
            return
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)  # the disk reads on while bytes are summed
        for entry in entries:
            wide = entry.dtype.itemsize
            if not reading.needs(entry):
                _skip(file, entry.count * wide, digest, path)
                continue
            first, last = reading.overlap(entry)
            _skip(file, (first - entry.start) * wide, digest, path)
            _fill(file, reading.target(entry), digest, path)
            _skip(file, (entry.start + entry.count - last) * wide, digest, path)
    if digest.hexdigest() != expected[CHECKSUM]:
        raise ValueError(f"{path.name} has another checksum")


def entries_of(header: bytes) -> list[Entry]:
    """What a file holds, in the order of its bytes. Raises one of many errors for a header that is none."""
    lines = json.loads(header)
    more = lines.pop(METADATA, {})
    parts, types = json.loads(more.get(PARTS, "{}")), json.loads(more.get(TYPES, "{}"))
    entries = []
    for stored, line in sorted(lines.items(), key=lambda item: item[1]["data_offsets"][0]):
        dtype, here = DTYPES[line["dtype"]], line["shape"]
        if stored in types:
            dtype, here = _type(types[stored][0]), types[stored][1]
        name, start, shape = parts.get(stored, (stored, 0, here))
        count = math.prod(here)
        if count < 0 or not 0 <= start <= math.prod(shape) - count:
            raise ValueError
        entries.append(Entry(name, tuple(shape), start, count, dtype))
    return entries


def _type(name: str) -> torch.dtype:
    found = getattr(torch, name)
    if not isinstance(found, torch.dtype):
        raise ValueError
    return found


def _header(file: Any, size: int, digest: Any) -> bytes:
    length = int.from_bytes(_exactly(file, 8, digest), "little")
    if length > min(HEADER_LIMIT, size):
        raise ValueError
    return _exactly(file, length, digest)


def _exactly(file: Any, count: int, digest: Any) -> bytes:
    data = bytearray(count)
    _fill(file, memoryview(data), digest, None)
    return bytes(data)


def _skip(file: Any, count: int, digest: Any, path: Path) -> None:
    if count:
        room = memoryview(bytearray(min(count, BLOCK)))
        for start in range(0, count, BLOCK):
            _fill(file, room[: count - start], digest, path)


def _fill(file: Any, view: memoryview, digest: Any, path: Path | None) -> None:
    at = 0
    while at < len(view):
        count = file.readinto(view[at : at + BLOCK])
        if not count:
            raise ValueError(f"{path.name if path else 'a file'} ends too early")
        digest.update(view[at : at + count])
        at += count
