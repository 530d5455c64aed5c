"""Text from elsewhere as a person may be shown it: what a terminal would obey, or what turns the order of letters round, as an escape.

Names of metrics, files and jobs, labels, reasons and errors come from jobs, schedulers and libraries. Standard library only.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any, TypeVar

T = TypeVar("T")
JOINERS = "\u200c\u200d"  # of letters and of emoji: they hide nothing
COLOURS = re.compile(r"(\x1b\[[\d;]*m)")


def visible(text: str, *, lines: bool = False) -> str:
    r"""The text with control characters, newlines too, as `\x1b`, `\n`, `\u202e`. lines: it may be of several lines."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if (lines and c == "\n") or not _is_control(c) else _escaped(c) for c in text)


def shown(value: T) -> T:
    """All text in plain data made visible: keys of dicts and values, at any depth."""
    made: Any = value
    if isinstance(value, str) and type(value) is str:
        made = visible(value)
    elif isinstance(value, dict):
        made = {shown(key): shown(one) for key, one in value.items()}
    elif isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        made = type(value)(shown(one) for one in value)
    return made


def coloured(line: str) -> str:
    """A line that a program has printed, for a terminal: its colours, and of what it overwrote itself the last."""
    last = line.rstrip("\r").rpartition("\r")[2]
    parts = COLOURS.split(last)
    text = "".join(part if i % 2 else part.replace("\t", "    ") for i, part in enumerate(parts))
    parts = COLOURS.split(text)
    end = "\x1b[0m" if len(parts) > 1 else ""
    return "".join(part if i % 2 else visible(part) for i, part in enumerate(parts)) + end


@lru_cache(maxsize=4096)
def _is_control(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cs", "Zl", "Zp") or (kind == "Cf" and character not in JOINERS)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
