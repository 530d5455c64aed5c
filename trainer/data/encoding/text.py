"""Opens text: tokenized once, kept as one flat file of numbers, cut into sequences."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.data.encoding.opened import Opened
from trainer.data.files import cache, paths
from trainer.data.files.naming import column
from trainer.data.formats import partitions
from trainer.data.schema import Schema
from trainer.data.source import Source
from trainer.data.tables import order
from trainer.data.tables.order import Order
from trainer.data.tables.samples import Samples
from trainer.errors import UserError

_TOKENS, _META = "tokens.bin", "tokens.json"


class Tokens(Samples):
    """Sequences of length + 1 tokens, each beginning where the one before has its last: int64 [n, length + 1], no y."""

    def __init__(self, tokens: np.ndarray, length: int, first: int = 0, rows: int | None = None) -> None:
        count = (len(tokens) - 1) // length - first if rows is None else rows
        row_bytes = float(tokens.itemsize * length)
        window = max(1, int(order.WINDOW / row_bytes))
        # windows of sequences side by side, so that memory-mapped pages are read near one another
        super().__init__(Order(count, 0, min(order.BLOCK, window), window), length, 8.0 * (length + 1))
        strides = (tokens.itemsize * length, tokens.itemsize)
        start = tokens[first * length :]
        self.sequences = np.lib.stride_tricks.as_strided(start, (count, length + 1), strides, writeable=False)

    def _take(self, ids: np.ndarray) -> tuple[Tensor, Tensor | None]:
        return torch.from_numpy(self.sequences[ids].astype(np.int64)), None


def open_text(source: Source, algorithm: Any, *, seed: int) -> Opened:
    """The sequences of a source's texts. A validation fraction is their end. Raises UserError if they are too short."""
    length = algorithm.sequence_length
    tokens = tokenized(source, source.files("train"), algorithm)
    rows = check_length(tokens, 2, length, "data.train")
    files = source.files("validation")
    fraction = float(source.validation) if isinstance(source.validation, (int, float)) else 0.0
    held = min(max(1, round(rows * fraction)), rows - 1) if fraction else 0
    schema = Schema(rows=rows - held, columns=length, text=True)
    validation: Samples | None = None
    if files:
        others = tokenized(source, files, algorithm)
        check_length(others, 1, length, "data.validation")
        validation = Tokens(others, length)
    elif held:
        validation = Tokens(tokens, length, rows - held)
    opened = Opened(schema, Tokens(tokens, length, 0, rows - held), validation)
    if files := source.files("test"):
        others = tokenized(source, files, algorithm)
        check_length(others, 1, length, "data.test")
        opened.test = Tokens(others, length)
    return opened


def check_length(tokens: np.ndarray, least: int, length: int, key: str) -> int:
    """How many sequences the tokens make. Raises UserError if fewer than `least`."""
    rows = max(0, (len(tokens) - 1) // length)
    if rows < least:
        raise UserError(
            f"{key} is too short: {len(tokens)} tokens make {rows} sequences of {length}, not {least}; "
            f"give more text or shorter sequences (gpt: algorithm.context)"
        )
    return rows


def tokenized(source: Source, files: Sequence[str], algorithm: Any) -> np.ndarray:
    """All tokens of these files in one memory-mapped array of uint16 or uint32, from the cache if made before."""
    if not files:
        raise UserError(
            f"data={source.name} holds no text, and {type(algorithm).__name__} takes text; choose data=text"
        )
    name = text_column(source, files)
    between = algorithm.end_of_text
    before = [paths.fingerprint(f) for f in files]
    parts = (source.name, name, between, algorithm.tokenizer_key(), before)
    key = cache.key("tokens", 2, *parts)

    def make(folder: Path) -> None:
        _write(folder, (algorithm.tokenize(text) for text in _texts(source, files, name, between)))
        paths.check_unchanged(before)

    return cache.kept(key, make, _read)


def text_column(source: Source, files: Sequence[str]) -> str:
    """The column that holds the text: the only one chosen, else the only one with strings that aren't numbers."""
    if source.name == "text":
        return "text"
    names = partitions.names(source, files[0])
    if source.columns:
        chosen = [column(c, names, files[0], "columns") for c in source.columns]
    else:
        label = None if source.label is None else column(source.label, names, files[0], "label")
        chosen = [n for n in _string_columns(source, files) if n != label]
    if len(chosen) != 1:
        raise UserError(
            f"{files[0]}: which column is the text? set data.columns=[NAME]; there is {', '.join(chosen or names)}"
        )
    return chosen[0]


def _string_columns(source: Source, files: Sequence[str]) -> list[str]:
    from trainer.data.columns.features import Feature
    from trainer.data.files.cells import Place

    piece = next(iter(source.batches(files[:1])), None)
    if piece is None:
        return []
    found = []
    for name in piece.batch.schema.names:
        feature = Feature(name=name, typed=source.typed, long=True)
        feature.encode(piece.batch.column(name).slice(0, 100), Place(files[0]))
        if feature.kind == "categorical":
            found.append(name)
    return found


def _texts(source: Source, files: Sequence[str], name: str, between: str) -> Iterator[str]:
    """The texts in order; of a table, each row's with what stands between two of them."""
    from trainer.data.files import cells
    from trainer.data.files.cells import Place

    rows = source.name != "text"
    for piece in partitions.batches(source, files, [name]):
        words = cells.plain(piece.batch.column(name), name, Place(piece.path, piece.first, source.row))
        for text in words.to_pylist():
            if text:
                yield str(text)
                if rows:
                    yield between


def _write(folder: Path, pieces: Iterable[Any]) -> None:
    """uint16 until a token does not fit; then what is there is widened."""
    kind: np.dtype[Any] = np.dtype(np.uint16)
    path = folder / _TOKENS
    file = open(path, "wb")  # noqa: SIM115 - reopened below
    count = 0
    try:
        for piece in pieces:
            tokens = np.asarray(piece)
            if kind == np.uint16 and len(tokens) and tokens.max() > 0xFFFF:
                kind = np.dtype(np.uint32)
                file.close()
                file = _widen(path)
            file.write(tokens.astype(kind).tobytes())
            count += len(tokens)
    finally:
        file.close()
    (folder / _META).write_text(json.dumps({"dtype": kind.name, "tokens": count}))


def _widen(path: Path) -> Any:
    narrow = path.rename(path.with_suffix(".narrow"))
    file = open(path, "wb")  # noqa: SIM115 - the caller closes it
    with open(narrow, "rb") as old:
        while len(tokens := np.fromfile(old, np.uint16, 1 << 20)):
            file.write(tokens.astype(np.uint32).tobytes())
    narrow.unlink()
    return file


def _read(folder: Path) -> np.ndarray:
    meta = json.loads((folder / _META).read_text())
    if not meta["tokens"]:
        return np.empty(0, np.dtype(meta["dtype"]))
    return np.memmap(folder / _TOKENS, np.dtype(meta["dtype"]), "r", shape=(meta["tokens"],))
