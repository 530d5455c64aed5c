"""Reads JSON lines in blocks."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from trainer.data.files import paths
from trainer.data.source import Piece
from trainer.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

_BLOCK = 4 << 20  # bytes of text parsed at once
_HEAD = 100  # rows looked at for the names of columns


def jsonl_names(path: str, *, head: bool = False) -> list[str]:
    """The keys of all rows, in order of appearance; of the first hundred where `head`."""
    return _head_names(path) if head else list(_all_names(*paths.fingerprint(path)))


def _head_names(path: str) -> list[str]:
    names: dict[str, None] = {}
    with paths.open_file(path) as file:
        for number, line in enumerate(file):
            if line.strip():
                names.update(dict.fromkeys(_object(path, number, line)))
            if number >= _HEAD:
                break
    return _any(names, path)


@lru_cache(maxsize=256)
def _all_names(path: str, *stamp: int) -> tuple[str, ...]:
    """stamp: changes when the file does."""
    import pyarrow as pa

    names = dict.fromkeys(_head_names(path))
    first = 0
    for block in _whole_lines(path):
        if block.strip():
            try:
                names.update(dict.fromkeys(_parse(block, {}).column_names))
            except pa.ArrowInvalid:  # read_jsonl says what is wrong, if something is
                for number, line in enumerate(block.splitlines(), first):
                    if line.strip():
                        names.update(dict.fromkeys(_object(path, number, line)))
        first += block.count(b"\n")
    return tuple(names)


def _any(names: dict[str, None], path: str) -> list[str]:
    if not names:
        raise UserError(f"{path}: the file holds no rows")
    return list(names)


def read_jsonl(path: str, columns: Sequence[str] | None) -> Iterator[Piece]:
    """Typed cells; a key that a row lacks is a missing cell. Raises UserError for a line that isn't an object."""
    import pyarrow as pa

    names = jsonl_names(path) if columns is None else list(columns)
    strings: dict[str, pa.DataType] = {}  # what Arrow takes for times
    first = 0
    for block in _whole_lines(path):
        if not block.strip():
            continue
        try:
            table = _parse(block, strings)
            times = {f.name: pa.string() for f in table.schema if pa.types.is_timestamp(f.type)}
            if times:
                strings.update(times)
                table = _parse(block, strings)
        except pa.ArrowInvalid as error:
            if broken := paths.find_not_utf8(path):
                raise broken from None
            raise _explain(path, first, block, error) from None
        empty = pa.nulls(table.num_rows)
        cells = [table[name].combine_chunks() if name in table.column_names else empty for name in names]
        cells = [c.chunk(0) if isinstance(c, pa.ChunkedArray) else c for c in cells]
        yield Piece(path, first, pa.RecordBatch.from_arrays(cells, names=names))
        first += table.num_rows


def _parse(block: bytes, strings: Mapping[str, pa.DataType]) -> pa.Table:
    import pyarrow as pa
    from pyarrow import json as arrow

    return arrow.read_json(
        io.BytesIO(block),
        read_options=arrow.ReadOptions(use_threads=False, block_size=max(len(block) + 1, 1024)),
        parse_options=arrow.ParseOptions(explicit_schema=pa.schema(strings)) if strings else None,
    )


def _whole_lines(path: str) -> Iterator[bytes]:
    with paths.open_file(path) as file:
        while block := file.read(_BLOCK):
            yield block + file.readline()


def _object(path: str, number: int, line: bytes) -> dict[str, object]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        text = line.decode(errors="replace").strip()
        if number == 0 and text.startswith("["):
            raise UserError(
                f"{path}: is a JSON array, and jsonl has an object a line; convert it: jq -c '.[]' FILE > NEW.jsonl"
            )
        if number == 0 and text in ("{", "}"):
            raise UserError(
                f"{path}: an object goes over several lines, and jsonl has one a line; convert it: jq -c . FILE > NEW.jsonl"
            )
        raise UserError(f"{path}, row {number + 1}: {text[:60]!r} is not a JSON object")
    return row


def _explain(path: str, first: int, block: bytes, error: Exception) -> UserError:
    """The row in which something is no JSON, or of another type than in the row above."""
    kinds: dict[str, str] = {}
    for number, line in enumerate(block.splitlines(), first):
        if not line.strip():
            continue
        try:
            row = _object(path, number, line)
        except UserError as broken:
            return broken
        for name, cell in row.items():
            if cell is None:
                continue
            kind = {bool: "true or false", int: "number", float: "number", str: "string"}.get(type(cell), "nested")
            if kinds.setdefault(name, kind) != kind:
                return UserError(
                    f"{path}, row {number + 1}, column {name!r}: {cell!r} is not a {kinds[name]} as in the rows above"
                )
    return UserError(f"{path}: can't be read as jsonl: {' '.join(str(error).split())[:200]}")
