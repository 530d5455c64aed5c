"""Reads delimited text in blocks, every cell as the string it is."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import BinaryIO

from trainer.data.files import paths
from trainer.data.files.naming import column
from trainer.data.files.spelling import otherwise
from trainer.data.source import Piece, Source
from trainer.errors import UserError

_BLOCK = 4 << 20  # bytes of text parsed at once
csv.field_size_limit(1 << 31)  # a cell may be a whole document


def csv_names(path: str, *, header: bool, delimiter: str) -> list[str]:
    """The names of the columns: from the first line, or "0", "1", … where there is no header."""
    with paths.open_file(path) as file:
        text = _text(file)
        reader = csv.reader(text, delimiter=_one(delimiter))
        first = next((row for row in reader if row), None)
        alone = text.newlines == "\r"
    if first is None:
        raise UserError(f"{path}: the file holds no rows")
    if alone:
        raise UserError(f"{path}: its lines end with carriage returns alone; convert them: tr '\\r' '\\n' < FILE > NEW")
    if not header:
        return [str(i) for i in range(len(first))]
    names = [name.strip() for name in first]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise UserError(f"{path}: two columns are called {name!r}; rename one, or set data.header=false")
    return names


def csv_head(path: str, *, header: bool, delimiter: str, rows: int = 200) -> list[list[str]]:
    """The cells of the first rows, column by column."""
    with paths.open_file(path) as file:
        reader = (row for row in csv.reader(_text(file), delimiter=delimiter) if row)
        head = list(islice(reader, int(header), rows))
    return [list(column) for column in zip(*head)]  # noqa: B905 - a row of another width is read_csv's to refuse


def check_spelling(source: Source, path: str, head: Sequence[Sequence[str]]) -> None:
    """Raises UserError if the head of a file, its columns' first cells, shows one whose numbers or dates are spelled otherwise."""
    names = source.names(path)
    asked = {
        key: {column(c, names, path, key) for c in getattr(source, key) or []}
        for key in ("columns", "drop", "categorical")
    }
    for name, cells in zip(names, head, strict=False):
        chosen = not asked["columns"] or name in asked["columns"]
        if not chosen or name in asked["drop"] or name in asked["categorical"]:
            continue
        if problem := otherwise(name, cells, source.spelling):
            raise UserError(f"{path}: {problem}")


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
                _after_header(file, delimiter) if header else file,
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


def _after_header(file: BinaryIO, delimiter: str) -> BinaryIO:
    """The file from behind its first row that isn't blank, which may go over several lines."""
    lines = (line.decode(errors="replace") for line in iter(file.readline, b""))
    next((row for row in csv.reader(lines, delimiter=delimiter) if row), None)
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


def _text(file: BinaryIO) -> io.TextIOWrapper:
    # csv.reader takes lines; an undecodable byte is reported by whoever reads that far
    return io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")


def _one(delimiter: str) -> str:
    if len(delimiter) != 1:
        raise UserError(f"data.delimiter={delimiter!r} must be one character")
    return delimiter
