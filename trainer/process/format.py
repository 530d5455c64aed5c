"""Numbers, times and paths as a person reads them."""

from __future__ import annotations

import math
import os
from pathlib import Path


def count(number: float) -> str:
    """How many: 1,797, 810.0 K, 6.7 B."""
    if abs(number) < 100_000:
        return f"{number:,.0f}" if abs(number) >= 10 or number == int(number) else f"{number:.1f}"
    for limit, unit in ((1e6, "K"), (1e9, "M"), (1e12, "B")):
        if abs(number) < limit * 0.99995:
            return f"{number / limit * 1000:.1f} {unit}"
    return f"{number / 1e12:.1f} T"


def plural(number: float, noun: str) -> str:
    """`1 worker`, `2 workers`."""
    return f"{count(number)} {noun if number == 1 else noun + 's'}"


def figure(value: float | None) -> str:
    """A metric's value to four digits: 0.9722, 1.234e-05, nan."""
    if value is None:
        return "-"
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if 1e-3 <= abs(value) < 1e4:
        digits = max(0, 3 - math.floor(math.log10(abs(value)))) if abs(value) >= 1 else 4
        return f"{value:.{digits}f}"
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e7 else f"{value:.3e}"


def prominence(name: str) -> tuple[int, int, str]:
    """Sorts metrics, the one that tells most about a job first: of validation, then accuracy before loss."""
    kind, _, rest = name.partition("_")
    told = ("accuracy", "auc", "f1", "r2", "rmse", "mae", "perplexity", "loss")
    return (
        ("validation", "test", "train").index(kind) if kind in ("validation", "test", "train") else 3,
        told.index(rest) if rest in told else len(told),
        name,
    )


def clock(seconds: float) -> str:
    """A running time: 0:07, 12:30, 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def duration(seconds: float | None) -> str:
    """How long: 0.8 s, 12.3 s, 4 min 5 s, 2 h 10 min, 3 d 4 h."""
    if seconds is None:
        return "-"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    for size, large, small in ((60, "min", "s"), (3600, "h", "min"), (86400, "d", "h")):
        if seconds < {60: 3600, 3600: 86400, 86400: math.inf}[size]:
            whole, rest = divmod(seconds, size)
            return f"{whole:.0f} {large} {rest // {'s': 1, 'min': 60, 'h': 3600}[small]:.0f} {small}"
    return "-"


def age(seconds: float) -> str:
    """How long ago, in one unit: 5 s, 3 min, 2 h, 9 d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def short_path(path: Path | str) -> str:
    """A path as one would type it here: relative when it lies below the current folder."""
    if "://" in str(path):
        return str(path)
    path = Path(os.path.abspath(path))
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def middle(text: str, width: int) -> str:
    """A text cut in its middle to `width` characters: names tend to differ at their ends."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def size(number: float) -> str:
    """Bytes: 512 B, 1.5 MB, 80 GB, in powers of ten."""
    for unit in ("B", "KB", "MB", "GB"):
        if abs(number) < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB" if abs(number) < 999.5 else f"{number:,.0f} TB"
