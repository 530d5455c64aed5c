"""Rows and their labels encoded as training encoded its own, from the schema alone: what a trained model is scored on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trainer.algorithm import Algorithm
from trainer.data.columns.bounds import UpperBound
from trainer.data.columns.groups import Groups
from trainer.data.columns.labels import Label
from trainer.data.columns.narrowing import EXACT
from trainer.data.encoding.rows import encode
from trainer.data.encoding.target import labels_for, refuse_unknown
from trainer.data.files.cells import Place
from trainer.data.files.spelling import PLAIN
from trainer.data.formats import partitions
from trainer.data.schema import Column, Schema
from trainer.data.source import Source
from trainer.data.tables.grouped import Grouped, groups_of
from trainer.data.tables.part import GroupPart
from trainer.data.tables.samples import InMemory, Samples
from trainer.data.tables.sparse import Sparse
from trainer.data.tables.table import SparseBlock
from trainer.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

Pair = tuple[Any, Any]


def labelled(rows: Source | pa.Table | Pair, schema: Schema, algorithm: Algorithm, target: str | None) -> Samples:
    """All rows in memory, with their labels as an algorithm with this schema and target learned them.

    rows: a source (its `test`) or a pyarrow Table, with the columns of the label and of what else it was learned with; of sparse
    rows also a pair, a scipy matrix [n, columns] and n labels. Raises UserError for what doesn't fit, with the row and column.
    """
    if schema.text:
        samples = encode(rows, schema, algorithm)
        assert isinstance(samples, Samples)
        return samples
    features = rows[0] if isinstance(rows, tuple) else rows
    parts = [x for x, _ in encode(features, schema, algorithm).chunks()]
    if not parts:
        raise UserError("data.test: there are no rows")
    y = None if schema.label is None else torch.from_numpy(_labels(rows, schema, schema.label, target))
    if schema.sparse:
        from scipy.sparse import vstack

        x = vstack(parts, format="csr")
        held: Samples = Sparse(SparseBlock(x.indptr.astype(np.int64), x.indices, x.data), schema.columns, y)
    else:
        held = InMemory(torch.from_numpy(np.concatenate(parts)), y)
    return held if schema.group is None else Grouped(held, GroupPart(_groups(rows, schema, schema.group)))


def _labels(rows: Source | pa.Table | Pair, schema: Schema, column: Column, target: str | None) -> np.ndarray:
    """int64 class numbers or float32 values."""
    source = rows if isinstance(rows, Source) else None
    spelling = PLAIN if source is None else source.spelling
    beyond = any(isinstance(one, int) and abs(one) >= EXACT for one in column.classes)
    label = Label(
        name=column.name,
        kind="string" if column.kind == "categorical" else "id" if beyond else "int",
        time=column.time,
        typed=source is None or source.typed,
        decimal=spelling.decimal,
        thousands=spelling.thousands,
        forced=True,  # it keeps all values, which are looked through for unknown ones
    )
    pieces = [(label.encode(cells, place), place) for cells, place in _cells(rows, schema, column.name, "label")]
    encoded = [values for values, _ in pieces]
    if target == "class":
        refuse_unknown(label, column.classes, Place().row if source is None else source.row, "data.test")
    if schema.label_upper_bound is not None:
        bound = UpperBound(name=schema.label_upper_bound, spelling=spelling)
        uppers = _cells(rows, schema, bound.name, "upper bound")
        encoded = [
            np.column_stack([lower, bound.encode(cells, place, label, lower)])
            for (lower, place), (cells, _) in zip(pieces, uppers, strict=True)
        ]
    return labels_for(schema, target, label)(np.concatenate(encoded))


def _groups(rows: Source | pa.Table | Pair, schema: Schema, name: str) -> np.ndarray:
    """int64, the group of each row."""
    groups = Groups(name)
    for cells, place in _cells(rows, schema, name, "group"):
        groups.encode(cells, place)
    source = rows if isinstance(rows, Source) else None
    return groups_of(groups.numbers, groups.missing, name, source, "data.test" if source else "the rows")


def _cells(rows: Source | pa.Table | Pair, schema: Schema, name: str, what: str) -> Iterator[tuple[pa.Array, Place]]:
    import pyarrow as pa

    if isinstance(rows, tuple) and what != "label":
        raise UserError(f"the rows: a pair (X, y) doesn't say the {what} of a row; give a file with them")
    if isinstance(rows, tuple):
        yield pa.array(np.asarray(rows[1])), Place()
        return
    if not isinstance(rows, Source):
        yield rows.column(_named(schema, name, rows.column_names, "the rows", what)), Place()
        return
    if (arrays := rows.arrays()) is not None:
        yield pa.array([arrays.classes[int(number)] for number in arrays.y]), Place()
        return
    for path in rows.files("test"):
        chosen = what if rows.sparse else _named(schema, name, partitions.names(rows, path), path, what)
        pieces = rows.batches([path]) if rows.sparse else partitions.batches(rows, [path], [chosen])
        for piece in pieces:
            yield piece.batch.column(chosen), Place(piece.path, piece.first, rows.row)


def _named(schema: Schema, name: str, names: Sequence[str], where: str, what: str) -> str:
    """What the label, or another such column, is called in this data: by its name, or by its position where all columns are there and have none."""
    unnamed = list(names) == [str(i) for i in range(len(names))]
    if unnamed and len(names) == len(schema.names):
        return names[schema.names.index(name)]
    learned_unnamed = list(schema.names) == [str(i) for i in range(len(schema.names))]
    if name not in names or (unnamed and learned_unnamed):
        raise UserError(f"{where}: there is no column {name!r}, the {what}; {did_you_mean(name, names)}")
    return name
