"""Which of a file's columns are learned from, which is the label, and whether further files have them too."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.data.files.naming import column
from trainer.data.formats import partitions
from trainer.data.source import Source
from trainer.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Choice:
    """What is taken of a file's columns (`names`, in its order): `features`, `label`, `group`, `upper`, and what is not."""

    names: list[str]
    features: list[str]
    label: str | None
    group: str | None
    upper: str | None

    @property
    def left_out(self) -> list[str]:
        return [n for n in self.names if n not in (*self.features, self.label, self.group, self.upper)]


def choose(source: Source, files: Sequence[str]) -> Choice:
    """The columns to learn from, the label, its upper bound and the group. Raises UserError for those that aren't there.

    What the file itself calls an index is not learned from unless it is named in data.columns.
    """
    path = files[0]
    names = partitions.names(source, path)
    keys = ("label", "group", "label_upper_bound")
    given = {key: getattr(source, key) for key in keys if getattr(source, key) is not None}
    parts = {key: column(one, names, path, key) for key, one in given.items()}
    for i, (key, name) in enumerate(parts.items()):
        if other := next((one for one in list(parts)[:i] if parts[one] == name), None):
            raise UserError(f"data.{key} and data.{other} both are {name!r}: name another column in one")
    dropped = {column(c, names, path, "drop") for c in source.drop or []}
    _refuse_among("drop", dropped, parts)
    if source.columns is None:
        others = {*parts.values(), *dropped, *source.index(path)}
        features = [n for n in names if n not in others]
    else:
        features = list(dict.fromkeys(column(c, names, path, "columns") for c in source.columns))
        _refuse_among("columns", features, parts)
        if both := [n for n in features if n in dropped]:
            raise UserError(f"data.columns and data.drop both hold {both[0]!r}: take it out of one")
    if not features:
        beside = " and ".join(f"the {_words(key)} {name!r}" for key, name in parts.items())
        raise UserError(f"{path} has no column to learn from besides {beside or 'an index'}")
    return Choice(names, features, *(parts.get(key) for key in keys))


def _refuse_among(key: str, chosen: Collection[str], parts: Mapping[str, str]) -> None:
    for part, name in parts.items():
        if name in chosen:
            raise UserError(f"data.{key} holds the {_words(part)} {name!r}: take it out")


def _words(key: str) -> str:
    return "upper bound" if key == "label_upper_bound" else key


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
    if source.sparse or source.name == "text" or not source.files("train"):
        return
    chosen = choose(source, source.files("train"))
    for path in source.files("test"):
        if not _is_narrower(partitions.names(source, path), chosen.names):
            check_columns(source, [path], chosen.features)


def has_column(source: Source, name: str) -> bool:
    """Whether all files of `test` have a column that is not learned from, the label or the group."""
    trained = partitions.names(source, source.files("train")[0])
    names = [partitions.names(source, path) for path in source.files("test")]
    return all(name in of_file and not _is_narrower(of_file, trained) for of_file in names)


def _is_narrower(names: Sequence[str], trained: Sequence[str]) -> bool:
    """Whether a file without names has fewer columns than the one that was trained on: then its label is not there, and the
    others stand elsewhere."""
    return list(names) == [str(i) for i in range(len(names))] and len(names) < len(trained)


def _others(files: Sequence[str], path: str) -> str:
    return "the training data has" if path == files[0] else f"{Path(files[0]).name} has"
