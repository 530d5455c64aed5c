"""Columns that stand in the names of folders, as Hive and Spark write them: `year=2024/part-0.parquet`.

The rest of the data layer reads a source's names and rows through these two, so that such a column is one as any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from trainer.data.source import Piece, Source

if TYPE_CHECKING:
    import pyarrow as pa

_NULL = "__HIVE_DEFAULT_PARTITION__"


def names(source: Source, path: str) -> list[str]:
    """The names of a file's columns, and of those that its folders' names hold."""
    own = source.names(path)
    return [*own, *(key for key in source.partition(path) if key not in own)]


def batches(source: Source, files: Sequence[str], columns: Sequence[str] | None = None) -> Iterator[Piece]:
    """The rows of the files in order with these columns (None: all), as `Source.batches` has them."""
    for path in files:
        keys = source.partition(path)
        if not keys:
            yield from source.batches([path], columns)
            continue
        own = source.names(path)
        wanted = [*own, *keys] if columns is None else columns
        of_file = [name for name in wanted if name in own]
        for piece in source.batches([path], of_file or own[:1]):
            held = {name: piece.batch.column(name) for name in of_file}
            n = piece.batch.num_rows
            cells = [
                held[name] if name in held else _constant(keys.get(name, _NULL), n, typed=source.typed)
                for name in wanted
            ]
            yield Piece(piece.path, piece.first, _batch(cells, list(wanted)))


def _constant(word: str, rows: int, *, typed: bool) -> pa.Array:
    import pyarrow as pa

    if word == _NULL:
        return pa.nulls(rows, pa.string())
    return pa.repeat(pa.scalar(int(word) if typed and re.fullmatch(r"-?\d{1,18}", word) else word), rows)


def _batch(cells: list[pa.Array], names: list[str]) -> pa.RecordBatch:
    import pyarrow as pa

    return pa.RecordBatch.from_arrays(cells, names=names)
