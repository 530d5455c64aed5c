"""Reads parquet, npy, libsvm and plain text in pieces of bounded size."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from trainer.data import paths
from trainer.data.sources import Piece
from trainer.errors import UserError

if TYPE_CHECKING:
    import numpy as np

_ROWS = 16384  # rows of a table read at once
_TEXT = 1 << 20  # bytes of text read at once
_LINES = 8 << 20  # bytes of libsvm parsed at once


def parquet_names(path: str) -> list[str]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        names = list(parquet.read_schema(path).names)
    except (pa.ArrowInvalid, OSError) as error:
        raise _broken(path, "parquet", error) from None
    for i, name in enumerate(names):
        if name in names[:i]:
            raise UserError(f"{path}: two columns are called {name!r}; rename one")
    return names


def parquet_index(path: str) -> list[str]:
    """The columns that pandas has written down as the index of its rows."""
    import json

    from pyarrow import parquet

    noted = (parquet.read_schema(path).metadata or {}).get(b"pandas")
    try:
        return [name for name in json.loads(noted or b"{}").get("index_columns", []) if isinstance(name, str)]
    except (ValueError, AttributeError):
        return []


def read_parquet(path: str, columns: Sequence[str] | None) -> Iterator[Piece]:
    import pyarrow as pa
    from pyarrow import parquet

    first = 0
    try:
        with paths.open_file(path) as handle, parquet.ParquetFile(handle) as file:
            for batch in file.iter_batches(_ROWS, columns=None if columns is None else list(columns)):
                yield Piece(path, first, batch)
                first += batch.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise _broken(path, "parquet", error) from None


def npy_names(path: str) -> list[str]:
    return [str(i) for i in range(_npy(path).shape[1])]


def read_npy(path: str, columns: Sequence[str] | None) -> Iterator[Piece]:
    import numpy as np
    import pyarrow as pa

    array = _npy(path)
    names = npy_names(path) if columns is None else list(columns)
    for first in range(0, len(array), _ROWS):
        rows = native(np.asarray(array[first : first + _ROWS]))
        cells = [pa.array(np.ascontiguousarray(rows[:, int(name)])) for name in names]
        yield Piece(path, first, pa.RecordBatch.from_arrays(cells, names=names))


def _npy(path: str):  # type: ignore[no-untyped-def]  # a numpy array, memory-mapped
    import numpy as np

    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise _broken(path, "npy", error) from None
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise UserError(
            f"{path}: holds a {array.ndim}-dimensional array of {array.dtype}; data=npy reads numbers [rows, columns]"
        )
    return array


def native(array: np.ndarray) -> np.ndarray:
    """In the machine's byte order, and of a type that Arrow has: a long double as float64."""
    import numpy as np

    return array.astype(np.float64 if array.dtype.itemsize > 8 else array.dtype.newbyteorder("="), copy=False)


def read_text(path: str) -> Iterator[Piece]:
    """Pieces of at most a megabyte, cut between characters; the row of a piece is its number."""
    import pyarrow as pa

    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = number = 0
    with paths.open_file(path) as file:
        while True:
            block = file.read(_TEXT)
            pending = len(decoder.getstate()[0])
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                raise paths.not_utf8(path, offset - pending + error.start, error.object[error.start]) from None
            if text:
                yield Piece(path, number, pa.RecordBatch.from_pydict({"text": [text]}))
                number += 1
            if not block:
                return
            offset += len(block)


def read_libsvm(path: str) -> Iterator[Piece]:
    """Columns `indices` list<int32>, `values` list<float32> and `label` float64. Indices as they stand in the file."""
    import numpy as np
    import pyarrow as pa

    first = 0
    for block in _whole_lines(path):
        matrix, labels = _parse_libsvm(path, block, first)
        offsets = pa.array(matrix.indptr.astype(np.int32))
        indices = pa.ListArray.from_arrays(offsets, pa.array(matrix.indices.astype(np.int32)))
        values = pa.ListArray.from_arrays(offsets, pa.array(matrix.data.astype(np.float32)))
        batch = pa.RecordBatch.from_arrays([indices, values, pa.array(labels)], names=["indices", "values", "label"])
        yield Piece(path, first, batch)
        first += len(labels)


def _whole_lines(path: str) -> Iterator[bytes]:
    """A file in blocks of some megabytes that end with a line."""
    with paths.open_file(path) as file:
        while block := file.read(_LINES):
            yield block + file.readline()


def _parse_libsvm(path: str, block: bytes, first: int):  # type: ignore[no-untyped-def]  # CSR matrix, labels
    import io

    from sklearn.datasets import load_svmlight_file

    try:
        return load_svmlight_file(io.BytesIO(block), zero_based=True)
    except ValueError as error:
        rows = 0
        for line in block.splitlines():
            if not line.split(b"#")[0].strip():
                continue
            try:
                load_svmlight_file(io.BytesIO(line), zero_based=True)
            except ValueError:
                text = line.decode(errors="replace")
                raise UserError(
                    f"{path}, row {first + rows + 1}: {text[:60]!r} is not libsvm, which reads: label index:value …"
                ) from None
            rows += 1
        raise UserError(f"{path}: can't be read as libsvm: {' '.join(str(error).split())}") from None


def _broken(path: str, kind: str, error: Exception) -> UserError:
    return UserError(f"{path}: can't be read as {kind}: {' '.join(str(error).split())[:200]}")
