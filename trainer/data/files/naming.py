"""Finds the column that a person named, by its name or its position."""

from __future__ import annotations

import re
from collections.abc import Sequence

from trainer.errors import UserError, did_you_mean

_NUMBER = re.compile(r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?")


def column(given: str | int, names: Sequence[str], path: str, key: str) -> str:
    """The name of a column that was given by name or position. Raises UserError with the nearest names, and for a number
    that is the name of one column and the position of another."""
    key = key if "." in key else f"data.{key}"
    if isinstance(given, str):
        if given in names:
            return given
        raise UserError(f"{path} has no column {given!r} ({key}): {did_you_mean(given, names)}{_otherwise(names)}")
    by_position = names[given] if -len(names) <= given < len(names) else None
    by_name = str(given) if str(given) in names else None
    if by_name is not None and by_position not in (None, by_name):
        raise UserError(
            f"{path}: {key}={given} is the name of one column and the position of another, {by_position!r}; "
            f"write \"'{given}'\" for the name, or {names.index(by_name)} for its position"
        )
    if by_name is None and by_position is None:
        raise UserError(f"{path} has no column {given} ({key}): it has {len(names)}, counted from 0")
    return by_position or by_name or ""


def _otherwise(names: Sequence[str]) -> str:
    """What to set where names are none: a first row of numbers, or a whole line."""
    if len(names) == 1 and (marks := [mark for mark in ("\t", ";", "|", ",") if mark in names[0]]):
        written = {"\t": "\\t"}.get(marks[0], marks[0])
        return f"; set \"data.delimiter='{written}'\" if it stands between cells"
    if "." in "".join(names) and all(_NUMBER.fullmatch(name) for name in names):
        return "; set data.header=false if the first line is a row"
    return ""
