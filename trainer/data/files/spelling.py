"""How numbers, times and truth values are spelled in text, and when two spellings mean the same value.

Standard library only: the machine that submits a job looks at the head of its files with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

MISSING = ("", "NA", "N/A", "n/a", "nan", "NaN", "NAN", "null", "NULL", "None", "?")
_GROUPED = r"\d{1,3}(?:[.,' \u00a0\u202f]\d{3})+(?:[.,]\d+)?"
_SIGN = r"(?:[-+]|[$€£¥]|[A-Z]{3} )"
_LOCAL = re.compile(rf"\(?[-+]?{_SIGN}?\s?[-+]?(?:{_GROUPED}|\d+(?:[.,]\d+)?|[.,]\d+)\s?(?:[%€$£¥]|[A-Z]{{3}})?\)?")
_ISO = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?\s?(?:Z|[+-]\d\d:?\d\d)?)?")
_DATE = re.compile(
    r"(?:\d{1,2}[./-]\d{1,2}[./-](?:\d{4}|\d\d)|\d{4}[./]\d{1,2}[./]\d{1,2}|\d{4}-\d{1,2}-\d{1,2}"
    r"|\d{1,2}[ -][A-Za-z]{3,9}\.?[ -]\d{2,4}|[A-Za-z]{3,9}\.? \d{1,2},? \d{4})(?:[T ,].*)?"
)
_CLOCK = r"(?P<hours>\d+):(?P<minutes>[0-5]\d)(?::(?P<seconds>[0-5]\d(?:[.,]\d+)?))?"
_SPAN = re.compile(
    rf"(?:(?P<days>-?\d+) days?,?)?(?: ?(?<![\d])(?P<sign>[-+]?){_CLOCK})?"
)  # pandas', Python's, a clock's
_PERIOD = re.compile(  # ISO 8601's, but for months and years, which have no length
    r"(?P<sign>[-+]?)P(?=.*\d)(?:(?P<days>\d+)D)?(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:[.,]\d+)?)S)?)?"
)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:inf|infinity|nan)", re.IGNORECASE)


@dataclass(frozen=True)
class Spelling:
    """decimal: the mark before a number's fraction. thousands: between groups of three digits; None for none."""

    decimal: str = "."
    thousands: str | None = None

    @property
    def is_plain(self) -> bool:
        return self.decimal == "." and self.thousands is None

    def groups(self) -> str:
        """A regular expression (RE2) of what stands between groups of three: a space may be one that breaks no line."""
        return "[ \u00a0\u202f]" if self.thousands == " " else re.escape(self.thousands or "")

    def pattern(self) -> str:
        """A regular expression (RE2) of the numbers in this spelling."""
        point = re.escape(self.decimal)
        whole = r"\d+" if self.thousands is None else rf"(?:\d{{1,3}}(?:{self.groups()}\d{{3}})+|\d+)"
        return rf"^[-+]?(?:{whole}(?:{point}\d*)?|{point}\d+)(?:[eE][-+]?\d+)?$"


PLAIN = Spelling()


def is_time(word: str) -> bool:
    """Whether it is an ISO 8601 date or time, `2024-12-31` or `2024-12-31 23:59:59`, a time of day or a duration."""
    return bool(_ISO.fullmatch(word)) or duration(word) is not None


def duration(word: str) -> float | None:
    """The seconds of a duration or time of day: `23:59:59.5`, `23:59`, `2 days 00:00:05`, `P2DT5S`; None for other words."""
    found = _PERIOD.fullmatch(word) or (_SPAN.fullmatch(word) if word else None)
    if not found:
        return None
    days, hours, minutes = (int(found[part] or 0) for part in ("days", "hours", "minutes"))
    if found[0][0] not in "P+-" and found["days"] is None and found["seconds"] is None and hours > 23:
        return None  # no time of day: minutes and seconds, or a ratio
    past = hours * 3600 + minutes * 60 + float((found["seconds"] or "0").replace(",", "."))
    sign = -1 if found["sign"] == "-" else 1
    return sign * (days * 86400 + past) if "P" in word else days * 86400 + sign * past


def otherwise(name: str, words: Sequence[str], spelling: Spelling = PLAIN) -> str | None:
    """What is wrong with a column of words most of which mean numbers or dates and aren't spelled so; else None.

    words: some of its cells.
    """
    present = [word for word in (w.strip() for w in words) if word not in MISSING]
    number = re.compile(spelling.pattern())
    if sum(bool(number.match(w)) or is_time(w) for w in present) * 2 > len(present):
        return None
    dates = [w for w in present if _DATE.fullmatch(w) and not _ISO.fullmatch(w)]
    if len(dates) * 2 > len(present):
        return (
            f"column {name!r}: {dates[0][:40]!r} looks like a date, and dates are read as 2024-12-31 or 2024-12-31 23:59:59; "
            f"rewrite it, leave it out with data.drop=[{name}], or set data.categorical=[{name}]"
        )
    spelled = [w for w in present if _LOCAL.fullmatch(w) and not _NUMBER.fullmatch(w)]
    if spelled and sum(bool(_LOCAL.fullmatch(w)) for w in present) * 2 > len(present):
        return (
            f"column {name!r}: {spelled[0][:40]!r} looks like a number in another spelling; {_advice(spelled[0])}, "
            f"or set data.categorical=[{name}]"
        )
    return None


def _advice(word: str) -> str:
    if re.search(r"[^\d.,' \u00a0\u202f+-]", word):
        return "take the sign out of the file"
    last = max(word.rfind("."), word.rfind(","))
    marks = {c for c in word if c in ".,' \u00a0\u202f"}
    comma = "\"data.decimal=','\""  # in quotes for the shell, and in quotes for Hydra
    if last >= 0 and word[last] == "," and (len(marks) > 1 or len(word) - last - 1 != 3):
        return f"set {comma}" + (" and data.thousands" if len(marks) > 1 else "")
    mark = next(iter(sorted(marks)), ",")
    quoted = '\\"' + mark + '\\"' if mark == "'" else f"'{' ' if mark.isspace() else mark}'"
    return f'set "data.thousands={quoted}"' + (f" or {comma}" if "," in marks else "")


def value(word: str) -> float | int | None:
    """The number, truth value (1 or 0) or time (seconds since 1970) that a word spells; None for any other word."""
    lowered = word.strip().lower()
    if lowered in ("true", "false"):
        return int(lowered == "true")
    if re.fullmatch(r"[-+]?\d+", lowered):
        return int(lowered)
    if _NUMBER.fullmatch(lowered):
        return float(lowered)
    if (seconds := duration(word.strip())) is not None:
        return seconds
    if is_time(word.strip()):
        try:
            moment = datetime.fromisoformat(_for_python(word.strip()))
        except ValueError:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    return None


def _for_python(word: str) -> str:
    """As Python 3.10 reads it: six digits of a second, no Z."""
    word = re.sub(r"\s?Z$", "+00:00", word.replace(",", "."))
    word = re.sub(r"\s?([+-]\d\d):?(\d\d)$", r"\1:\2", word) if len(word) > 10 else word
    return re.sub(r"\.(\d+)", lambda match: "." + f"{match[1]:0<6}"[:6], word)
