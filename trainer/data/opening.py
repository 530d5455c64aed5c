"""Opens a source for training: parsed once, split, measured, and checked against what the algorithm takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch

from trainer.algorithm import Algorithm
from trainer.data.channel.folders import Folders
from trainer.data.channels import Channels
from trainer.data.columns.features import Feature, told_unknown, worth_a_line
from trainer.data.columns.labels import Label
from trainer.data.encoding.ingest import ingest
from trainer.data.encoding.opened import Opened
from trainer.data.encoding.rows import encode, fill_values
from trainer.data.encoding.target import check_classes, label_column, labels_for, said, said_of_bounds, settle
from trainer.data.encoding.text import open_text
from trainer.data.files import cache
from trainer.data.files.cells import where
from trainer.data.files.content import content
from trainer.data.files.naming import column
from trainer.data.formats.choice import has_column
from trainer.data.formats.roles import check_roles
from trainer.data.schema import Column, Schema
from trainer.data.source import Source
from trainer.data.tables import order, table
from trainer.data.tables.grouped import Grouped, groups_of, said_of_groups
from trainer.data.tables.part import GroupPart, Part
from trainer.data.tables.samples import InMemory, Labels, Samples
from trainer.data.tables.sparse import Sparse, SparseStreaming, fitted, joined
from trainer.data.tables.statistics import Moments, count_labels, measure
from trainer.data.tables.streaming import Streaming
from trainer.data.tables.table import Table
from trainer.errors import UserError

__all__ = ["Opened", "encode", "open_data"]

_Part: TypeAlias = Part | GroupPart
UNUSED_GROUPS = (
    "the rows' qid is not used: algorithm=xgboost algorithm.task=ranking ranks within the groups that it names"
)


def open_data(
    source: Source,
    algorithm: Algorithm,
    *,
    seed: int,
    lead: bool = True,
    wait: Callable[[], None] = lambda: None,
) -> Opened:
    """The training, validation and test samples of a source, and their schema.

    lead: whether this worker parses the files; the others call `wait` first, the lead calls it when it is done, so
    with a barrier as `wait` they find everything in the cache. Raises UserError for data that can't be learned from.
    """
    if source.name == "none":
        raise UserError("data=none: there is none, and the algorithm asks for it; choose some, such as data=csv")
    check_roles(source, algorithm)
    if not lead:
        wait()
    if isinstance(source, Channels):
        opened = Opened(Schema(), Folders(source.all()), None)
    elif "text" in algorithm.takes:
        opened = open_text(source, algorithm, seed=seed)
    else:
        opened = _open_table(source, algorithm, seed)
    if files := [*source.files("train"), *source.files("validation")]:
        opened.content = content(files)
    if lead:
        wait()
    return opened


def _open_table(source: Source, algorithm: Algorithm, seed: int) -> Opened:
    who = type(algorithm).__name__
    if source.name == "text":
        raise UserError(f"data=text is text, which {who} does not take; choose a table such as data=csv")
    if source.sparse and "sparse" not in algorithm.takes:
        raise UserError(
            f"data={source.name} is sparse, which {who} does not take; choose data=csv or another algorithm"
        )
    whole = _table(source)
    held = _validation_table(source, whole)
    grouped = "group" in algorithm.needs()
    train, validation = _parts(source, whole, held, seed, grouped)
    _check_kinds(source, algorithm, whole, who)
    test, lacks = _test_table(source, whole, grouped)
    for one in (whole, held, test):
        if one is not None:
            _check_missing(source, algorithm, one, who)
    schema, counts = _schema(source, whole, train)
    schema, target = settle(schema, whole.label, counts, algorithm, source)
    opened = Opened(schema, samples(whole, train, schema, labels_for(schema, target, whole.label)), None)
    opened.left_out = whole.left_out
    opened.notes = [*whole.notes, *_narrowed(whole.features), *worth_a_line(whole.features)]
    for one, key in ((held, "validation"), (test, "test")):
        if one is not None:
            if target == "class" and schema.label is not None:
                check_classes(source, one, whole, schema.label.classes, key)
            opened.notes += told_unknown(one.features)
    if validation is not None:
        against = whole if held is None else held
        if held is None and isinstance(opened.train, Grouped) and isinstance(validation, GroupPart):
            opened.validation = opened.train.other(validation)
        else:
            opened.validation = samples(against, validation, schema, labels_for(schema, target, against.label))
    if test is not None:
        part = GroupPart(_groups(source, test, "test")) if grouped else Part(test.rows)
        opened.test = samples(test, part, schema, labels_for(schema, target, test.label))
    elif lacks:
        opened.notes.append(f"data.test has no {lacks}, so nothing is scored on it")
    if grouped:
        opened.label = said_of_groups(schema, whole.group, opened.train, opened.validation)
    else:
        opened.label = said(schema, target, whole.label) if whole.upper is None else said_of_bounds(schema, whole.upper)
        opened.notes += [UNUSED_GROUPS] if whole.groups is not None else []
    return opened


def _narrowed(features: list[Feature]) -> list[str]:
    return [
        f"column {f.name!r}: of {f.distinct:,} different values 32 bits tell {f.left:,} apart; scale it, or take its logarithm"
        for f in features
        if f.distinct
    ]


def _table(source: Source) -> Table:
    arrays = source.arrays()
    if arrays is None:
        return ingest(source, source.files("train"))
    x, names = arrays.x, arrays.names
    what = f"data={source.name}"
    if source.columns is not None or source.drop:
        dropped = {column(c, arrays.names, what, "drop") for c in source.drop or []}
        chosen = (
            arrays.names
            if source.columns is None
            else [column(c, arrays.names, what, "columns") for c in source.columns]
        )
        names = [name for name in chosen if name not in dropped]
        x = np.ascontiguousarray(x[:, [arrays.names.index(n) for n in names]])
    text = isinstance(arrays.classes[0], str)
    values = {c if isinstance(c, str) else float(c): ("", 0) for c in arrays.classes}
    label = Label(name=arrays.label, kind="string" if text else "int", values=values, forced=True)
    return table.of_arrays(x, arrays.y, [Feature(name=n, kind="numeric") for n in names], label)


def _validation_table(source: Source, whole: Table) -> Table | None:
    files = source.files("validation")
    return ingest(source, files, like=whole) if files else None


def _test_table(source: Source, whole: Table, grouped: bool) -> tuple[Table | None, str]:
    """The rows to score on; None without any, or where they lack the label or the group, which is then said."""
    files = source.files("test")
    needed = [] if source.labelled or whole.label is None else [whole.label.name]
    needed += [whole.group] if grouped and whole.group and not source.grouped else []
    needed += [whole.upper] if whole.upper else []
    if not files:
        return None, ""
    if lacks := next((name for name in needed if not has_column(source, name)), None):
        return None, f"column {lacks!r}"
    found = ingest(source, files, like=whole)
    return (None, "qid") if grouped and found.groups is None else (found, "")


def _parts(source: Source, whole: Table, held: Table | None, seed: int, grouped: bool) -> tuple[_Part, _Part | None]:
    fraction = float(source.validation) if isinstance(source.validation, (int, float)) else 0.0
    if whole.rows < 2:
        raise UserError(f"data.train has {whole.rows} row: it takes at least 2 to learn from")
    if grouped:
        groups = _groups(source, whole, "train")
        if held is not None:
            return GroupPart(groups), GroupPart(_groups(source, held, "validation"))
        return GroupPart(groups, seed, fraction), GroupPart(groups, seed, fraction, True) if fraction else None
    train = Part(whole.rows, seed, fraction)
    if held is not None:
        return train, Part(held.rows)
    return train, Part(whole.rows, seed, fraction, held_out=True) if fraction else None


def _groups(source: Source, one: Table, role: str) -> np.ndarray:
    return groups_of(one.groups, one.ungrouped, one.group, source, f"data.{role}")


def _check_kinds(source: Source, algorithm: Algorithm, whole: Table, who: str) -> None:
    if whole.sparse:
        return
    for feature in whole.features:
        kind = feature.kind or "numeric"
        if kind not in algorithm.takes:
            example = f" ({', '.join(list(feature.categories)[:3])}, …)" if feature.categories else ""
            raise UserError(
                f"column {feature.name!r} is {kind}{example}, which {who} does not take; "
                f"choose columns with data.columns=[…]"
            )


def _check_missing(source: Source, algorithm: Algorithm, one: Table, who: str) -> None:
    """Missing categories are as good as unknown ones; missing numbers must be taken or replaced."""
    if source.missing == "mean" or (source.missing == "auto" and "missing" in algorithm.takes):
        return
    for feature in one.features:
        if feature.missing and feature.kind != "categorical":
            why = f", which {who} does not take" if source.missing == "auto" else ""
            raise UserError(
                f"{where(feature.missing, source.row)}, column {feature.name!r}: the cell is missing{why}; "
                f"set data.missing=mean to put the training mean there, or mend the file"
            )


def _schema(source: Source, whole: Table, part: _Part) -> tuple[Schema, dict[float, int]]:
    """The schema as the data suggests it, and the training rows of each value of the label that may be a class."""
    features, label, counts = _statistics(source, whole, part)
    columns = tuple(_column(f, features, j) for j, f in enumerate(whole.features))
    schema = Schema(
        features=columns,
        label=label_column(whole.label, label, counts) if whole.label and label else None,
        rows=part.rows,
        columns=whole.columns,
        names=whole.names,
        group=whole.group if isinstance(part, GroupPart) else None,
        label_upper_bound=whole.upper,
        sparse=whole.sparse,
        sparse_base=whole.base,
        sparse_columns=() if whole.kept is None else tuple(whole.kept.tolist()),
        impute=source.missing == "mean",
        sparse_mean=tuple(features.mean.tolist()) if whole.sparse else (),
        sparse_std=tuple(features.std.tolist()) if whole.sparse else (),
    )
    return schema, counts


def _statistics(source: Source, whole: Table, part: _Part) -> tuple[Moments, Moments | None, dict[float, int]]:
    """Measured once for each split, kept beside the data."""
    name = f"statistics-{part.name}.json"
    if whole.entry and (kept := cache.noted(whole.entry, name)):
        features, label, counts = kept
        return Moments.from_lists(features), label and Moments.from_lists(label), {float(k): n for k, n in counts}
    features, label = measure(whole, part)
    counts = {}
    if whole.label and whole.label.candidates():
        counts = dict(zip(*(a.tolist() for a in count_labels(whole, part)), strict=True))
    if whole.entry:
        lists = [features.to_lists(), label and label.to_lists(), list(counts.items())]
        cache.note(whole.entry, name, lists)
    return features, label, counts


def _column(feature: Feature, moments: Moments, j: int) -> Column:
    missing = int(moments.missing[j])
    if feature.kind == "categorical":
        return Column(name=feature.name, kind="categorical", categories=tuple(feature.categories), missing=missing)
    origin, unit = feature.origin, feature.unit
    column = Column(
        name=feature.name,
        kind="numeric",
        time=feature.time,
        span=feature.span,
        missing=missing,
        origin=origin,
        unit=unit,
    )
    if not moments.count[j]:
        return column
    mean, std, low, high = (float(a[j]) for a in (moments.mean, moments.std, moments.min, moments.max))
    return replace(column, mean=mean, std=std, min=low, max=high)


def samples(one: Table, part: _Part, schema: Schema, labels: Labels) -> Samples:
    """The part's rows in memory where they fit one window, else streamed."""
    if isinstance(part, GroupPart):
        return Grouped(samples(one, Part(one.rows), schema, labels), part)
    if one.sparse:
        if one.bytes > order.WINDOW:
            return SparseStreaming(one, part, labels, schema.columns)
        return _sparse_in_memory(one, part, schema, labels)
    fill = fill_values(schema)
    if one.rows * (one.columns * 4 + 8) > order.WINDOW:
        return Streaming(one, part, labels, fill)
    x = np.empty((part.rows, one.columns), np.float32)
    y = None if one.label is None else np.empty((part.rows, *one.label_shape))
    at = 0
    for number in range(part.blocks):
        block, local = one.block(number), part.local(number)
        rows = block.x if local is None else block.x[local]
        x[at : at + len(rows)] = rows
        if y is not None and block.y is not None:
            y[at : at + len(rows)] = block.y if local is None else block.y[local]
        at += len(rows)
    if fill is not None:
        np.copyto(x, fill, where=np.isnan(x))
    return InMemory(torch.from_numpy(x), None if y is None else torch.from_numpy(labels(y)))


def _sparse_in_memory(one: Table, part: Part, schema: Schema, labels: Labels) -> Samples:
    pieces: list[Any] = []
    y = []
    for number in range(part.blocks):
        block, local = one.block(number), part.local(number)
        pieces.append(fitted(block.x if local is None else block.x.rows(local), one.base, schema.columns, one.kept))
        y.append(block.y if local is None or block.y is None else block.y[local])
    return Sparse(
        joined(pieces), schema.columns, torch.from_numpy(labels(np.concatenate([v for v in y if v is not None])))
    )
