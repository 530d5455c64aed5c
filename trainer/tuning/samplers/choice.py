"""Which sampler a search takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """The sampler that a search takes: `make` builds it from the study's seed and a trial's number, and is None where every
    point is tried; why, in words."""

    name: str
    why: str
    make: Callable[[int, int], Any] | None
