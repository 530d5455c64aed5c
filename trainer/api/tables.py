"""DataFrames, arrays and the like as Arrow tables: with the cells that they have, or a line that says what can't be kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainer.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

LABEL = "label"  # what the label of a pair (X, y) is called, if it has no name of its own
TAKEN = "a DataFrame, a 2-D array, a pair (X, y), a dict of columns or a pyarrow Table"


def table_of(value: Any, what: str) -> pa.Table:
    """A table with the value's columns; of an array without names they are called "0", "1", …

    value: a DataFrame of pandas, or of another library that gives Arrow's; a pyarrow Table; a dict of columns; numbers
    [rows, columns] as an array, a tensor or a list. A nameless index is left out, and a named one kept as an index. Missing
    cells are null. what: what it is called in errors. Raises UserError, with the column, for what no file can hold.
    """
    import pyarrow as pa

    if isinstance(value, pa.RecordBatch):
        value = pa.Table.from_batches([value])
    if isinstance(value, pa.Table):
        columns: dict[str, Any] = dict(_named(value.column_names, value.columns, what))
        return _checked(columns, what)
    if hasattr(value, "iloc"):
        return _of_pandas(value, what)
    if hasattr(value, "__arrow_c_stream__"):
        return table_of(pa.table(value), what)
    if isinstance(value, Mapping):
        return _checked({str(name): _column(cells, str(name), what) for name, cells in value.items()}, what)
    return _of_array(value, what)


def pair_of(x: Any, y: Any, what: str, label: str | None = None) -> tuple[pa.Table, str]:
    """The table of X with y as its last column, and what that is called: `label`, its own name, or "label".

    y: a Series, or as many cells as X has rows, [n] or [n, 1]. Raises UserError.
    """
    import numpy as np
    import pyarrow as pa

    table = table_of(x, f"{what}: X")
    own = getattr(y, "name", None)
    if hasattr(y, "iloc") and hasattr(y, "columns"):
        if len(y.columns) != 1:
            raise UserError(
                f"{what}: of a pair (X, y) y is the label, and this one has {len(y.columns)} columns; two sets of rows are "
                "{'train': …, 'validation': …}"
            )
        own, y = y.columns[0], y.iloc[:, 0]
    label = label or (own if isinstance(own, str) else LABEL)
    if label in table.column_names:
        raise UserError(f"{what}: X has a column {label!r}, as y is called; take it out of X, or rename y")
    if isinstance(y, (list, tuple)) or (hasattr(y, "__array__") and not hasattr(y, "iloc")):
        y = y if isinstance(y, np.ma.MaskedArray) else np.asarray(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim != 1:
            raise UserError(f"{what}: y is an array of shape {y.shape}; a label is [rows], a number or a word each")
    column = y if isinstance(y, (pa.Array, pa.ChunkedArray)) else _column(y, label, f"{what}: y")
    if len(column) != len(table):
        raise UserError(f"{what}: X has {len(table):,} rows and y {len(column):,}; give a label for each row")
    return _checked({**dict(zip(table.column_names, table.columns, strict=True)), label: column}, what), label


def coded(value: Any) -> list[str]:
    """The columns of a DataFrame that are categories although their values are not words."""
    found = []
    for name in getattr(value, "columns", ()) if hasattr(value, "iloc") else ():
        categories = getattr(getattr(value[name], "dtype", None), "categories", None)
        if categories is not None and getattr(categories.dtype, "kind", "O") in "iufb":
            found.append(str(name))
    return found


def _of_pandas(value: Any, what: str) -> pa.Table:
    if not hasattr(value, "columns"):
        raise UserError(f"{what}: a Series is one column; give a DataFrame, or a pair (X, y)")
    pairs = [(name, value.iloc[:, i]) for i, name in enumerate(value.columns)]
    index = []
    for i, name in enumerate(value.index.names):
        if name is not None:
            pairs.append((name, value.index.get_level_values(i)))
            index.append(str(name))
    named = _named([name for name, _ in pairs], [cells for _, cells in pairs], what)
    table = _checked({name: _column(cells, name, what) for name, cells in named}, what)
    # as pandas itself writes it down: such columns are not learned from
    return table.replace_schema_metadata({"pandas": json.dumps({"index_columns": index})}) if index else table


def _named(names: Sequence[Any], columns: Sequence[Any], what: str) -> list[tuple[str, Any]]:
    """The columns with names that are text. Raises UserError for names that are not, and for two that are the same."""
    seen: set[str] = set()
    for name in names:
        if isinstance(name, bool) or not (isinstance(name, str) or hasattr(name, "__index__")):
            several = "flatten the levels of the columns" if isinstance(name, tuple) else "rename it"
            raise UserError(
                f"{what}: the name of the column {name!r} is a {type(name).__name__} and not text; {several}"
            )
        if str(name) in seen:
            raise UserError(f"{what}: two columns are called {str(name)!r}; rename one")
        seen.add(str(name))
    return [(str(name), cells) for name, cells in zip(names, columns, strict=True)]


def _of_array(value: Any, what: str) -> pa.Table:
    import numpy as np

    if hasattr(value, "tocsr"):
        raise UserError(
            f"{what}: a sparse matrix is given as a file: sklearn.datasets.dump_svmlight_file(X, y, 'rows.libsvm'), "
            "then data=libsvm data.train=rows.libsvm"
        )
    if not (hasattr(value, "__array__") or isinstance(value, (list, tuple))):
        raise UserError(f"{what}: a value of type {type(value).__name__} holds no rows; give {TAKEN}")
    try:
        array = value if isinstance(value, np.ma.MaskedArray) else np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{what}: can't be read as an array: {str(error).splitlines()[0]}") from None
    if array.dtype.names:
        return _checked({name: _column(array[name], name, what) for name in array.dtype.names}, what)
    if array.ndim != 2:
        raise UserError(f"{what}: an array of shape {array.shape} is no table; give [rows, columns]")
    if not isinstance(array, np.ma.MaskedArray):
        array = np.asfortranarray(array)  # columns are read one by one
    return _checked({str(i): _column(array[:, i], str(i), what) for i in range(array.shape[1])}, what)


def _column(cells: Any, name: str, what: str) -> Any:
    """One column as Arrow has it. Raises UserError for cells of which no column is made."""
    import numpy as np
    import pyarrow as pa

    if isinstance(cells, (pa.Array, pa.ChunkedArray)):
        return cells
    mask = None
    if isinstance(cells, np.ma.MaskedArray):
        cells, mask = cells.data, np.ma.getmaskarray(cells)
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "iuf":
        from trainer.data.formats.blocks import native

        cells = native(cells)
    try:
        return pa.array(
            np.ascontiguousarray(cells) if isinstance(cells, np.ndarray) else cells, mask=mask, from_pandas=True
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, TypeError) as error:
        kinds = dict.fromkeys(type(cell).__name__ for cell in cells if cell is not None and cell == cell)
        if len(kinds) > 1:
            raise UserError(
                f"{what}: column {name!r} holds {' and '.join(list(kinds)[:3])}; make them all of one type, or leave it out"
            ) from None
        if "did not recognize" in str(error):
            raise UserError(
                f"{what}: column {name!r} holds objects of type {next(iter(kinds))}, which no file of rows does; leave it out"
            ) from None
        raise UserError(f"{what}: column {name!r} can't be kept: {str(error).splitlines()[0]}") from None


def _decoded(cells: Any) -> Any:
    """Categories as the values that they are."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = pa.string() if pa.types.is_string_view(cells.type.value_type) else cells.type.value_type
    chunks = cells.chunks if isinstance(cells, pa.ChunkedArray) else [cells]
    return pa.chunked_array([pc.cast(chunk.dictionary, kind).take(chunk.indices) for chunk in chunks], kind)


def _checked(columns: Mapping[str, Any], what: str) -> pa.Table:
    """A table of columns that a file can hold. Raises UserError."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = {name: len(cells) for name, cells in columns.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"{what}: the columns differ in length: {lengths}")
    if not any(lengths.values()):
        raise UserError(f"{what}: there are no rows" if lengths else f"{what}: there are no columns")
    kept = {}
    for name, cells in columns.items():
        if isinstance(cells.type, pa.BaseExtensionType):
            raise UserError(
                f"{what}: column {name!r} holds {cells.type.extension_name}, which no file of rows does; convert it"
            )
        if pa.types.is_dictionary(cells.type):
            cells = _decoded(cells)
        if pa.types.is_string_view(cells.type):
            cells = pc.cast(cells, pa.string())
        if pa.types.is_float16(cells.type):
            cells = pc.cast(cells, pa.float32())
        if pa.types.is_floating(cells.type):  # both are missing; so two of the same rows are equal
            cells = pc.if_else(pc.is_nan(cells), pa.scalar(None, cells.type), cells)
        kept[name] = cells
    return pa.table(kept)
