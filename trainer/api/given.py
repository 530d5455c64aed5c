"""Data that Python gives as objects: kept as files of the job or study that learns from them, so that it goes on with them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.api.tables import coded, pair_of, table_of
from trainer.config.schema import load
from trainer.errors import UserError
from trainer.job import private
from trainer.job.directory import GIVEN

if TYPE_CHECKING:
    import pyarrow as pa

ROLES = ("train", "validation", "test")
UNSAID = "not-yet-written"  # the path of a file that isn't written yet


@dataclass
class Given:
    """Tables by what they are for: train, validation, test."""

    tables: dict[str, pa.Table]

    def paths(self, folder: Path) -> dict[str, str]:
        """Where in the folder of a job or study their files lie."""
        return {role: str(folder.absolute() / GIVEN / f"{role}.parquet") for role in self.tables}

    @contextmanager
    def kept(
        self, folder: Path, config: Mapping[str, Any], description: str, *, is_done: bool = False
    ) -> Iterator[None]:
        """Meanwhile the files are in the folder of a job or study, which is there if its `description` is; if it is not by the
        end, they are taken away again. is_done: it learns no more. Raises UserError for other rows than it began with."""
        described = folder / description
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            with private.kept(config):
                self._write(folder, described, "" if is_done else config["data"]["changed"])
            yield
        except OSError as error:
            raise UserError(f"{error.filename or folder} can't be written: {error.strerror}") from None
        finally:
            if not described.exists():
                shutil.rmtree(folder / GIVEN, ignore_errors=True)
                for path in missing:
                    with suppress(OSError):  # another's is in it by now
                        path.rmdir()

    def _write(self, folder: Path, described: Path, changed: str) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        began_with = _data_of(described) if described.exists() else None
        for role, path in self.paths(folder).items():
            table, there = self.tables[role], Path(path)
            if began_with is not None and began_with.get(role) != path:
                continue  # another job, which whoever starts this one will say
            if there.is_file() and _holds(there, table):
                continue
            if began_with is not None and there.is_file() and changed != "accept":
                insist = ", or insist with data.changed=accept" if changed else ""
                raise UserError(
                    f"data: the rows are others than when {folder.name} began; give those, or choose another name{insist}"
                )
            there.parent.mkdir(parents=True, exist_ok=True)
            beside = there.with_name(f".{there.name}.{os.getpid()}")
            # numbers seldom repeat: a dictionary of them costs ten times what it saves
            words = [
                column.name
                for column in table.schema
                if pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
            ]
            parquet.write_table(table, beside, use_dictionary=words)
            os.replace(beside, there)


def taken(found: dict[str, Any]) -> Given | None:
    """Takes what is no path out of the settings' `data`, and says there how it will be read. None if there is nothing.

    data: DataFrame, array and the like, or a pair (X, y), to train on; `data.train`, `data.validation` and `data.test` the same
    each. Raises UserError.
    """
    objects = {
        key: value
        for key, value in found.items()
        if key in ("data", *(f"data.{role}" for role in ROLES)) and _is_object(key, value)
    }
    if not objects:
        return None
    chosen = next((key.partition("=")[2] for key in found if key.startswith("data=")), found.get("data", "parquet"))
    if "data" in objects:
        if "data.train" in objects:
            raise UserError("data: it is given, and data.train too; leave one out")
        objects["data.train"] = objects.pop("data")
    elif chosen != "parquet":
        raise UserError(f"data={chosen} reads files, and rows are given; leave data={chosen} out")
    rest = {key: value for key, value in found.items() if key not in objects and key not in ("data", "data=parquet")}
    says_label = any(key.partition("=")[0] == "data.label" for key in rest)
    tables: dict[str, pa.Table] = {}
    label = None
    for role in (role for role in ROLES if f"data.{role}" in objects):
        value = objects[f"data.{role}"]
        if isinstance(value, tuple):
            if len(value) != 2:
                raise UserError(f"data.{role}: {len(value)} things are no pair (X, y)")
            if says_label:
                raise UserError("data.label: of a pair (X, y) y is the label; leave it out")
            tables[role], label = pair_of(*value, f"data.{role}", label)
            value = value[0]
        else:
            tables[role] = table_of(value, f"data.{role}")
        if role == "train" and (codes := coded(value)) and not any(key.startswith("data.categorical") for key in rest):
            rest["data.categorical"] = codes
    if label is not None:
        rest["data.label"] = label
    found.clear()
    found.update({"data": "parquet", **rest, **{f"data.{role}": UNSAID for role in tables}})
    return Given(tables)


def refuse_remote(key: str, directory: str | None) -> None:
    """Raises UserError for a folder in which the rows can't be kept."""
    if directory is not None and "://" in str(directory):
        raise UserError(
            f"{key}: {directory} can't keep rows that Python gives; write them to a file, and give its path as data"
        )


def _is_object(key: str, value: Any) -> bool:
    """Whether it is neither a path, nor several, nor a choice or another setting."""
    if isinstance(value, (str, os.PathLike)) or value is None:
        return False
    if key != "data" and (isinstance(value, (bool, int, float)) or getattr(value, "shape", None) == ()):
        return False
    if isinstance(value, (list, tuple)):
        return not all(isinstance(one, (str, os.PathLike)) for one in value)
    return True


def _data_of(described: Path) -> Mapping[str, Any]:
    """The `data` of a job's config.yaml, or a study's."""
    node = load(described)
    data = node.get("base", node).get("data")
    return data if isinstance(data, dict) else {}


def _holds(path: Path, table: pa.Table) -> bool:
    """Whether a file has these rows, whichever version of the library has written it."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return bool(parquet.read_table(path).cast(table.schema).equals(table))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError, OSError):
        return False
