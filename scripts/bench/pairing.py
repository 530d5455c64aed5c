"""Two ways of doing one thing, timed in turn: A B A B …, so that a busy machine slows both alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Pairs:
    """What both sides took in each round: seconds, or anything else that is compared as ours / bare."""

    bare: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)

    def ratios(self) -> list[float]:
        return [ours / bare for bare, ours in zip(self.bare, self.ours, strict=True)]

    def differences(self) -> list[float]:
        return [ours - bare for bare, ours in zip(self.bare, self.ours, strict=True)]


def in_turn(bare: Callable[[], float], ours: Callable[[], float], rounds: int, warm_up: int = 1) -> Pairs:
    """Calls one, then the other, `rounds` times after `warm_up` rounds that don't count. Each says what it measured."""
    for _ in range(warm_up):
        bare(), ours()
    pairs = Pairs()
    for _ in range(rounds):
        pairs.bare.append(bare())
        pairs.ours.append(ours())
    return pairs


def spread(values: list[float]) -> tuple[float, float, float]:
    """The median, and the lower and upper quartile."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


def head(unit: str, compared: str = "ours / bare") -> None:
    """The head of a table in Markdown, to which `row` adds."""
    print(f"\n| what | bare ({unit}) | ours ({unit}) | {compared}, median (quartiles) | asked |")
    print("|---|---|---|---|---|", flush=True)


def row(what: str, pairs: Pairs, asked: str, *, digits: int = 2, difference: bool = False) -> None:
    middle, low, high = spread(pairs.differences() if difference else pairs.ratios())
    bare, ours = statistics.median(pairs.bare), statistics.median(pairs.ours)
    shown = f"{middle:.3f} ({low:.3f} to {high:.3f})"
    print(f"| {what} | {bare:,.{digits}f} | {ours:,.{digits}f} | {shown} | {asked} |", flush=True)
