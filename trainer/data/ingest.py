"""One streaming pass that turns a source's files into an encoded table of the cache."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainer.data import cache, partitions, paths
from trainer.data.cells import Place, different
from trainer.data.columns import Feature
from trainer.data.labels import Label
from trainer.data.naming import column
from trainer.data.narrowing import EXACT, Narrowed, Watch, lost_in_sparse
from trainer.data.order import BLOCK
from trainer.data.sources import Piece, Source
from trainer.data.table import DATA, KEPT, META, Table, of_folder
from trainer.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

_VERSION = 3  # of what the cache holds
_WIDE, _FEW_AMONG = 1 << 20, 4  # of more sparse columns only those that are there get a place, if they are so few


def ingest(source: Source, files: Sequence[str], like: Table | None = None) -> Table:
    """The table of these files, from the cache if they were parsed before.

    like: the training table, whose columns and categories a validation table shares.
    Raises UserError for what can't be read, with file, row and column.
    """
    parsing = {k: v for k, v in vars(source).items() if k not in ("train", "validation", "test", "missing", "changed")}
    training = like.entry.name if like and like.entry else None
    before = [paths.fingerprint(f) for f in files]

    def parse(folder: Path) -> None:
        (_sparse if source.sparse else _dense)(source, files, like, folder)
        paths.check_unchanged(before)

    return cache.kept(cache.key(_VERSION, source.name, parsing, before, training), parse, of_folder)


@dataclass(frozen=True)
class Choice:
    """What is taken of a file's columns (`names`, in its order): `features`, `label`, and what is not."""

    names: list[str]
    features: list[str]
    label: str | None

    @property
    def left_out(self) -> list[str]:
        return [n for n in self.names if n not in self.features and n != self.label]


def choose(source: Source, files: Sequence[str]) -> Choice:
    """The columns to learn from and the label. Raises UserError for those that aren't there.

    What the file itself calls an index is not learned from unless it is named in data.columns.
    """
    path = files[0]
    names = partitions.names(source, path)
    label = None if source.label is None else column(source.label, names, path, "label")
    dropped = {column(c, names, path, "drop") for c in source.drop or []}
    if label in dropped:
        raise UserError(f"data.drop holds the label {label!r}: take it out")
    if source.columns is None:
        index = set(source.index(path))
        features = [n for n in names if n != label and n not in dropped and n not in index]
    else:
        features = list(dict.fromkeys(column(c, names, path, "columns") for c in source.columns))
        if label in features:
            raise UserError(f"data.columns holds the label {label!r}: take it out")
        if both := [n for n in features if n in dropped]:
            raise UserError(f"data.columns and data.drop both hold {both[0]!r}: take it out of one")
    if not features:
        raise UserError(f"{path} has no column to learn from besides the label {label!r}")
    return Choice(names, features, label)


def check_columns(source: Source, files: Sequence[str], needed: Sequence[str]) -> None:
    """Raises UserError if a file lacks one of these columns, or all where the format may leave some out."""
    for path in files:
        names = partitions.names(source, path)
        absent = [name for name in needed if name not in names]
        if absent and not (source.optional and len(absent) < len(needed)):
            raise UserError(
                f"{path} has no column {absent[0]!r}, which {_others(files, path)}: {did_you_mean(absent[0], names)}"
            )


def _others(files: Sequence[str], path: str) -> str:
    return "the training data has" if path == files[0] else f"{Path(files[0]).name} has"


def _encoders(source: Source, choice: Choice, path: str) -> tuple[list[Feature], Label | None]:
    forced = {column(c, choice.names, path, "categorical") for c in source.categorical or []}
    spelled = {"typed": source.typed, **asdict(source.spelling)}
    features = [
        Feature(name=n, kind="categorical", long=True) if n in forced else Feature(name=n, **spelled)
        for n in choice.features
    ]
    label = None if choice.label is None else Label(name=choice.label, forced=choice.label in forced, **spelled)
    return features, label


def _dense(source: Source, files: Sequence[str], like: Table | None, folder: Path) -> None:
    """One pass, and another one where the first has shown that numbers have to be held otherwise."""
    if like:
        features, label = followers(like)
        rows = _pass(source, files, folder, features, label, None)
        _describe(folder, features, label, rows, len(features), names=like.names, left_out=like.left_out)
        return
    choice = choose(source, files)
    features, label = _encoders(source, choice, files[0])
    watches = [Watch() for _ in features]
    rows = _pass(source, files, folder, features, label, watches)
    found = [
        Narrowed() if feature.kind == "categorical" else watch.verdict()
        for feature, watch in zip(features, watches, strict=True)
    ]
    ids = label is not None and label.beyond and bool(label.candidates())
    if ids or any((one.origin, one.unit) != (0.0, 1.0) for one in found):
        (folder / DATA).unlink()
        features, fresh = _encoders(source, choice, files[0])
        for feature, one in zip(features, found, strict=True):
            feature.origin, feature.unit = one.origin, one.unit
        if fresh is not None and label is not None:
            fresh = replace(
                fresh, kind="id" if ids else None, origin=label.origin, distinct=label.distinct, left=label.left
            )
        label = fresh
        rows = _pass(source, files, folder, features, label, None)
    for feature, one in zip(features, found, strict=True):
        if one.loses:
            feature.distinct, feature.left = one.distinct, one.left
    _describe(folder, features, label, rows, len(features), names=choice.names, left_out=choice.left_out)


def _pass(
    source: Source,
    files: Sequence[str],
    folder: Path,
    features: list[Feature],
    label: Label | None,
    watches: list[Watch] | None,
) -> int:
    """Encodes and writes all rows, and returns how many. watches: see what float32 does to each feature; with them it is seen of
    the label too."""
    needed = [f.name for f in features] + ([label.name] if label else [])
    check_columns(source, files, needed)
    rows = 0
    watch = Watch()
    with _Writer(folder, len(features), labelled=label is not None) as writer:
        for piece in partitions.batches(source, files, needed):
            place = _place(source, piece)
            x = np.empty((piece.batch.num_rows, len(features)), np.float32)
            for j, feature in enumerate(features):
                values = feature.encode(piece.batch.column(feature.name), place)
                if watches is not None:
                    watches[j].time = feature.time
                    watches[j].see(values)
                    if watches[j].largest >= EXACT:
                        watches[j].merges(different(piece.batch.column(feature.name)), values)
                with np.errstate(over="ignore"):  # seen by its watch
                    x[:, j] = values
            y = label.encode(piece.batch.column(label.name), place) if label else None
            if y is not None and watches is not None:
                watch.see(y)
            writer.add(x, y)
            rows += len(x)
    if not rows:
        raise UserError(f"{', '.join(files)}: there are no rows")
    if label is not None and not label.coded and watches is not None:
        found = watch.verdict()
        label.origin, label.distinct, label.left = found.origin, found.distinct, found.plain
    return rows


def followers(like: Table) -> tuple[list[Feature], Label | None]:
    """Encoders for further data of the same columns: no new categories, and the labels' codes go on."""
    features = [
        replace(
            f, kind=f.kind or "numeric", frozen=True, categories=dict(f.categories), missing=None, unknown=0, known=0
        )
        for f in like.features
    ]
    if like.label is None:
        return features, None
    known = dict(like.label.values or {}) if like.label.coded else {}
    return features, replace(like.label, values=known, rows=0, beyond=False)


def _sparse(source: Source, files: Sequence[str], like: Table | None, folder: Path) -> None:
    from trainer.data.reading import libsvm_line

    label, watch = Label(name="label"), Watch()
    base, width, rows = 1, 0, 0
    seen, notes = np.empty(0, np.int64), []
    with _Writer(folder, None, labelled=True) as writer:
        for piece in source.batches(files):
            batch, place = piece.batch, _place(source, piece)
            indices = batch.column("indices").flatten().to_numpy(zero_copy_only=False)
            values = batch.column("values").flatten().to_numpy(zero_copy_only=False)
            if not np.isfinite(values).all():
                entry = int((~np.isfinite(values)).argmax())
                at = int(np.searchsorted(batch.column("indices").offsets.to_numpy(), entry, side="right")) - 1
                where = f"{piece.path}, line {libsvm_line(piece.path, piece.first + at)}, index {indices[entry]}"
                raise UserError(f"{where}: {values[entry]} is no finite number of single precision; mend it")
            if not rows:
                notes = lost_in_sparse(indices, batch.column("exact").flatten().to_numpy(zero_copy_only=False))
            y = label.encode(_whole(batch.column("label")), place)
            watch.see(y)
            if len(indices):
                base, width = min(base, int(indices.min())), max(width, int(indices.max()) + 1)
                seen = np.union1d(seen, indices)
            writer.add_sparse(batch, y)
            rows += len(y)
    if not rows:
        raise UserError(f"{', '.join(files)}: there are no rows")
    if label.beyond and label.candidates():
        raise UserError(f"{files[0]}: labels beyond 2^53 are not told apart in this format; number the classes from 0")
    if not label.coded:
        found = watch.verdict()
        label.origin, label.distinct, label.left = found.origin, found.distinct, found.plain
    columns, kept = width - base, None
    if like:
        base, columns, kept = like.base, like.columns, like.kept
    elif columns > _WIDE and _FEW_AMONG * len(seen) < columns:
        kept, columns = seen, len(seen)
    if kept is not None:
        np.save(folder / KEPT, kept)
    _describe(folder, [], label, rows, columns, sparse=True, base=base, notes=notes)


def _whole(labels: pa.Array) -> pa.Array:
    """Integers if all are whole: the format has no types."""
    import pyarrow.compute as pc

    try:
        return pc.cast(labels, "int64")
    except ValueError:
        return labels


def _place(source: Source, piece: Piece) -> Place:
    return Place(piece.path, piece.first, source.row)


def _describe(
    folder: Path,
    features: list[Feature],
    label: Label | None,
    rows: int,
    columns: int,
    *,
    names: Sequence[str] = (),
    left_out: Sequence[str] = (),
    sparse: bool = False,
    base: int = 0,
    notes: Sequence[str] = (),
) -> None:
    target = None
    if label:
        known = label.values
        # pairs, since the keys of JSON's objects are strings
        target = {**asdict(label), "values": None if known is None else list(known.items())}
    meta = {
        "features": [asdict(f) for f in features],
        "label": target,
        "rows": rows,
        "columns": columns,
        "names": list(names),
        "left_out": list(left_out),
        "sparse": sparse,
        "base": base,
        "notes": list(notes),
    }
    (folder / META).write_text(json.dumps(meta))


class _Writer:
    """Writes rows in record batches of exactly BLOCK (the last may be smaller), in the format of `datasets`."""

    def __init__(self, folder: Path, columns: int | None, *, labelled: bool) -> None:
        import pyarrow as pa
        from datasets.arrow_writer import ArrowWriter

        if columns is None:
            fields = {"indices": pa.list_(pa.int32()), "values": pa.list_(pa.float32())}
        else:
            fields = {"x": pa.list_(pa.float32(), columns)}
        if labelled:
            fields["y"] = pa.float64()
        self.schema = pa.schema(fields)
        self.writer = ArrowWriter(schema=self.schema, path=str(folder / DATA), writer_batch_size=BLOCK)
        self.waiting: list[pa.Table] = []
        self.rows = 0

    def __enter__(self) -> _Writer:
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

    def add(self, x: np.ndarray, y: np.ndarray | None) -> None:
        import pyarrow as pa

        cells = [pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])]
        self._add(cells if y is None else [*cells, pa.array(y)])

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
