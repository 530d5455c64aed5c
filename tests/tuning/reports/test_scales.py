from __future__ import annotations

import math
import random
from typing import Any

import pytest

from trainer.tuning.reports.scales import helps

RNG = random.Random(0)
EVENLY = [10 ** RNG.uniform(-4, 0) for _ in range(40)]
UNIFORM = [RNG.uniform(1, 1000) for _ in range(40)]


@pytest.mark.parametrize(
    ("values", "goal", "expected"),
    [
        (EVENLY, None, True),
        (EVENLY, "min", True),
        ([0.001, 1.0], "min", True),
        ([0.2, 0.3, 0.25, 0.4], "min", False),  # one order of magnitude at most
        (UNIFORM, None, False),  # three orders, but even as it is
        ([*EVENLY, 0.0], "min", False),
        ([-1.0, *EVENLY], "min", False),
        ([0.005, *(0.8 + 0.01 * i for i in range(18))], "max", False),  # of accuracies the best are near each other
        ([*(0.2 + 0.01 * i for i in range(20)), 1e6], "min", False),  # one that diverged is drawn at the edge
        ([*EVENLY, math.inf, math.nan], "min", True),
        ([], "min", False),
        ([1.0], None, False),
    ],
)
def test_a_log_axis_is_taken_where_values_span_orders_of_magnitude_and_lie_better_apart_on_it(
    values: list[float], goal: Any, expected: bool
):
    assert helps(values, goal) is expected
