"""A shard holds tensors as they are, and whatever happens to its bytes is found."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from trainer.job import checkpoint
from trainer.worker.checkpointing import shards


def same(a: Tensor, b: Tensor) -> bool:
    """To the bit, NaN included."""
    return a.dtype == b.dtype and a.shape == b.shape and bytes(shards.as_bytes(a)) == bytes(shards.as_bytes(b))


def read(path: Path, line: dict[str, Any], into: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """All that a file holds."""
    reading = shards.Reading(into=into or {})
    shards.read(path, line, reading)
    return reading.tensors()


def of_every_kind() -> dict[str, Tensor]:
    torch.manual_seed(0)
    kinds = {str(dtype).removeprefix("torch."): (torch.randn(3, 5) * 50).abs().to(dtype) for dtype in shards.NAMES}
    odd = torch.tensor([float("nan"), float("inf"), -0.0, 1e-45])
    return {
        **kinds,
        "scalar": torch.tensor(7, dtype=torch.int64),
        "scalar.bf16": torch.tensor(1.5, dtype=torch.bfloat16),
        "empty": torch.empty(0),
        "empty.wide": torch.empty(0, 4, dtype=torch.float16),
        "odd": odd,
        "a name with 'ünïcode' and \"quotes\"": torch.ones(1),
        "flags": torch.tensor([True, False, True]),
    }


def test_tensors_of_every_kind_come_back_as_they_were(tmp_path: Path) -> None:
    tensors = of_every_kind()
    line = shards.write(tmp_path / "a.safetensors", tensors)
    found = read(tmp_path / "a.safetensors", line)
    assert set(found) == set(tensors)
    assert all(same(found[name], tensors[name]) for name in tensors)


def test_the_safetensors_library_reads_the_same(tmp_path: Path) -> None:
    tensors = of_every_kind()
    shards.write(tmp_path / "a.safetensors", tensors)
    found = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert set(found) == set(tensors)
    assert all(same(found[name], tensors[name]) for name in tensors)


def test_a_shard_without_tensors_is_one(tmp_path: Path) -> None:
    line = shards.write(tmp_path / "a.safetensors", {})
    assert read(tmp_path / "a.safetensors", line) == {}
    assert safetensors.torch.load_file(tmp_path / "a.safetensors") == {}


def test_tensors_larger_than_a_block_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "BLOCK", 1000)
    tensors = {"small": torch.ones(3), "large": torch.randn(1003), "after": torch.zeros(5), "other": torch.randn(500)}
    heard: list[int] = []
    line = shards.write(tmp_path / "a.safetensors", tensors, lambda: heard.append(1))
    assert len(heard) >= 6  # a sign of life for every block
    found = read(tmp_path / "a.safetensors", line)
    assert all(same(found[name], tensors[name]) for name in tensors)
    library = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert all(same(library[name], tensors[name]) for name in tensors)


def test_the_line_is_that_of_the_file(tmp_path: Path) -> None:
    """Summed while it was written, as if the file had been read."""
    path = tmp_path / "a.safetensors"
    line = shards.write(path, of_every_kind())
    assert {key: line[key] for key in line if key != shards.HEADER} == checkpoint.entry(path)


def test_tensors_are_filled_in_place_where_they_fit(tmp_path: Path) -> None:
    line = shards.write(tmp_path / "a.safetensors", {"a": torch.ones(4), "b": torch.ones(4), "c": torch.ones(2, 2)})
    a, b, c = torch.zeros(4), torch.zeros(4, dtype=torch.float64), torch.zeros(2, 4)[:, ::2]
    found = read(tmp_path / "a.safetensors", line, {"a": a, "b": b, "c": c})
    assert found["a"].data_ptr() == a.data_ptr()
    assert a.tolist() == [1, 1, 1, 1]
    assert b.tolist() == [0, 0, 0, 0]
    assert found["b"].dtype == torch.float32
    assert found["c"].tolist() == [[1, 1], [1, 1]]


def test_a_parameter_is_filled_though_it_needs_gradients(tmp_path: Path) -> None:
    line = shards.write(tmp_path / "a.safetensors", {"a": torch.ones(4)})
    parameter = torch.nn.Parameter(torch.zeros(4))
    read(tmp_path / "a.safetensors", line, {"a": parameter})
    assert parameter.tolist() == [1, 1, 1, 1]


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    line = shards.write(path, {"a": torch.randn(5), "b": torch.tensor(3, dtype=torch.int64)})
    data = path.read_bytes()
    read(path, line)
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        with pytest.raises(ValueError, match=r"a\.safetensors (is damaged|has another checksum|ends too early)"):
            read(path, line)


def test_every_truncation_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    line = shards.write(path, {"a": torch.randn(5)})
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=f"has {length} bytes instead of {len(data)}"):
            read(path, line)
    path.write_bytes(data + b"\0")
    with pytest.raises(ValueError, match="bytes instead of"):
        read(path, line)
    path.unlink()
    with pytest.raises(ValueError, match="is missing"):
        read(path, line)


def test_an_older_file_in_its_place_is_found(tmp_path: Path) -> None:
    """Whole, of the same size, but not the one that was written."""
    path = tmp_path / "a.safetensors"
    shards.write(path, {"a": torch.zeros(5)})
    old = path.read_bytes()
    line = shards.write(path, {"a": torch.ones(5)})
    path.write_bytes(old)
    with pytest.raises(ValueError, match="another checksum"):
        read(path, line)


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_workers_write_about_the_same_amount(parts: int) -> None:
    sizes = {f"layer.{i}.{kind}": size for i in range(12) for kind, size in (("w", 4096 + i), ("b", 64), ("n", 8))}
    shares = shards.spread(sizes, parts)
    assert sorted(name for share in shares for name in share) == sorted(sizes)
    filled = [sum(sizes[name] for name in share) for share in shares]
    assert max(filled) - min(filled) <= max(sizes.values())


def test_workers_agree_on_who_writes_what_however_their_tensors_are_ordered() -> None:
    sizes = {f"t{i}": 8 for i in range(10)} | {"big": 100, "zero": 0}
    backwards = dict(reversed(sizes.items()))
    assert shards.spread(sizes, 3) == shards.spread(backwards, 3)


def test_more_workers_than_tensors() -> None:
    assert sorted(shards.spread({"a": 4}, 3)) == [[], [], ["a"]]


def in_parts(folder: Path, tensor: Tensor, cuts: list[int]) -> dict[str, Any]:
    """A tensor in as many files as there are ranges between the cuts."""
    lines, ends = {}, [0, *cuts, tensor.numel()]
    for i, (start, stop) in enumerate(itertools.pairwise(ends)):
        part = shards.Part(tuple(tensor.shape), start, tensor.reshape(-1)[start:stop])
        lines[f"{i}.safetensors"] = shards.write(folder / f"{i}.safetensors", {f"other.{i}": torch.ones(2), "t": part})
    return lines


@pytest.mark.parametrize("cuts", [[], [1], [5, 6], [3, 3, 17]])
@pytest.mark.parametrize("span", [(0, 20), (0, 7), (4, 6), (5, 5), (13, 20)])
def test_any_span_of_a_tensor_is_read_out_of_any_parts(tmp_path: Path, cuts: list[int], span: tuple[int, int]) -> None:
    tensor = torch.arange(20, dtype=torch.float64).reshape(4, 5)
    lines = in_parts(tmp_path, tensor, cuts)
    reading = shards.Reading(lambda name, shape: span if name == "t" else None)
    for name, line in lines.items():
        shards.read(tmp_path / name, line, reading)
    found = reading.tensors()
    assert reading.shapes["t"] == (4, 5)
    expected = tensor.reshape(-1)[span[0] : span[1]]
    assert ("t" in found) == bool(len(expected))
    if len(expected):
        assert found["t"].reshape(-1).tolist() == expected.tolist()


def test_a_tensor_of_which_a_part_is_missing_is_said(tmp_path: Path) -> None:
    lines = in_parts(tmp_path, torch.arange(20.0), [5, 12])
    del lines["1.safetensors"]
    reading = shards.Reading()
    for name, line in lines.items():
        shards.read(tmp_path / name, line, reading)
    with pytest.raises(ValueError, match="of t, 13 elements are there instead of 20"):
        reading.tensors()


def test_a_file_that_is_not_needed_is_told_by_its_header_alone_and_that_is_verified(tmp_path: Path) -> None:
    lines = in_parts(tmp_path, torch.arange(20.0), [10])
    path, line = tmp_path / "1.safetensors", lines["1.safetensors"]
    needed = shards.Reading(lambda name, shape: (0, 10) if name == "t" else None)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    shards.read(path, line, needed)  # whoever needs the damaged half will see it
    with pytest.raises(ValueError, match="another checksum"):
        shards.read(path, line, shards.Reading())
    at = data.index(b"t@10")
    path.write_bytes(data[:at] + b"u" + data[at + 1 :])
    with pytest.raises(ValueError, match=r"another checksum|is damaged"):
        shards.read(path, line, needed)
