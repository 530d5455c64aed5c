"""One streaming pass that turns a source's files into an encoded table of the cache."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainer.data.columns.bounds import UpperBound
from trainer.data.columns.features import Feature
from trainer.data.columns.groups import Groups
from trainer.data.columns.labels import Label
from trainer.data.columns.narrowing import EXACT, Narrowed, Watch, lost_in_sparse
from trainer.data.files import cache, paths
from trainer.data.files.cells import Place, different
from trainer.data.files.naming import column
from trainer.data.formats import partitions
from trainer.data.formats.choice import Choice, check_columns, choose
from trainer.data.source import Piece, Source
from trainer.data.tables.table import DATA, KEPT, META, Table, of_folder
from trainer.data.tables.writer import Writer
from trainer.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

_VERSION = 5  # of what the cache holds
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


@dataclass
class _Beside:
    """What is kept of a row besides its features and its label."""

    groups: Groups | None = None
    upper: UpperBound | None = None

    @classmethod
    def of(cls, chosen: Choice | Table, source: Source) -> _Beside:
        groups = Groups(chosen.group) if chosen.group else None
        return cls(groups, UpperBound(name=chosen.upper, spelling=source.spelling) if chosen.upper else None)


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
        beside = _Beside.of(like, source)
        rows = _pass(source, files, folder, features, label, beside, None)
        _describe(folder, features, label, rows, len(features), beside, like)
        return
    choice = choose(source, files)
    features, label = _encoders(source, choice, files[0])
    beside = _Beside.of(choice, source)
    watches = [Watch() for _ in features]
    rows = _pass(source, files, folder, features, label, beside, watches)
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
        beside = _Beside.of(choice, source)
        rows = _pass(source, files, folder, features, label, beside, None)
    for feature, one in zip(features, found, strict=True):
        if one.loses:
            feature.distinct, feature.left = one.distinct, one.left
    _describe(folder, features, label, rows, len(features), beside, choice)


def _pass(
    source: Source,
    files: Sequence[str],
    folder: Path,
    features: list[Feature],
    label: Label | None,
    beside: _Beside,
    watches: list[Watch] | None,
) -> int:
    """Encodes and writes all rows, and returns how many. watches: see what float32 does to each feature; with them it is seen of
    the label too."""
    groups, upper = beside.groups, beside.upper
    needed = [f.name for f in features] + [one.name for one in (label, groups, upper) if one]
    check_columns(source, files, needed)
    rows = 0
    watch = Watch()
    with Writer(folder, len(features), labelled=label is not None, bounded=upper is not None) as writer:
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
            if groups:
                groups.encode(piece.batch.column(groups.name), place)
            if upper and label and y is not None:
                writer.add(x, y, upper.encode(piece.batch.column(upper.name), place, label, y))
            else:
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
    from trainer.data.formats.blocks import libsvm_line

    label, watch, groups = Label(name="label"), Watch(), Groups("qid")
    base, width, rows = 1, 0, 0
    seen, notes = np.empty(0, np.int64), []
    with Writer(folder, None, labelled=True) as writer:
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
            groups.encode(batch.column("group"), place)
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
    _describe(folder, [], label, rows, columns, _Beside(groups), sparse=True, base=base, notes=notes)


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
    beside: _Beside,
    chosen: Choice | Table | None = None,
    *,
    sparse: bool = False,
    base: int = 0,
    notes: Sequence[str] = (),
) -> None:
    target = None
    if label:
        known = label.values
        # pairs, since the keys of JSON's objects are strings
        target = {**asdict(label), "values": None if known is None else list(known.items())}
    groups = beside.groups
    if groups:
        groups.save(folder)
    meta = {
        "features": [asdict(f) for f in features],
        "label": target,
        "rows": rows,
        "columns": columns,
        "names": list(chosen.names) if chosen else [],
        "left_out": list(chosen.left_out) if chosen else [],
        "sparse": sparse,
        "base": base,
        "upper": beside.upper.name if beside.upper else None,
        "group": groups.name if groups else None,
        "ungrouped": groups.missing if groups else None,
        "notes": list(notes),
    }
    (folder / META).write_text(json.dumps(meta))
