"""The formats that data comes in: a config's `data` is one of these classes, its keys are the fields.

A source knows three things: whether its files can be read at all (`check`, on the machine that submits, cheap), what
their columns are called (`names`), and how to read them in pieces of bounded size (`batches`). Everything after that
(kinds of columns, encoding, splitting, shuffling) is the same for all.

Imports neither torch nor pyarrow: whoever only submits a job imports this.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from trainer.algorithm import Range
from trainer.data.files.naming import column
from trainer.data.files.spelling import Spelling
from trainer.data.source import Piece, Source
from trainer.errors import UserError

if TYPE_CHECKING:
    from trainer.data.files.bundled import Arrays


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
            from trainer.data.formats.delimited import check_spelling, csv_head

            path = self.files()[0]
            check_spelling(self, path, csv_head(path, header=self.header, delimiter=self.delimiter))

    def names(self, path: str) -> list[str]:
        from trainer.data.formats.delimited import csv_names

        return csv_names(path, header=self.header, delimiter=self.delimiter)

    def batches(self, files: Sequence[str], columns: Sequence[str] | None = None) -> Iterator[Piece]:
        from trainer.data.formats.delimited import read_csv

        for path in files:
            yield from read_csv(path, columns, header=self.header, delimiter=self.delimiter)

    def row(self, path: str, number: int) -> int:
        from trainer.data.formats.delimited import csv_line

        return csv_line(path, number, header=self.header, delimiter=self.delimiter)


@dataclass(kw_only=True)
class Parquet(Source):
    """Parquet files. An error's row counts from 1."""

    name: ClassVar[str] = "parquet"
    kind: ClassVar[str | None] = "parquet"
    utf8: ClassVar[bool] = False

    def names(self, path: str) -> list[str]:
        from trainer.data.formats.blocks import parquet_names

        return parquet_names(path)

    def index(self, path: str) -> list[str]:
        from trainer.data.formats.blocks import parquet_index

        return list(dict.fromkeys([*super().index(path), *parquet_index(path)]))

    def batches(self, files: Sequence[str], columns: Sequence[str] | None = None) -> Iterator[Piece]:
        from trainer.data.formats.blocks import read_parquet

        for path in files:
            yield from read_parquet(path, columns)


@dataclass(kw_only=True)
class Jsonl(Source):
    """One JSON object a line. An error's row is the line. A key that a row, or a whole file, lacks is a missing cell."""

    name: ClassVar[str] = "jsonl"
    optional: ClassVar[bool] = True

    def head_names(self, path: str) -> list[str]:
        from trainer.data.formats.jsonlines import jsonl_names

        return jsonl_names(path, head=True)

    def names(self, path: str) -> list[str]:
        from trainer.data.formats.jsonlines import jsonl_names

        return jsonl_names(path)

    def batches(self, files: Sequence[str], columns: Sequence[str] | None = None) -> Iterator[Piece]:
        from trainer.data.formats.jsonlines import read_jsonl

        for path in files:
            yield from read_jsonl(path, columns)


@dataclass(kw_only=True)
class Libsvm(Source):
    """Sparse rows, `label index:value …` or `label qid:group index:value …`; indices may count from 0 or from 1. An error's row is
    the line."""

    name: ClassVar[str] = "libsvm"
    labelled: ClassVar[bool] = True
    grouped: ClassVar[bool] = True
    sparse: ClassVar[bool] = True
    unused: ClassVar[frozenset[str]] = frozenset(
        {"label", "group", "label_upper_bound", "columns", "drop", "categorical", "missing"}
    )

    def names(self, path: str) -> list[str]:
        return []

    def batches(self, files: Sequence[str], columns: Sequence[str] | None = None) -> Iterator[Piece]:
        from trainer.data.formats.blocks import read_libsvm

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
        from trainer.data.formats.blocks import npy_names

        return npy_names(path)

    def batches(self, files: Sequence[str], columns: Sequence[str] | None = None) -> Iterator[Piece]:
        from trainer.data.formats.blocks import read_npy

        for path in files:
            yield from read_npy(path, columns)


@dataclass(kw_only=True)
class Text(Source):
    """Plain text in UTF-8, the files one after the other.

    A validation fraction is the end of the text, not a sample of it: neighbouring sequences would give it away.
    """

    name: ClassVar[str] = "text"
    unused: ClassVar[frozenset[str]] = frozenset(
        {"label", "group", "label_upper_bound", "columns", "drop", "categorical", "missing"}
    )

    validation: str | list[str] | Annotated[float, Range(min=0, below=1)] | None = 0.05

    def names(self, path: str) -> list[str]:
        return ["text"]

    def batches(self, files: Sequence[str], columns: Sequence[str] | None = None) -> Iterator[Piece]:
        from trainer.data.formats.blocks import read_text

        for path in files:
            yield from read_text(path)


@dataclass(kw_only=True)
class _Bundled(Source):
    """Data that scikit-learn ships: nothing to download, nothing to point to."""

    labelled: ClassVar[bool] = True
    unused: ClassVar[frozenset[str]] = frozenset(
        {"label", "group", "label_upper_bound", "categorical", "missing", "changed"}
    )

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
        if self.train is not None or self.test is not None or isinstance(self.validation, (str, list)):
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
        from trainer.data.files.bundled import digits

        return digits(self._folder() / "digits.csv.gz")


@dataclass(kw_only=True)
class BreastCancer(_Bundled):
    """569 tumours, 30 measurements of each, benign or malignant."""

    name: ClassVar[str] = "breast_cancer"

    def arrays(self) -> Any:
        from trainer.data.files.bundled import breast_cancer

        return breast_cancer(self._folder() / "breast_cancer.csv")


@dataclass(kw_only=True)
class NoData(Source):
    """None, for a training loop that reads its own."""

    name: ClassVar[str] = "none"
    unused: ClassVar[frozenset[str]] = frozenset(
        {
            "train",
            "validation",
            "test",
            "label",
            "group",
            "label_upper_bound",
            "columns",
            "drop",
            "categorical",
            "missing",
            "changed",
        }
    )
    instead: ClassVar[str] = "choose what reads it, such as data=csv"

    def check(self, role: str = "train", takes_text: bool = False) -> None:
        """There is nothing to be wrong with it."""
