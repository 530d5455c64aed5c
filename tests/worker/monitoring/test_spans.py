"""What of the time a collective ran alone, and from which parts it is taken."""

from __future__ import annotations

import pytest

from trainer.worker.monitoring.profile import parted
from trainer.worker.monitoring.spans import length, union, without
from trainer.worker.monitoring.timing import BACKWARD, COMMUNICATION, FORWARD


def test_a_union_covers_the_same_time_once() -> None:
    assert union([(5, 6), (1, 3), (2, 4), (4, 4), (6, 7)]) == [(1, 4), (5, 7)]
    assert union([]) == []


@pytest.mark.parametrize(
    ("others", "left"),
    [
        ([], [(0, 10), (20, 30)]),
        ([(0, 40)], []),
        ([(2, 4), (6, 8)], [(0, 2), (4, 6), (8, 10), (20, 30)]),
        ([(5, 25)], [(0, 5), (25, 30)]),
        ([(10, 20)], [(0, 10), (20, 30)]),
    ],
)
def test_without_leaves_what_the_others_do_not_cover(
    others: list[tuple[float, float]], left: list[tuple[float, float]]
) -> None:
    assert without([(0, 10), (20, 30)], others) == left


def test_communication_is_taken_out_of_the_parts_in_which_it_fell() -> None:
    second = 1_000_000_000
    spans = [(FORWARD, (0.0, 2.0 * second)), (BACKWARD, (2.0 * second, 5.0 * second))]
    seconds = parted(spans, [(1.5 * second, 3.0 * second), (4.0 * second, 9.0 * second)])
    assert (seconds[FORWARD], seconds[BACKWARD], seconds[COMMUNICATION]) == (1.5, 1.0, 2.5)
    assert sum(seconds) == length([(0, 5)])
