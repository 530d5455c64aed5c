"""Reads parquet, npy, libsvm and plain text in pieces of bounded size."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from trainer.data.files import paths
from trainer.data.source import Piece
from trainer.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from scipy.sparse import csr_matrix

_ROWS = 16384  # rows of a table read at once
_TEXT = 1 << 20  # bytes of text read at once
_LINES = 8 << 20  # bytes of libsvm parsed at once
_MOST = 2**31 - 1  # of an index


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


def _npy(path: str) -> np.ndarray:
    """Memory-mapped."""
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
    """Columns `indices` list<int32>, `values` list<float32>, `exact` list<float64>, the same before they were narrowed, and
    `label` float64 and `group` int64, null in a line without qid. Indices as they stand in the file."""
    import numpy as np
    import pyarrow as pa

    first = line = 0
    for block in _whole_lines(path):
        matrix, labels, groups = _parse_libsvm(path, block, line)
        offsets = pa.array(matrix.indptr.astype(np.int32))
        indices = pa.ListArray.from_arrays(offsets, pa.array(matrix.indices.astype(np.int32)))
        with np.errstate(over="ignore"):  # infinities are told with their line
            values = pa.ListArray.from_arrays(offsets, pa.array(matrix.data.astype(np.float32)))
        exact = pa.ListArray.from_arrays(offsets, pa.array(matrix.data))
        columns = {"indices": indices, "values": values, "exact": exact, "label": pa.array(labels), "group": groups}
        batch = pa.RecordBatch.from_pydict(columns)
        yield Piece(path, first, batch)
        first += len(labels)
        line += block.count(b"\n")


def libsvm_line(path: str, row: int) -> int:
    """The number of the line, from 1, that a row, from 0, stands in: comments and blank lines are none."""
    number = 0
    with paths.open_file(path) as file:
        while row >= 0 and (line := file.readline()):
            row -= bool(line.partition(b"#")[0].strip())
            number += 1
    return number


def _whole_lines(path: str) -> Iterator[bytes]:
    """A file in blocks of some megabytes that end with a line."""
    with paths.open_file(path) as file:
        while block := file.read(_LINES):
            yield block + file.readline()


def _parse_libsvm(path: str, block: bytes, before: int) -> tuple[csr_matrix, np.ndarray, pa.Array]:
    """before: lines of the file before the block. Raises UserError with the line that is wrong, and how."""
    import io

    from sklearn.datasets import load_svmlight_file

    try:
        matrix, labels, groups = load_svmlight_file(io.BytesIO(block), zero_based=True, query_id=True)
        if not matrix.nnz or matrix.indices.max() <= _MOST:
            return matrix, labels, _groups_of(block, groups, len(labels))
        reason = f"an index is above {_MOST:,}"
    except (ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
    for number, line in enumerate(block.split(b"\n"), before + 1):
        if problem := _problem(line):
            raise UserError(f"{path}, line {number}: {problem}") from None
    raise UserError(f"{path}: can't be read as libsvm: {reason}")


def _groups_of(block: bytes, found: np.ndarray, rows: int) -> pa.Array:
    """The group of each row, where the parser gives those of the lines that have one."""
    import numpy as np
    import pyarrow as pa

    if len(found) == rows:
        return pa.array(found)
    if not len(found):
        return pa.nulls(rows, pa.int64())
    fields = [line.partition(b"#")[0].split(None, 2) for line in block.split(b"\n")]
    having = np.array([len(one) > 1 and one[1].startswith(b"qid:") for one in fields if one])
    groups = np.zeros(rows, np.int64)
    groups[having] = found
    return pa.array(groups, mask=~having)


def _problem(line: bytes) -> str | None:
    """What is wrong with a line of libsvm and what to do, or None."""
    label, *features = line.partition(b"#")[0].split() or [b"0"]
    shown = f"{line.strip().decode(errors='replace')[:60]!r} is not libsvm, which reads: label index:value …"
    last = -1
    try:
        float(label)
        if features and features[0].startswith(b"qid:"):
            int(features.pop(0)[4:])
        for feature in features:
            index, value = feature.split(b":")
            here = int(index)
            if here < 0:
                return f"index {here} is negative; number the columns from 0 or 1"
            if here > _MOST:
                return f"index {here} is above {_MOST:,}; number the columns from 0 or 1"
            if here == last:
                return f"index {here} is there twice; keep one of its values"
            if here < last:
                return f"index {here} comes after {last}; sort each line's indices in ascending order"
            last = here
            float(value)
    except ValueError:
        return shown
    return None


def _broken(path: str, kind: str, error: Exception) -> UserError:
    return UserError(f"{path}: can't be read as {kind}: {' '.join(str(error).split())[:200]}")
