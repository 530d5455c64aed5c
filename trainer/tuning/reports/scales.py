"""On which scale an axis tells most: one over orders of magnitude is a log axis by itself."""

from __future__ import annotations

import math
from collections.abc import Iterable

ORDERS = 2.0  # of magnitude, above which a log axis is thought of
FAR = 2.5  # a value is left out of sight that lies farther on the worse side, in spreads of the three better quarters


def helps(values: Iterable[float], goal: str | None = None) -> bool:
    """Whether a log axis shows values better than a linear one: all are positive, they span more than two orders of
    magnitude, and the middle half of them takes more of the axis.

    goal: of a metric, "min" or "max"; far values on its worse side don't count, as charts draw them at the edge.
    """
    logs = sorted(math.log10(v) if v > 0 else -math.inf for v in values if math.isfinite(v))
    if len(logs) < 2 or logs[0] == -math.inf:
        return False
    quarter, upper = logs[math.ceil(0.25 * (len(logs) - 1))], logs[math.floor(0.75 * (len(logs) - 1))]
    low, high = logs[0], logs[-1]
    if goal == "min" and upper > low:
        high = min(high, upper + FAR * (upper - low))
    if goal == "max" and quarter < high:
        low = max(low, quarter - FAR * (high - quarter))
    if high - low <= ORDERS:
        return False
    plain = [10.0 ** (exponent - high) for exponent in (low, quarter, upper, high)]
    return (upper - quarter) / (high - low) >= (plain[2] - plain[1]) / (plain[3] - plain[0])
