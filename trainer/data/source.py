"""What every source of data has: paths, columns, and how its rows are read in pieces. A plugin's source is a subclass of `Source`.

Imports neither torch nor pyarrow: whoever only submits a job imports this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from trainer.algorithm import Range
from trainer.data.files import paths
from trainer.data.files.naming import column
from trainer.data.files.spelling import Spelling
from trainer.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from trainer.data.files.bundled import Arrays


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
    group: the column that says of which group a row is, such as the query that documents were found by, for algorithms that
       rank within groups.
    label_upper_bound: the column of the upper bound, where what is learned is known to lie between two, as a time until an event
       is; the label is then the lower one. An empty or infinite cell is no bound, one that equals the label an exact value.
    columns: the columns to learn from; None for all but these.
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
    grouped: ClassVar[bool] = False  # whether it has one for the group
    sparse: ClassVar[bool] = False
    optional: ClassVar[bool] = False  # whether a column may be missing from a file, as all its cells then are
    typed: ClassVar[bool] = True  # False where every cell is a string that may spell a number
    unused: ClassVar[frozenset[str]] = frozenset()  # settings that it makes nothing of: set, they are refused
    instead: ClassVar[str] = "leave it out"  # what is said then

    train: str | list[str] | None = None
    validation: str | list[str] | Annotated[float, Range(min=0, below=1)] | None = 0.1
    test: str | list[str] | None = None
    label: str | int | None = None
    group: str | int | None = None
    label_upper_bound: str | int | None = None
    columns: list[str | int] | None = None
    drop: list[str | int] | None = None
    categorical: list[str | int] | None = None
    missing: Literal["auto", "error", "mean"] = "auto"
    changed: Literal["refuse", "accept"] = "refuse"

    def check(self, role: str = "train", takes_text: bool = False) -> None:
        """Raises UserError if the files of `role` ("train" and its validation, or "test") can't be what is needed."""
        if role == "test":
            self._check_files("test", ())
            return
        self._check_fraction()
        needed = () if takes_text else ("label", "group", "label_upper_bound")
        self._check_files("train", needed)
        if isinstance(self.validation, (str, list)):
            self._check_files("validation", needed)
        if self.test:
            self._check_files("test", ())

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

    def _check_files(self, role: str, needed: Sequence[str]) -> None:
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
        asked = [(key, getattr(self, key)) for key in needed if getattr(self, key) is not None]
        if role == "train":
            asked += [(key, one) for key in ("columns", "drop", "categorical") for one in getattr(self, key) or []]
        names = self.head_names(files[0])
        if any(one not in names for _, one in asked):
            names = self.names(files[0])
        names = [*names, *(key for key in self.partition(files[0]) if key not in names)]
        for key, one in asked:
            column(one, names, files[0], key)
