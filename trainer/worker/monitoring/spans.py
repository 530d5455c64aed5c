"""Stretches of time as (start, stop), in any unit: what they cover together, and what they leave over."""

from __future__ import annotations

from collections.abc import Iterable

Span = tuple[float, float]


def union(spans: Iterable[Span]) -> list[Span]:
    """The same time in stretches that neither meet nor overlap, in order."""
    found: list[Span] = []
    for start, stop in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], stop)
        elif stop > start:
            found.append((start, stop))
    return found


def without(spans: list[Span], others: list[Span]) -> list[Span]:
    """What of these unions is in the first and not in the second."""
    found, i = [], 0
    for start, stop in spans:
        while i < len(others) and others[i][1] <= start:
            i += 1
        k = i
        while k < len(others) and others[k][0] < stop:
            if others[k][0] > start:
                found.append((start, others[k][0]))
            start = max(start, others[k][1])
            k += 1
        if start < stop:
            found.append((start, stop))
    return found


def length(spans: Iterable[Span]) -> float:
    return sum(stop - start for start, stop in spans)
