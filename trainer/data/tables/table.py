"""An encoded table: what its columns hold, and its rows in blocks, in memory or memory-mapped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.data.columns.features import Feature
from trainer.data.columns.groups import GROUPS
from trainer.data.columns.labels import Label
from trainer.data.files.cells import At
from trainer.data.tables.order import BLOCK

if TYPE_CHECKING:
    import pyarrow as pa

DATA, META, KEPT = "data.arrow", "schema.json", "columns.npy"


@dataclass
class Block:
    """Up to BLOCK rows: x float32 [n, columns], or the arrays of a CSR matrix; y float64 [n], or, of intervals, [n, 2];
    None without a label."""

    x: Any
    y: np.ndarray | None


@dataclass
class SparseBlock:
    """offsets int64 [n + 1], indices int32 [nnz] and values float32 [nnz] of n rows."""

    offsets: np.ndarray
    indices: np.ndarray
    values: np.ndarray

    def rows(self, ids: np.ndarray) -> SparseBlock:
        """These rows, copied."""
        starts = self.offsets[ids]
        lengths = self.offsets[ids.astype(np.int64) + 1] - starts
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        at = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return SparseBlock(offsets, self.indices[at], self.values[at])


@dataclass
class Table:
    """Encoded rows. `block(i)` gives the i-th BLOCK of them, without a copy where they are memory-mapped.

    features: one for each column of x; empty if sparse. base: what sparse indices count from, 0 or 1.
    names: of all of the file's columns, in its order; left_out: those that are neither. kept: the file's indices of sparse
    columns, sorted, where they are few among very many. upper: the column of the label's upper bound. group: the column of the groups; groups: int64, of each row,
    -1 where it has none; None if no row has one; ungrouped: the first such row. notes: what a person should hear of how it was read.
    bytes: of all rows. entry: the cache's folder of it, if there is one.
    """

    features: list[Feature]
    label: Label | None
    rows: int
    columns: int
    bytes: int
    block: Callable[[int], Block]
    sparse: bool = False
    base: int = 0
    entry: Path | None = None
    names: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    kept: np.ndarray | None = None
    upper: str | None = None
    group: str | None = None
    groups: np.ndarray | None = None
    ungrouped: At | None = None
    notes: tuple[str, ...] = ()

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Of one row's label."""
        return (2,) if self.upper else ()

    @property
    def blocks(self) -> int:
        return -(-self.rows // BLOCK)

    def row_bytes(self) -> float:
        return self.bytes / max(1, self.rows)


def of_arrays(x: np.ndarray, y: np.ndarray | None, features: list[Feature], label: Label | None) -> Table:
    """A table in memory. x: float32 [rows, columns]."""

    def block(i: int) -> Block:
        rows = slice(i * BLOCK, (i + 1) * BLOCK)
        return Block(x[rows], None if y is None else y[rows])

    size = x.nbytes + (0 if y is None else y.nbytes)
    names = tuple(f.name for f in features) + ((label.name,) if label else ())
    return Table(features, label, len(x), x.shape[1], size, block, names=names)


def of_folder(entry: Path) -> Table:
    """A table of the cache, memory-mapped. Raises OSError, ValueError or KeyError where it is damaged."""
    import json

    from datasets import Dataset

    meta = json.loads((entry / META).read_text())
    data: pa.Table = Dataset.from_file(str(entry / DATA)).data.table
    if data.num_rows != meta["rows"]:
        raise ValueError("another number of rows than noted")
    read = _sparse_block if meta["sparse"] else _dense_block
    chunks = {name: data.column(name) for name in data.column_names}
    if any(c.num_chunks != -(-meta["rows"] // BLOCK) for c in chunks.values()):
        raise ValueError("other blocks than written")
    return Table(
        features=[_feature(f) for f in meta["features"]],
        label=_label(meta["label"]) if meta["label"] else None,
        rows=meta["rows"],
        columns=meta["columns"],
        bytes=(entry / DATA).stat().st_size,
        block=lambda i: read(chunks, i, meta["columns"]),
        sparse=meta["sparse"],
        base=meta["base"],
        entry=entry,
        names=tuple(meta["names"]),
        left_out=tuple(meta["left_out"]),
        kept=np.load(entry / KEPT) if (entry / KEPT).exists() else None,
        upper=meta["upper"],
        group=meta["group"],
        groups=np.load(entry / GROUPS, mmap_mode="r") if (entry / GROUPS).exists() else None,
        ungrouped=tuple(meta["ungrouped"]) if meta["ungrouped"] else None,
        notes=tuple(meta["notes"]),
    )


def _feature(raw: dict[str, Any]) -> Feature:
    return Feature(**{**raw, "missing": tuple(raw["missing"]) if raw["missing"] else None})


def _label(raw: dict[str, Any]) -> Label:
    values = raw["values"]
    return Label(**{**raw, "values": None if values is None else dict(values)})


def _dense_block(chunks: dict[str, pa.ChunkedArray], i: int, columns: int) -> Block:
    x = chunks["x"].chunk(i).flatten().to_numpy(zero_copy_only=True).reshape(-1, columns)
    return Block(x, _labels(chunks, i))


def _sparse_block(chunks: dict[str, pa.ChunkedArray], i: int, columns: int) -> Block:
    return Block(sparse_block(chunks["indices"].chunk(i), chunks["values"].chunk(i)), _labels(chunks, i))


def sparse_block(indices: pa.ListArray, values: pa.ListArray) -> SparseBlock:
    """Two columns of lists, without a copy."""
    offsets = indices.offsets.to_numpy().astype(np.int64)
    return SparseBlock(offsets - offsets[0], indices.flatten().to_numpy(), values.flatten().to_numpy())


def _labels(chunks: dict[str, pa.ChunkedArray], i: int) -> np.ndarray | None:
    if "y" not in chunks:
        return None
    y: np.ndarray = chunks["y"].chunk(i).to_numpy(zero_copy_only=True)
    if "upper" not in chunks:
        return y
    return np.column_stack([y, chunks["upper"].chunk(i).to_numpy(zero_copy_only=True)])
