"""Tensors as files in the safetensors format, written and read as a stream that is summed on the way.

The library's own writer copies every tensor first and its reader maps the file, so that a checksum would cost a second
pass; here bytes go from the tensor to the disk, and from the disk into the tensor, once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.checkpoint import BLOCK, CHECKSUM, checksum

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


def write(path: Path, tensors: Mapping[str, Tensor], told: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Writes contiguous CPU tensors durably. Returns the file's line in the manifest. `told` hears of every block.

    Raises OSError, or TypeError for a type that the format doesn't have.
    """
    header, offset = {}, 0
    for name, tensor in tensors.items():
        if tensor.dtype not in NAMES:
            raise TypeError(f"{name} is of type {tensor.dtype}, which a checkpoint can't hold")
        size = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = checksum()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        total = _write_all(fd, memoryview(len(text).to_bytes(8, "little") + text), digest)
        small = bytearray()  # many small tensors go in one write
        for tensor in tensors.values():
            data = as_bytes(tensor)
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
    return {"size": total, CHECKSUM: digest.hexdigest()}


def _write_all(fd: int, data: memoryview, digest: Any) -> int:
    digest.update(data)
    left = data
    while len(left):
        left = left[os.write(fd, left) :]
    return len(data)


def read(path: Path, expected: Mapping[str, Any], into: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reads a file that `write` wrote, and verifies what it reads against the manifest's line.

    into: tensors to be filled where name, type and shape fit (contiguous, on the CPU); the others are made.
    Raises ValueError with what is wrong; what was filled until then is not to be used.
    """
    digest, tensors = checksum(), {}
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed below
    except FileNotFoundError:
        raise ValueError(f"{path.name} is missing") from None
    with file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)  # the disk reads on while bytes are summed
        size = os.fstat(file.fileno()).st_size
        if size != expected["size"]:
            raise ValueError(f"{path.name} has {size} bytes instead of {expected['size']}")
        try:
            length = int.from_bytes(_exactly(file, 8, digest), "little")
            if length > min(HEADER_LIMIT, size):
                raise ValueError
            header = json.loads(_exactly(file, length, digest))
            lines = sorted(header.items(), key=lambda item: item[1]["data_offsets"][0])
            shapes = {n: (DTYPES[line["dtype"]], tuple(line["shape"])) for n, line in lines}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{path.name} is damaged") from None
        for name, (dtype, shape) in shapes.items():
            target = into.get(name)
            fits = target is not None and target.dtype == dtype and target.shape == shape and target.is_contiguous()
            tensor = target.detach() if fits and target is not None else torch.empty(shape, dtype=dtype)
            _fill(file, as_bytes(tensor), digest, path)
            tensors[name] = tensor
    if digest.hexdigest() != expected[CHECKSUM]:
        raise ValueError(f"{path.name} has another checksum")
    return tensors


def _exactly(file: Any, count: int, digest: Any) -> bytes:
    data = bytearray(count)
    _fill(file, memoryview(data), digest, None)
    return bytes(data)


def _fill(file: Any, view: memoryview, digest: Any, path: Path | None) -> None:
    at = 0
    while at < len(view):
        count = file.readinto(view[at : at + BLOCK])
        if not count:
            raise ValueError(f"{path.name if path else 'a file'} ends too early")
        digest.update(view[at : at + count])
        at += count
