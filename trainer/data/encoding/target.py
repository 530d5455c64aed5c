"""What the label is to an algorithm: classes or a number, as the data suggests and the algorithm says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from trainer.algorithm import Algorithm
from trainer.data.columns.labels import Label
from trainer.data.files.cells import where
from trainer.data.schema import Column, Schema
from trainer.data.source import Source
from trainer.data.tables.samples import Labels
from trainer.data.tables.statistics import Moments
from trainer.data.tables.table import Table
from trainer.errors import UserError, did_you_mean

_SQUARES = 1e18  # float32 holds the square of what is less


def label_column(label: Label, moments: Moments, counts: dict[float, int]) -> Column:
    """The label's column with the classes that the data suggests. counts: of each value as it is kept."""
    column = Column(name=label.name, kind="categorical" if label.kind == "string" else "numeric", time=label.time)
    if label.kind == "id":
        values = np.array([int(v) for v in label.values or {}], dtype=object)
        rows = np.array([counts.get(float(code), 0) for code in range(len(values))])
        middle = int(values[0])  # distances from it are exact
        apart = (values - middle).astype(np.float64)
        mean = float(np.average(apart, weights=rows))
        std = float(np.sqrt(np.average((apart - mean) ** 2, weights=rows)))
        low, high = float(min(values)), float(max(values))
        column = replace(column, mean=middle + mean, std=std, min=low, max=high)
    elif label.kind != "string":
        mean, std, low, high = (float(a[0]) for a in (moments.mean, moments.std, moments.min, moments.max))
        column = replace(column, mean=mean, std=std, min=low, max=high)
    return with_classes(column, label, label.classes(), counts)


def with_classes(column: Column, label: Label, classes: tuple[str | int, ...], counts: dict[float, int]) -> Column:
    """The column with these classes, and how many rows each has."""
    codes = {value: float(code) for code, value in enumerate(label.values or {})} if label.coded else {}
    rows = tuple(counts.get(codes[c] if label.coded else float(c), 0) for c in classes)
    return replace(column, classes=classes, counts=rows)


def settle(
    schema: Schema, label: Label | None, counts: dict[float, int], algorithm: Algorithm, source: Source
) -> tuple[Schema, str | None]:
    """The schema with the classes that the algorithm learns, and what the label is to it: "class", "number" or None.

    An algorithm that asks for classes, as by its own `task`, gets them where the data only suggests a number.
    Raises UserError where the label can't be what the algorithm needs.
    """
    who = type(algorithm).__name__
    if "label_upper_bound" not in algorithm.needs():  # all may be known to be later than one time
        _check_varies(schema)
    other = _as_classes(schema, label, counts)
    try:
        target = algorithm.target(schema)
    except UserError:
        if other is None or algorithm.target(other) != "class":
            raise
        target = "class"
    if target == "class" and schema.label is not None and not schema.label.classes and other is not None:
        schema = other
    _check_target(schema, target, algorithm, source, who)
    if target == "number" and label is not None:
        schema = _centred(schema, label, algorithm, who)
    return schema, target


def _as_classes(schema: Schema, label: Label | None, counts: dict[float, int]) -> Schema | None:
    """The schema with every value a class, where the data does not suggest it and it can be."""
    if schema.label is None or label is None or schema.label.classes:
        return None
    found = label.candidates()
    return replace(schema, label=with_classes(schema.label, label, found, counts)) if len(found) > 1 else None


def _centred(schema: Schema, label: Label, algorithm: Algorithm, who: str) -> Schema:
    """The schema with the label's origin, where float32 needs one. Raises UserError where it would lose what differs."""
    column = schema.label
    assert column is not None
    origin = float(label.origin)
    if label.kind == "id":
        values = sorted(int(v) for v in label.values or [0])
        origin = float(values[len(values) // 2])
    largest = max(abs(column.min - origin), abs(column.max - origin))
    if not largest < _SQUARES or 0 < largest < 1 / _SQUARES:
        raise UserError(
            f"column {column.name!r}: {column.min:g} to {column.max:g} is beyond what {who} learns in 32 bits; "
            "write it in another unit"
        )
    if origin == 0:
        return schema
    if not algorithm.shift_equivariant(schema):
        lost = f"{label.distinct:,} different values, of which 32 bits tell {label.left:,} apart"
        raise UserError(
            f"column {column.name!r}: holds {lost}, and {who} learns in 32 bits; subtract {origin:g} from it, "
            "and add that to what is predicted"
        )
    ours = {name: getattr(column, name) - origin for name in ("mean", "min", "max")}
    return replace(schema, label=replace(column, origin=origin, **ours))


def _check_varies(schema: Schema) -> None:
    if schema.label and sum(n > 0 for n in schema.label.counts) == 1:
        only = next(c for c, n in zip(schema.label.classes, schema.label.counts, strict=True) if n)
        raise UserError(
            f"column {schema.label.name!r}: every training row has the label {only!r}, so there is nothing to tell apart"
        )


def _check_target(schema: Schema, target: str | None, algorithm: Algorithm, source: Source, who: str) -> None:
    if schema.label is None:
        labelled = replace(schema, label=Column(name="label", kind="numeric"))
        if target is not None or algorithm.target(labelled) is not None:
            names = source.names(source.files("train")[0])
            raise UserError(f"{who} learns from a label: set data.label to its column; there is {', '.join(names)}")
        return
    if target == "class" and not schema.label.classes:
        raise UserError(
            f"column {schema.label.name!r} holds numbers that are no classes (fractions, or too many values), "
            f"and {who} learns classes; choose another data.label or a loss for numbers"
        )
    if target == "number" and schema.label.kind == "categorical":
        first = schema.label.classes[0]
        raise UserError(
            f"column {schema.label.name!r} holds words such as {first!r}, and {who} learns a number; "
            "choose another data.label"
        )


def check_classes(source: Source, held: Table, whole: Table, classes: tuple[str | int, ...], key: str) -> None:
    """Raises UserError for a label of the validation, or of the test (key), that training has not."""
    if held.label is not None and whole.label is not None:
        refuse_unknown(held.label, classes, source.row, f"data.{key}")


def refuse_unknown(label: Label, classes: tuple[str | int, ...], row: Callable[[str, int], int], what: str) -> None:
    """Raises UserError for a value that is no class. row: how a person counts a file's rows; what: where the label is from."""
    if label.values is None:
        raise UserError(f"column {label.name!r} of {what} has more values than the {len(classes)} classes of training")
    known = set(classes)
    for value, at in label.values.items():
        if value not in known:
            shown = value if isinstance(value, str) or value != round(value) else int(value)
            raise UserError(
                f"{where(at, row)}, column {label.name!r}: {shown!r} is no class of the training data; "
                + did_you_mean(str(shown), map(str, classes))
            )


def labels_for(schema: Schema, target: str | None, label: Label | None) -> Labels:
    """What makes int64 class numbers or float32 values of encoded labels."""
    if schema.label is None or label is None or target is None:
        return lambda y: y.astype(np.float32)
    if target == "number":
        return _numbers(schema.label, label)
    classes = schema.label.classes
    if label.coded:
        position: dict[Any, int] = {c: i for i, c in enumerate(classes)}
        numbers = np.array([position.get(v, -1) for v in label.values or {}], dtype=np.int64)
        return lambda y: numbers[y.astype(np.int64)]
    values = np.array([float(c) for c in classes])
    return lambda y: np.searchsorted(values, y).astype(np.int64)


def _numbers(column: Column, label: Label) -> Labels:
    if label.kind == "id":
        apart = np.array([int(v) - int(column.origin) for v in label.values or {}], np.float32)
        return lambda y: apart[y.astype(np.int64)]
    if column.origin:
        return lambda y: (y - column.origin).astype(np.float32)
    return lambda y: y.astype(np.float32)


def said(schema: Schema, target: str | None, label: Label | None) -> str:
    """What was inferred of the label, and what says otherwise; empty if there is none."""
    column = schema.label
    if column is None or label is None or target is None:
        return ""
    if target == "class":
        line = f"{column.name}, {len(column.classes)} classes"
        doubtful = column.kind == "numeric" and not label.forced
        return line + (" (whole numbers, few of them; algorithm.task=regression learns a number)" if doubtful else "")
    candidates = label.candidates() if column.kind == "numeric" and not column.classes else ()
    line = f"{column.name}, a number"
    if label.time:
        return line + " (a time, in seconds)"
    if candidates:
        line += f" ({len(candidates):,} different whole ones; data.categorical=[{column.name}] makes them classes)"
    return line


def said_of_bounds(schema: Schema, upper: str) -> str:
    """The same of a label that is an interval."""
    return f"between {schema.label.name if schema.label else ''} and {upper}"
