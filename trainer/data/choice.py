"""Which of a file's columns are learned from, which is the label, and whether further files have them too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.data import partitions
from trainer.data.naming import column
from trainer.data.source import Source
from trainer.errors import UserError, did_you_mean


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


def check_test(source: Source) -> None:
    """Raises UserError if a file of `test` can't be scored by what is learned from `train`, as its names tell."""
    if source.sparse or source.name == "text":
        return
    chosen = choose(source, source.files("train"))
    for path in source.files("test"):
        if not _is_narrower(partitions.names(source, path), chosen.names):
            check_columns(source, [path], chosen.features)


def has_label(source: Source, label: str) -> bool:
    """Whether all files of `test` have the label's column."""
    trained = partitions.names(source, source.files("train")[0])
    names = [partitions.names(source, path) for path in source.files("test")]
    return all(label in of_file and not _is_narrower(of_file, trained) for of_file in names)


def _is_narrower(names: Sequence[str], trained: Sequence[str]) -> bool:
    """Whether a file without names has fewer columns than the one that was trained on: then its label is not there, and the
    others stand elsewhere."""
    return list(names) == [str(i) for i in range(len(names))] and len(names) < len(trained)


def _others(files: Sequence[str], path: str) -> str:
    return "the training data has" if path == files[0] else f"{Path(files[0]).name} has"
