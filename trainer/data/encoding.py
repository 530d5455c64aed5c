"""Encodes rows to be predicted as the training rows were, from the schema alone; refuses rows that don't fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from trainer.algorithm import Algorithm, Batch
from trainer.data import table
from trainer.data.columns import Feature, Place
from trainer.data.samples import Samples
from trainer.data.schema import Schema
from trainer.data.sources import Source
from trainer.data.sparse import fitted, tensors
from trainer.data.table import SparseBlock
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
        from trainer.data.text import Tokens, check_length, tokenized

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
            return lambda: iter([_encode(columns, schema, takes_missing, Place())])
        return lambda: _file_pieces(rows, schema, takes_missing)
    columns = _columns(rows, schema)
    return lambda: iter([_encode(columns, schema, takes_missing, Place())])


def _file_pieces(source: Source, schema: Schema, takes_missing: bool) -> Iterator[np.ndarray]:
    files = source.files("test")
    if not files:
        raise UserError("data.test is not set: give the path of the rows to predict")
    chosen = {path: _match(schema, source.names(path), path) for path in files}  # all, before the first is read
    for path in files:
        for piece in source.batches([path], chosen[path]):
            # the same file's columns under the names that training knew
            cells = {f.name: piece.batch.column(n) for f, n in zip(schema.features, chosen[path], strict=True)}
            place = Place(piece.path, piece.first, source.row)
            yield _encode(cells, schema, takes_missing, place, typed=source.typed)


def _match(schema: Schema, names: Sequence[str], what: str) -> list[str]:
    """The names, in this data, of the features. Raises UserError for those that aren't there.

    Columns without names ("0", "1", …) may come with the label's column or without it.
    """
    wanted = [f.name for f in schema.features]
    unnamed = list(names) == [str(i) for i in range(len(names))]
    label = schema.label.name if schema.label else None
    trained_on = wanted if label is None else [*wanted, label]
    if unnamed and {str(i) for i in range(len(trained_on))} == set(trained_on):
        if len(names) == len(wanted):
            return list(names)
        if len(names) != len(trained_on):
            raise _wrong_width(what, len(names), len(wanted), label is not None)
        return wanted
    missing = [name for name in wanted if name not in names]
    if missing and unnamed:
        if len(names) == len(wanted):
            return list(names)
        raise _wrong_width(what, len(names), len(wanted), False)
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise UserError(
            f"{what}: there is no column {missing[0]!r}{more}, which the model learned from; "
            + did_you_mean(missing[0], names)
        )
    return wanted


def _wrong_width(what: str, found: int, wanted: int, label: bool) -> UserError:
    also = f" (or {wanted + 1} with the label)" if label else ""
    return UserError(
        f"{what}: has {found} columns, and the model learned from {wanted}{also}; give these, in this order"
    )


def _columns(rows: Any, schema: Schema) -> dict[str, Any]:
    """The columns of a table or of arrays, under the names that training knew."""
    if _is_sparse(rows):
        raise UserError("the rows are a sparse matrix, and the model learned from a table; give it rows.toarray()")
    if isinstance(rows, dict):
        named = {str(k): np.asarray(v) for k, v in rows.items()}
        lengths = {name: len(v) for name, v in named.items()}
        if len(set(lengths.values())) > 1:
            raise UserError(f"the columns differ in length: {lengths}")
    elif hasattr(rows, "column_names"):  # a pyarrow Table
        named = {name: rows.column(name) for name in rows.column_names}
    elif hasattr(rows, "iloc"):  # a pandas DataFrame
        named = {str(name): rows[name].to_numpy() for name in rows.columns}
    else:
        array = np.asarray(rows)
        if array.ndim != 2:
            raise UserError(f"the rows have {array.ndim} dimensions and not 2: one row is rows.reshape(1, -1)")
        named = {str(i): array[:, i] for i in range(array.shape[1])}
    chosen = _match(schema, list(named), "the rows")
    return {f.name: named[name] for f, name in zip(schema.features, chosen, strict=True)}


def _encode(
    columns: dict[str, Any], schema: Schema, takes_missing: bool, place: Place, *, typed: bool = True
) -> np.ndarray:
    fill = fill_values(schema)
    first = next(iter(columns.values()), ())
    x = np.empty((len(first), len(schema.features)), np.float32)
    for j, known in enumerate(schema.features):
        categories = {word: code for code, word in enumerate(known.categories)}
        feature = Feature(name=known.name, kind=known.kind, typed=typed, frozen=True, categories=categories)
        x[:, j] = feature.encode(_arrow(columns[known.name], known.name), place)
        if feature.missing and known.kind == "numeric" and fill is None and not takes_missing:
            where = place(feature.missing[1] - place.first)
            raise UserError(
                f"{where}, column {known.name!r}: the cell is missing, which the model does not take; fill it in"
            )
    if fill is not None:
        np.copyto(x, fill, where=np.isnan(x))
    return x


def _arrow(cells: Any, name: str) -> Any:
    import pyarrow as pa

    if isinstance(cells, (pa.Array, pa.ChunkedArray)):
        return cells
    try:
        return pa.array(cells, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # numbers and words in one column
        return pa.array([None if c is None or c != c else str(c) for c in cells], pa.string())


def _is_sparse(rows: Any) -> bool:
    return hasattr(rows, "tocsr")


def _sparse_pieces(rows: Any, schema: Schema) -> Pieces:
    if isinstance(rows, Source):
        if not rows.sparse:
            raise UserError(f"data={rows.name} is a table, and the model learned from sparse rows; give it data=libsvm")
        return lambda: _libsvm_pieces(rows, schema)
    from scipy.sparse import csr_matrix

    matrix = rows.tocsr() if _is_sparse(rows) else csr_matrix(np.asarray(rows))
    if matrix.shape[1] != schema.columns:
        raise _wrong_width("the rows", matrix.shape[1], schema.columns, False)
    block = SparseBlock(matrix.indptr.astype(np.int64), matrix.indices, matrix.data.astype(np.float32))
    return lambda: iter([block])


def _libsvm_pieces(source: Source, schema: Schema) -> Iterator[SparseBlock]:
    files = source.files("test")
    if not files:
        raise UserError("data.test is not set: give the path of the rows to predict")
    for piece in source.batches(files):
        block = table.sparse_block(piece.batch.column("indices"), piece.batch.column("values"))
        yield fitted(block, schema.sparse_base, schema.columns)
