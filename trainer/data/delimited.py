"""Reads delimited text in blocks, every cell as the string it is."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from trainer.data import paths
from trainer.data.sources import Piece
from trainer.errors import UserError

_BLOCK = 4 << 20  # bytes of text parsed at once


def csv_names(path: str, *, header: bool, delimiter: str) -> list[str]:
    """The names of the columns: from the first line, or "0", "1", … where there is no header."""
    with paths.open_file(path) as file:
        reader = csv.reader(_text(file), delimiter=_one(delimiter))
        first = next((row for row in reader if row), None)
    if first is None:
        raise UserError(f"{path}: the file holds no rows")
    if not header:
        return [str(i) for i in range(len(first))]
    names = [name.strip() for name in first]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise UserError(f"{path}: two columns are called {name!r}; rename one, or set data.header=false")
    return names


def read_csv(path: str, columns: Sequence[str] | None, *, header: bool, delimiter: str) -> Iterator[Piece]:
    """The cells as strings, in batches of a few megabytes. Raises UserError for a row with too many or too few."""
    import pyarrow as pa
    from pyarrow import csv as arrow

    names = csv_names(path, header=header, delimiter=delimiter)
    wrong: list[int] = []

    def refuse(row: arrow.InvalidRow) -> str:
        wrong.append(row.actual_columns)
        return "error"

    first = 0
    with paths.open_file(path) as file:
        try:
            reader = arrow.open_csv(
                _after_header(file) if header else file,
                read_options=arrow.ReadOptions(block_size=_BLOCK, column_names=names, use_threads=False),
                parse_options=arrow.ParseOptions(
                    delimiter=delimiter, newlines_in_values=True, invalid_row_handler=refuse
                ),
                convert_options=arrow.ConvertOptions(
                    column_types={name: pa.string() for name in names},
                    strings_can_be_null=False,
                    include_columns=list(columns) if columns is not None else None,
                ),
            )
            for batch in reader:
                yield Piece(path, first, batch)
                first += batch.num_rows
        except pa.ArrowInvalid as error:
            raise _explain(path, len(names), wrong, header, delimiter, error) from None


def csv_line(path: str, number: int, *, header: bool, delimiter: str) -> int:
    """The line, from 1, on which row `number` begins: blank lines and cells over several lines counted in."""
    with paths.open_file(path) as file:
        reader = csv.reader(_text(file), delimiter=delimiter)
        before = 0
        left = number + header
        for row in reader:
            if row:
                if not left:
                    return before + 1
                left -= 1
            before = reader.line_num
    return before


def _after_header(file: BinaryIO) -> BinaryIO:
    """The file from the line after its first that isn't blank (a header keeps to one line)."""
    for line in iter(file.readline, b""):
        if line.strip():
            break
    return file


def _explain(path: str, width: int, wrong: list[int], header: bool, delimiter: str, error: Exception) -> UserError:
    """What Arrow's refusal to parse is to a person."""
    if broken := paths.find_not_utf8(path):
        return broken
    if wrong:
        with paths.open_file(path) as file:
            reader = csv.reader(_text(file), delimiter=delimiter)
            before = 0
            for row in reader:
                if row and len(row) != width:
                    return UserError(
                        f"{path}, row {before + 1}: {len(row)} cells where the first row has {width}; "
                        f"mend the row, or check data.delimiter={delimiter!r}"
                    )
                before = reader.line_num
    if "Empty CSV" in str(error):
        return UserError(f"{path}: the file holds no rows" + (" below its header" if header else ""))
    return UserError(f"{path}: can't be read as csv: {' '.join(str(error).split())}")


def _text(file: BinaryIO) -> Iterator[str]:
    # csv.reader takes lines; an undecodable byte is reported by whoever reads that far
    return io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")


def _one(delimiter: str) -> str:
    if len(delimiter) != 1:
        raise UserError(f"data.delimiter={delimiter!r} must be one character")
    return delimiter
