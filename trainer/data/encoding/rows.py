"""Encodes rows to be predicted as the training rows were, from the schema alone; refuses rows that don't fit."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from trainer.algorithm import Algorithm, Batch
from trainer.data.columns.features import Feature, told_unknown
from trainer.data.files.cells import Place
from trainer.data.files.spelling import PLAIN, Spelling
from trainer.data.formats import partitions
from trainer.data.formats.blocks import native
from trainer.data.schema import Schema
from trainer.data.source import Source
from trainer.data.tables import table
from trainer.data.tables.samples import Samples
from trainer.data.tables.sparse import fitted, tensors
from trainer.data.tables.table import SparseBlock
from trainer.errors import UserError, did_you_mean

Pieces = Callable[[], Iterator[Any]]


class Rows:
    """Rows to be predicted, in bounded memory, in their order: the two ways of `Samples` that need no label."""

    def __init__(self, pieces: Pieces, columns: int) -> None:
        self._pieces, self.columns = pieces, columns

    def sequential(self, *, batch_size: int) -> Iterator[Batch]:
        """Batches of at most `batch_size` rows, without y."""
        for piece in self._cut(batch_size):
            if isinstance(piece, SparseBlock):
                n = len(piece.offsets) - 1
                yield Batch(tensors(piece, self.columns), None, n, n)
            else:
                yield Batch(torch.from_numpy(piece), None, len(piece), len(piece))

    def chunks(self, *, rows: int = 65536) -> Iterator[tuple[Any, None]]:
        """numpy float32 [n, columns], or a scipy CSR matrix, at most `rows` of them."""
        for piece in self._cut(rows):
            if isinstance(piece, SparseBlock):
                from scipy.sparse import csr_matrix

                shape = (len(piece.offsets) - 1, self.columns)
                yield csr_matrix((piece.values, piece.indices, piece.offsets), shape), None
            else:
                yield piece, None

    def _cut(self, rows: int) -> Iterator[Any]:
        for piece in self._pieces():
            n = len(piece.offsets) - 1 if isinstance(piece, SparseBlock) else len(piece)
            for start in range(0, n, rows):
                stop = min(start + rows, n)
                yield piece.rows(np.arange(start, stop)) if isinstance(piece, SparseBlock) else piece[start:stop]


def encode(rows: Any, schema: Schema, algorithm: Algorithm) -> Samples | Rows:
    """Rows as a model with this schema takes them.

    rows: a source (its `test`), a pyarrow Table, a pandas DataFrame, a dict of columns, a 2-D numpy array or a scipy
    sparse matrix. Further columns of named data, the label among them, are ignored; categories that training never
    saw count as missing. Raises UserError for what doesn't fit, with the row and column.
    """
    if schema.text:
        if not isinstance(rows, Source):
            raise UserError("the model reads text: give it a data source, or a prompt to `generate`")
        from trainer.data.encoding.text import Tokens, check_length, tokenized

        tokens = tokenized(rows, rows.files("test"), algorithm)
        check_length(tokens, 1, schema.columns, "data.test")
        return Tokens(tokens, schema.columns)
    if schema.sparse:
        return Rows(_sparse_pieces(rows, schema), schema.columns)
    return Rows(_pieces(rows, schema, "missing" in algorithm.takes), schema.columns)


def fill_values(schema: Schema) -> np.ndarray | None:
    """float32 [columns] to put in place of missing numbers, NaN in categorical columns; None if all stay."""
    if not schema.impute:
        return None
    return np.array([c.mean if c.kind == "numeric" else np.nan for c in schema.features], np.float32)


def _pieces(rows: Any, schema: Schema, takes_missing: bool) -> Pieces:
    if isinstance(rows, Source):
        if rows.sparse or rows.name == "text":
            raise UserError(f"data={rows.name} is not a table with columns, and the model learned from one")
        if (arrays := rows.arrays()) is not None:
            columns = {name: arrays.x[:, j] for j, name in enumerate(arrays.names)}
            return lambda: iter([Encoder(schema, takes_missing)(columns, Place())])
        return lambda: _file_pieces(rows, schema, takes_missing)
    columns = _columns(rows, schema)
    return lambda: _in_memory(columns, schema, takes_missing)


def _in_memory(columns: dict[str, Any], schema: Schema, takes_missing: bool) -> Iterator[np.ndarray]:
    encoder = Encoder(schema, takes_missing)
    yield encoder(columns, Place())
    encoder.tell()


def _file_pieces(source: Source, schema: Schema, takes_missing: bool) -> Iterator[np.ndarray]:
    files = source.files("test")
    if not files:
        raise UserError("data.test is not set: give the path of the rows to predict")
    # all, before the first is read
    chosen = {path: match(schema, partitions.names(source, path), path, optional=source.optional) for path in files}
    encoder = Encoder(schema, takes_missing, typed=source.typed, spelling=source.spelling)
    for path in files:
        for piece in partitions.batches(source, [path], chosen[path]):
            # the same file's columns under the names that training knew
            cells = {f.name: piece.batch.column(n) for f, n in zip(schema.features, chosen[path], strict=True)}
            yield encoder(cells, Place(piece.path, piece.first, source.row))
    encoder.tell()


def match(schema: Schema, names: Sequence[str], what: str, *, optional: bool = False) -> list[str]:
    """The names, in this data, of the features: by name, or by position where columns have none ("0", "1", …).

    Columns without names are all of the training file's, or all but its label, or the features alone, in their order.
    optional: some may be missing. Raises UserError for those that aren't there, and for a position with two meanings.
    """
    wanted = [f.name for f in schema.features]
    if (
        list(names) == [str(i) for i in range(len(names))]
        and len(names)
        and (missing_names(wanted, names) or _unnamed(schema))
    ):
        return _by_position(schema, wanted, names, what)
    missing = missing_names(wanted, names)
    if missing and not (optional and len(missing) < len(wanted)):
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise UserError(
            f"{what}: there is no column {missing[0]!r}{more}, which the model learned from; "
            + did_you_mean(missing[0], names)
        )
    return wanted


def missing_names(wanted: Sequence[str], names: Sequence[str]) -> list[str]:
    return [name for name in wanted if name not in names]


def _unnamed(schema: Schema) -> bool:
    """Whether the training file had no names for its columns."""
    known = schema.names or [c.name for c in (*schema.features, *([schema.label] if schema.label else []))]
    return set(known) == {str(i) for i in range(len(known))}


def _by_position(schema: Schema, wanted: Sequence[str], names: Sequence[str], what: str) -> list[str]:
    label = schema.label.name if schema.label else None
    file = list(schema.names) or sorted([*wanted, *([label] if label else [])], key=_number)
    without = [name for name in file if name != label]
    ways = [
        [names[layout.index(one)] for one in wanted]
        for layout in (file, without, list(wanted))
        if len(layout) == len(names) and all(one in layout for one in wanted)
    ]
    if not ways:
        raise _wrong_width(what, len(names), schema, len(file), len(without))
    if any(way != ways[0] for way in ways):
        raise UserError(
            f"{what}: {len(names)} columns without names are the training file's without its label, or "
            f"{', '.join(wanted)} in this order; give columns with names, or all {len(file)} of the file"
        )
    return ways[0]


def _number(name: str) -> int:
    return int(name) if name.isdigit() else 1 << 62


def _wrong_width(what: str, found: int, schema: Schema, file: int, without: int) -> UserError:
    wanted = len(schema.features) or schema.columns
    ways = [] if without == wanted else [f"{without} as the training file without its label"]
    ways += [] if file in (wanted, without) else [f"{file} with the label"]
    also = f" (or {', '.join(ways)})" if ways else ""
    return UserError(
        f"{what}: has {found} columns, and the model learned from {wanted}{also}; give these, in this order"
    )


def _columns(rows: Any, schema: Schema) -> dict[str, Any]:
    """The columns of a table or of arrays, under the names that training knew."""
    if _is_sparse(rows):
        raise UserError("the rows are a sparse matrix, and the model learned from a table; give it rows.toarray()")
    named: dict[str, Any]
    if rows is None or isinstance(rows, (str, bytes)):
        raise UserError("the rows are a DataFrame, a dict of columns or an array; of a file, a data source")
    if isinstance(rows, (list, tuple)) and rows and all(isinstance(row, dict) for row in rows):
        rows = {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}
    if isinstance(rows, dict):
        named = {str(k): _column_of(v, str(k)) for k, v in rows.items()}
        lengths = {name: len(v) for name, v in named.items()}
        if len(set(lengths.values())) > 1:
            raise UserError(f"the columns differ in length: {lengths}")
    elif hasattr(rows, "column_names"):  # a pyarrow Table
        _check_names(rows.column_names)
        named = {name: rows.column(name) for name in rows.column_names}
    elif hasattr(rows, "iloc"):  # of pandas
        if not hasattr(rows, "columns"):
            raise UserError(
                "the rows are a Series, which is one column or one row; give a DataFrame: rows.to_frame().T"
            )
        _check_names([str(name) for name in rows.columns])
        named = {str(name): rows[name] for name in rows.columns}
    elif hasattr(rows, "__arrow_c_stream__"):  # a DataFrame of another library
        import pyarrow as pa

        return _columns(pa.table(rows), schema)
    else:
        array = rows if isinstance(rows, np.ndarray) else np.asarray(rows)
        if array.ndim != 2:
            raise UserError(f"the rows have {array.ndim} dimensions and not 2: one row is rows.reshape(1, -1)")
        named = {str(i): _column_of(array[:, i], str(i)) for i in range(array.shape[1])}
    chosen = match(schema, list(named), "the rows")
    return {f.name: named[name] for f, name in zip(schema.features, chosen, strict=True)}


def _check_names(names: Sequence[str]) -> None:
    for i, name in enumerate(names):
        if name in names[:i]:
            raise UserError(f"the rows have two columns that are called {name!r}; rename one")


def _column_of(cells: Any, name: str) -> Any:
    """One column, in which what a mask hides is missing. Raises UserError for a single value."""
    import pyarrow as pa

    if isinstance(cells, (pa.Array, pa.ChunkedArray)):
        return cells
    if np.ndim(cells) != 1:
        raise UserError(
            f"the rows: column {name!r} has {np.ndim(cells)} dimensions and not 1; a single row's is [value]"
        )
    if isinstance(cells, np.ma.MaskedArray):
        return pa.array(native(cells.data), mask=np.ma.getmaskarray(cells))
    if isinstance(cells, (list, tuple)) and any(cell is None for cell in cells):
        return pa.array(cells)
    array = np.asarray(cells)
    return native(array) if array.dtype.kind in "iuf" else array


class Encoder:
    """Encodes pieces of rows as training encoded its own: float32 [n, features]."""

    def __init__(self, schema: Schema, takes_missing: bool, *, typed: bool = True, spelling: Spelling = PLAIN) -> None:
        self.fill, self.takes_missing = fill_values(schema), takes_missing
        self.features = [
            Feature(
                name=known.name,
                kind=known.kind,
                time=known.time,
                span=known.span,
                typed=typed,
                **asdict(spelling),
                frozen=True,
                categories={word: code for code, word in enumerate(known.categories)},
                origin=known.origin,
                unit=known.unit,
            )
            for known in schema.features
        ]

    def __call__(self, columns: dict[str, Any], place: Place) -> np.ndarray:
        """Raises UserError for cells that don't fit, with the row and column."""
        first = next(iter(columns.values()), ())
        x = np.empty((len(first), len(self.features)), np.float32)
        for j, feature in enumerate(self.features):
            feature.missing = None
            with np.errstate(over="ignore"):
                x[:, j] = feature.encode(_arrow(columns[feature.name], feature.name), place)
            _check_width(x[:, j], feature.name, place)
            if feature.missing and feature.kind == "numeric" and self.fill is None and not self.takes_missing:
                where = place(feature.missing[1] - place.first)
                raise UserError(
                    f"{where}, column {feature.name!r}: the cell is missing, which the model does not take; fill it in"
                )
        if self.fill is not None:
            np.copyto(x, self.fill, where=np.isnan(x))
        return x

    def tell(self) -> None:
        """Warns of columns a good part of whose categories training never saw."""
        for line in told_unknown(self.features):
            warnings.warn(line, stacklevel=2)


def _check_width(x: np.ndarray, name: str, place: Place) -> None:
    infinite = np.isinf(x)
    if infinite.any():
        raise UserError(
            f"{place(int(infinite.argmax()))}, column {name!r}: the number is too large for what the model learned; mend the cell"
        )


def _arrow(cells: Any, name: str) -> Any:
    import pyarrow as pa

    if isinstance(cells, (pa.Array, pa.ChunkedArray)):
        return cells
    try:
        return pa.array(cells, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):  # numbers and words in one column
        return pa.array([None if _is_missing(c) else str(c) for c in cells], pa.string())


def _is_missing(cell: Any) -> bool:
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(cell, (float, np.floating)) and bool(np.isnan(cell))


def _is_sparse(rows: Any) -> bool:
    return hasattr(rows, "tocsr")


def _sparse_pieces(rows: Any, schema: Schema) -> Pieces:
    if isinstance(rows, Source):
        if not rows.sparse:
            raise UserError(f"data={rows.name} is a table, and the model learned from sparse rows; give it data=libsvm")
        return lambda: _libsvm_pieces(rows, schema)
    from scipy.sparse import csr_matrix

    matrix = rows.tocsr() if _is_sparse(rows) else csr_matrix(np.asarray(rows))
    if (kept := _kept(schema)) is not None:  # column j of the matrix is the file's j-th
        block = SparseBlock(
            matrix.indptr.astype(np.int64), matrix.indices + schema.sparse_base, matrix.data.astype(np.float32)
        )
        return lambda: iter([fitted(block, 0, schema.columns, kept)])
    if matrix.shape[1] != schema.columns:
        raise _wrong_width("the rows", matrix.shape[1], schema, schema.columns, schema.columns)
    block = SparseBlock(matrix.indptr.astype(np.int64), matrix.indices, matrix.data.astype(np.float32))
    return lambda: iter([block])


def _kept(schema: Schema) -> np.ndarray | None:
    return np.array(schema.sparse_columns) if schema.sparse_columns else None


def _libsvm_pieces(source: Source, schema: Schema) -> Iterator[SparseBlock]:
    files = source.files("test")
    if not files:
        raise UserError("data.test is not set: give the path of the rows to predict")
    for piece in source.batches(files):
        block = table.sparse_block(piece.batch.column("indices"), piece.batch.column("values"))
        yield fitted(block, schema.sparse_base, schema.columns, _kept(schema))
