"""Writes encoded rows as a table of the cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainer.data.tables.order import BLOCK
from trainer.data.tables.table import DATA

if TYPE_CHECKING:
    import pyarrow as pa


class Writer:
    """Writes rows in record batches of exactly BLOCK (the last may be smaller), in the format of `datasets`."""

    def __init__(self, folder: Path, columns: int | None, *, labelled: bool, bounded: bool = False) -> None:
        import pyarrow as pa
        from datasets.arrow_writer import ArrowWriter

        if columns is None:
            fields = {"indices": pa.list_(pa.int32()), "values": pa.list_(pa.float32())}
        else:
            fields = {"x": pa.list_(pa.float32(), columns)}
        if labelled:
            fields["y"] = pa.float64()
        if bounded:
            fields["upper"] = pa.float64()
        self.schema = pa.schema(fields)
        self.writer = ArrowWriter(schema=self.schema, path=str(folder / DATA), writer_batch_size=BLOCK)
        self.waiting: list[pa.Table] = []
        self.rows = 0

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is not None:
            self.writer.close()
            return
        if self.rows:
            self._write(self._joined())
            self.writer.finalize()
        else:
            self.writer.close()

    def add(self, x: np.ndarray, *labels: np.ndarray | None) -> None:
        """labels: float64, and, if it is an interval, the upper bound."""
        import pyarrow as pa

        cells = [pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])]
        self._add([*cells, *(pa.array(one) for one in labels if one is not None)])

    def add_sparse(self, batch: pa.RecordBatch, y: np.ndarray) -> None:
        import pyarrow as pa

        self._add([batch.column("indices"), batch.column("values"), pa.array(y)])

    def _add(self, cells: list[pa.Array]) -> None:
        import pyarrow as pa

        self.waiting.append(pa.Table.from_arrays(cells, schema=self.schema))
        self.rows += len(cells[0])
        if self.rows >= BLOCK:
            table = self._joined()
            for block in _blocks(table):
                self._write(block)
            rest = table.slice(len(table) - len(table) % BLOCK)
            self.waiting, self.rows = [rest], len(rest)

    def _joined(self) -> pa.Table:
        import pyarrow as pa

        return pa.concat_tables(self.waiting)

    def _write(self, table: pa.Table) -> None:
        if len(table):
            self.writer.write_table(table.combine_chunks())


def _blocks(table: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, len(table) - BLOCK + 1, BLOCK):
        yield table.slice(start, BLOCK)
