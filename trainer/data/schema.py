"""The schema of a training set: what its columns are called, hold and were encoded with. Kept in the artifact."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column.

    kind: "numeric", "categorical" (codes are positions in `categories`) or "text". time: numbers are times: seconds since
       1970 in UTC, of times of day since midnight. span: whether they are such or durations, and not dates; None: not known.
    classes: of a label, the values it takes, sorted, if it can be a class; a class number is a position in it.
    mean, std, min, max: over the training rows that have a value; std is of the population. Zeros for categories.
    missing: training rows without a value.
    origin, unit: a batch holds (value - origin) / unit, where float32 would not tell the values themselves apart; the
       figures above are of what a batch holds. Of a label origin alone, and only if the algorithm is `shift_equivariant`.
    """

    name: str
    kind: str
    categories: tuple[str, ...] = ()
    classes: tuple[str | int, ...] = ()
    counts: tuple[int, ...] = ()  # of a label, training rows of each class
    mean: float = 0.0
    std: float = 0.0
    min: float = 0.0
    max: float = 0.0
    missing: int = 0
    time: bool = False
    span: bool | None = None
    origin: float = 0.0
    unit: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Schema:
    """All columns in the order of `Batch.x`, the label, and how many rows were learned from.

    names: of all columns of the training file, in its order, the label and those not learned from among them.
    group, label_upper_bound: the columns of these, where they were learned from; `qid` in a sparse format.

    sparse: x is `SparseRows`; `features` is then empty and `columns` alone says the width (mean and std of
    column j, over all training rows, zeros included, are in `sparse_mean[j]`, `sparse_std[j]`); `sparse_base` is
    what the file's indices count from, 0 or 1; `sparse_columns[j]` the file's index of column j, where the file's
    indices are few among very many.
    text: x is tokens.
    impute: missing numeric cells were replaced by the training mean.
    """

    features: tuple[Column, ...] = ()
    label: Column | None = None
    rows: int = 0
    columns: int = 0
    names: tuple[str, ...] = ()
    group: str | None = None
    label_upper_bound: str | None = None
    sparse: bool = False
    text: bool = False
    impute: bool = False
    sparse_base: int = 0
    sparse_columns: tuple[int, ...] = field(default=(), repr=False)
    sparse_std: tuple[float, ...] = field(default=(), repr=False)
    sparse_mean: tuple[float, ...] = field(default=(), repr=False)

    @property
    def classes(self) -> int:
        """Classes of the label; 0 if it is a number."""
        return len(self.label.classes) if self.label else 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Schema:
        """The inverse of `to_dict`, also after a round through JSON."""

        def column(raw: dict[str, Any]) -> Column:
            tuples = {k: tuple(raw[k]) for k in ("categories", "classes", "counts")}
            return Column(**{**raw, **tuples})

        label = column(data["label"]) if data["label"] else None
        return cls(
            **{
                **data,
                "features": tuple(column(c) for c in data["features"]),
                "label": label,
                "names": tuple(data.get("names", ())),
                "sparse_columns": tuple(data.get("sparse_columns", ())),
                "sparse_std": tuple(data["sparse_std"]),
                "sparse_mean": tuple(data["sparse_mean"]),
            }
        )
