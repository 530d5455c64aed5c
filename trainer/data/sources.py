"""The formats that data comes in: a config's `data` is one of these classes, its keys are the fields.

A source knows three things: whether its files can be read at all (`check`, on the machine that submits, cheap), what
their columns are called (`names`), and how to read them in pieces of bounded size (`batches`). Everything after that
(kinds of columns, encoding, splitting, shuffling) is the same for all. A plugin's source is a subclass of `Source`.

Imports neither torch nor pyarrow: whoever only submits a job imports this.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from trainer.algorithm import Range
from trainer.data import paths
from trainer.data.naming import column
from trainer.data.spelling import Spelling
from trainer.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from trainer.data.bundled import Arrays


INDEX_LEVEL = "__index_level_"  # how pandas names a nameless index in files


@dataclass
class Piece:
    """Consecutive rows of one file: `batch` starts at the file's row number `first`, counted from 0."""

    path: str
    first: int
    batch: pa.RecordBatch


@dataclass(kw_only=True)
class Source:
    """What all sources share. Paths are files, folders, globs or lists of these, from the folder of submission.

    name: what the source is called in tables and on the command line (`data=csv`).
    validation: paths, or the fraction of the training rows that is split off by the job's seed; None for none.
    label: the column to learn, by name or by position from 0.
    columns: the columns to learn from; None for all but the label.
    drop: columns to leave out.
    categorical: columns whose values are categories although they look like numbers; the label too, if they are classes.
    missing: "auto" keeps missing numeric cells as NaN if the algorithm takes them and refuses them otherwise;
       "mean" puts the training mean in their place.
    changed: whether a job that goes on takes files that hold something else than when it began.
    """

    name: ClassVar[str] = ""
    kind: ClassVar[str | None] = None  # the format of a binary file, as paths.check_file knows it
    utf8: ClassVar[bool] = True
    labelled: ClassVar[bool] = False  # whether the format itself has a place for the label
    sparse: ClassVar[bool] = False
    optional: ClassVar[bool] = False  # whether a column may be missing from a file, as all its cells then are
    typed: ClassVar[bool] = True  # False where every cell is a string that may spell a number
    unused: ClassVar[frozenset[str]] = frozenset()  # settings that it makes nothing of: set, they are refused
    instead: ClassVar[str] = "leave it out"  # what is said then

    train: str | list[str] | None = None
    validation: str | list[str] | Annotated[float, Range(min=0, below=1)] | None = 0.1
    test: str | list[str] | None = None
    label: str | int | None = None
    columns: list[str | int] | None = None
    drop: list[str | int] | None = None
    categorical: list[str | int] | None = None
    missing: Literal["auto", "error", "mean"] = "auto"
    changed: Literal["refuse", "accept"] = "refuse"

    def check(self, role: str = "train", takes_text: bool = False) -> None:
        """Raises UserError if the files of `role` ("train" and its validation, or "test") can't be what is needed."""
        if role == "test":
            self._check_files("test", None)
            return
        self._check_fraction()
        needed = None if takes_text else self.label
        self._check_files("train", needed)
        if isinstance(self.validation, (str, list)):
            self._check_files("validation", needed)

    def files(self, role: str = "train") -> list[str]:
        """The files of "train", "validation" or "test"; none for a validation that is a fraction or None."""
        given = getattr(self, role)
        return paths.resolve(given) if isinstance(given, (str, list, tuple)) else []

    def partition(self, path: str) -> dict[str, str]:
        """The columns that the names of a file's folders hold, `year=2024`, below the folder that was given."""
        for given in (self.train, self.validation, self.test):
            for pattern in [given] if isinstance(given, str) else given if isinstance(given, (list, tuple)) else []:
                if found := paths.partition(pattern, path):
                    return found
        return {}

    def names(self, path: str) -> list[str]:
        """The names of a file's columns, from its head."""
        raise NotImplementedError

    def head_names(self, path: str) -> list[str]:
        """Those that can be told at once, where a format has its names all over the file."""
        return self.names(path)

    def batches(self, files: Sequence[str], columns: Sequence[str] | None = None) -> Iterator[Piece]:
        """The rows of the files in order, in pieces of bounded size, with these columns (None: all).

        Cells of text formats come as strings, of others as they are typed.
        """
        raise NotImplementedError

    def index(self, path: str) -> list[str]:
        """The columns that the file itself calls an index of its rows, as pandas writes them."""
        return [name for name in self.names(path) if name.startswith(INDEX_LEVEL)]

    @property
    def spelling(self) -> Spelling:
        """How its numbers are spelled, where cells are strings."""
        return Spelling()

    def row(self, path: str, number: int) -> int:
        """The row `number` (from 0) as a person counts it: from 1."""
        return number + 1

    def arrays(self) -> Arrays | None:
        """The whole data where it is small and shipped with a library; None where it is read from files."""
        return None

    def _check_fraction(self) -> None:
        if isinstance(self.validation, (int, float)) and not 0 <= self.validation < 1:
            raise UserError(f"data.validation={self.validation} is not a fraction: give one from 0 up to 1, or a path")

    def _check_files(self, role: str, label: str | int | None) -> None:
        given = getattr(self, role)
        if not given:
            raise UserError(f"data.{role} is not set: give the path of a file, a folder or a glob")
        files = paths.resolve(given)
        if self.name != "text":
            paths.check_same_format(files)
        for path in files:
            paths.check_file(path, self.kind, text=self.utf8)
        if self.sparse or self.name == "text":
            return
        asked = [("label", label)] if label is not None else []
        if role == "train":
            asked += [(key, one) for key in ("columns", "drop", "categorical") for one in getattr(self, key) or []]
        names = self.head_names(files[0])
        if any(one not in names for _, one in asked):
            names = self.names(files[0])
        names = [*names, *(key for key in self.partition(files[0]) if key not in names)]
        for key, one in asked:
            column(one, names, files[0], key)


@dataclass(kw_only=True)
class Csv(Source):
    """Comma-separated values. Without a header the columns are called "0", "1", …

    An error's row is the line in the file as an editor shows it; a header is line 1.
    """

    name: ClassVar[str] = "csv"
    typed: ClassVar[bool] = False

    header: bool = True
    delimiter: str = ","
    decimal: Literal[".", ","] = "."
    thousands: Literal[",", ".", " ", "'", "_"] | None = None

    def __post_init__(self) -> None:
        if self.delimiter == "\\t":  # a tab, as a shell hands it on
            self.delimiter = "\t"

    @property
    def spelling(self) -> Spelling:
        return Spelling(self.decimal, self.thousands)

    def index(self, path: str) -> list[str]:
        return [*super().index(path), *(n for n in self.names(path)[:1] if n in ("", "Unnamed: 0"))]

    def check(self, role: str = "train", takes_text: bool = False) -> None:
        super().check(role, takes_text)
        for key in ("decimal", "delimiter"):
            if getattr(self, key) == self.thousands:
                raise UserError(f"data.thousands={self.thousands!r} is data.{key} too: one of them is another")
        if role == "train" and not takes_text:
            from trainer.data.delimited import check_spelling

            check_spelling(self, self.files()[0])

    def names(self, path: str) -> list[str]:
        from trainer.data.delimited import csv_names

        return csv_names(path, header=self.header, delimiter=self.delimiter)

    def batches(self, files: Sequence[str], columns: Sequence[str] | None = None) -> Iterator[Piece]:
        from trainer.data.delimited import read_csv

        for path in files:
            yield from read_csv(path, columns, header=self.header, delimiter=self.delimiter)

    def row(self, path: str, number: int) -> int:
        from trainer.data.delimited import csv_line

        return csv_line(path, number, header=self.header, delimiter=self.delimiter)


@dataclass(kw_only=True)
class Parquet(Source):
    """Parquet files. An error's row counts from 1."""

    name: ClassVar[str] = "parquet"
    kind: ClassVar[str | None] = "parquet"
    utf8: ClassVar[bool] = False

    def names(self, path: str) -> list[str]:
        from trainer.data.reading import parquet_names

        return parquet_names(path)

    def index(self, path: str) -> list[str]:
        from trainer.data.reading import parquet_index

        return list(dict.fromkeys([*super().index(path), *parquet_index(path)]))

    def batches(self, files: Sequence[str], columns: Sequence[str] | None = None) -> Iterator[Piece]:
        from trainer.data.reading import read_parquet

        for path in files:
            yield from read_parquet(path, columns)


@dataclass(kw_only=True)
class Jsonl(Source):
    """One JSON object a line. An error's row is the line. A key that a row, or a whole file, lacks is a missing cell."""

    name: ClassVar[str] = "jsonl"
    optional: ClassVar[bool] = True

    def head_names(self, path: str) -> list[str]:
        from trainer.data.jsonlines import jsonl_names

        return jsonl_names(path, head=True)

    def names(self, path: str) -> list[str]:
        from trainer.data.jsonlines import jsonl_names

        return jsonl_names(path)

    def batches(self, files: Sequence[str], columns: Sequence[str] | None = None) -> Iterator[Piece]:
        from trainer.data.jsonlines import read_jsonl

        for path in files:
            yield from read_jsonl(path, columns)


@dataclass(kw_only=True)
class Libsvm(Source):
    """Sparse rows, `label index:value …`; indices may count from 0 or from 1. An error's row is the line."""

    name: ClassVar[str] = "libsvm"
    labelled: ClassVar[bool] = True
    sparse: ClassVar[bool] = True
    unused: ClassVar[frozenset[str]] = frozenset({"label", "columns", "drop", "categorical", "missing"})

    def names(self, path: str) -> list[str]:
        return []

    def batches(self, files: Sequence[str], columns: Sequence[str] | None = None) -> Iterator[Piece]:
        from trainer.data.reading import read_libsvm

        for path in files:
            yield from read_libsvm(path)


@dataclass(kw_only=True)
class Npy(Source):
    """A NumPy file with a 2-D array of numbers, the label one of its columns. Columns are called "0", "1", …"""

    name: ClassVar[str] = "npy"
    kind: ClassVar[str | None] = "npy"
    utf8: ClassVar[bool] = False

    label: str | int | None = -1

    def names(self, path: str) -> list[str]:
        from trainer.data.reading import npy_names

        return npy_names(path)

    def batches(self, files: Sequence[str], columns: Sequence[str] | None = None) -> Iterator[Piece]:
        from trainer.data.reading import read_npy

        for path in files:
            yield from read_npy(path, columns)


@dataclass(kw_only=True)
class Text(Source):
    """Plain text in UTF-8, the files one after the other.

    A validation fraction is the end of the text, not a sample of it: neighbouring sequences would give it away.
    """

    name: ClassVar[str] = "text"
    unused: ClassVar[frozenset[str]] = frozenset({"label", "columns", "drop", "categorical", "missing"})

    validation: str | list[str] | Annotated[float, Range(min=0, below=1)] | None = 0.05

    def names(self, path: str) -> list[str]:
        return ["text"]

    def batches(self, files: Sequence[str], columns: Sequence[str] | None = None) -> Iterator[Piece]:
        from trainer.data.reading import read_text

        for path in files:
            yield from read_text(path)


@dataclass(kw_only=True)
class _Bundled(Source):
    """Data that scikit-learn ships: nothing to download, nothing to point to."""

    labelled: ClassVar[bool] = True
    unused: ClassVar[frozenset[str]] = frozenset({"label", "categorical", "missing", "changed"})

    validation: str | list[str] | Annotated[float, Range(min=0, below=1)] | None = 0.2

    def check(self, role: str = "train", takes_text: bool = False) -> None:
        if role == "test" and self.test is not None:
            raise UserError(
                f"data={self.name} has no files: predict with data=csv data.test=FILE, or leave data.test out"
            )
        if takes_text:
            raise UserError(
                f"data={self.name} is a table, and the algorithm takes text: choose data=text data.train=FILE"
            )
        if self.train is not None or isinstance(self.validation, (str, list)):
            raise UserError(
                f"data={self.name} is shipped with scikit-learn and takes no paths: choose data=csv for files"
            )
        self._check_fraction()
        for key in ("columns", "drop"):
            for one in getattr(self, key) or []:
                column(one, self.arrays().names, f"data={self.name}", key)

    def files(self, role: str = "train") -> list[str]:
        return []

    def arrays(self) -> Arrays:
        raise NotImplementedError

    def _folder(self) -> Path:
        """scikit-learn's data folder, without importing scikit-learn, which takes over a second."""
        spec = importlib.util.find_spec("sklearn")
        if spec is None or not spec.submodule_search_locations:
            raise UserError(f"data={self.name} is shipped with scikit-learn: pip install scikit-learn")
        return Path(spec.submodule_search_locations[0]) / "datasets" / "data"


@dataclass(kw_only=True)
class Digits(_Bundled):
    """1,797 images of handwritten digits, 8 × 8 pixels from 0 to 16, ten classes."""

    name: ClassVar[str] = "digits"

    def arrays(self) -> Any:
        from trainer.data.bundled import digits

        return digits(self._folder() / "digits.csv.gz")


@dataclass(kw_only=True)
class BreastCancer(_Bundled):
    """569 tumours, 30 measurements of each, benign or malignant."""

    name: ClassVar[str] = "breast_cancer"

    def arrays(self) -> Any:
        from trainer.data.bundled import breast_cancer

        return breast_cancer(self._folder() / "breast_cancer.csv")


@dataclass(kw_only=True)
class NoData(Source):
    """None, for a training loop that reads its own."""

    name: ClassVar[str] = "none"
    unused: ClassVar[frozenset[str]] = frozenset(
        {"train", "validation", "test", "label", "columns", "drop", "categorical", "missing", "changed"}
    )
    instead: ClassVar[str] = "choose what reads it, such as data=csv"

    def check(self, role: str = "train", takes_text: bool = False) -> None:
        """There is nothing to be wrong with it."""
