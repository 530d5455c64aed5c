"""Checkpoints come when they are due, at the same step on all workers."""

from __future__ import annotations

import itertools
import math

import pytest

from tests.worker.threads import together, workers
from trainer.worker.checkpointing import cadence as module
from trainer.worker.checkpointing.cadence import (
    LONGEST,
    NEVER,
    PRIOR,
    SHORTEST,
    Cadence,
    best_interval,
    expected_between,
)
from trainer.worker.distributed.ranks import Ranks


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def saves(cadence: Cadence, steps: int, clock: Clock | None = None, a_step: float = 0.0) -> list[int]:
    """The steps at which a training of so many steps saves."""
    found = []
    cadence.begin(0)
    for step in range(1, steps + 1):
        if clock:
            clock.now += a_step
        if step >= cadence.look_at and cadence.due(step, False):
            found.append(step)
    return found


def test_the_interval_is_youngs() -> None:
    """√(2 · what a save costs · time between interruptions)."""
    assert best_interval(0.5, 1.0, 3600.0) == pytest.approx(math.sqrt(2 * 0.5 * 3600))
    assert best_interval(2.0, 1.0, 3600.0) == pytest.approx(2 * best_interval(0.5, 1.0, 3600.0))
    assert best_interval(0.5, 1.0, 900.0) == pytest.approx(best_interval(0.5, 1.0, 3600.0) / 2)


def test_young_loses_less_than_intervals_around_it() -> None:
    """What is lost a second: the saves, and half an interval at each interruption."""

    def lost(interval: float) -> float:
        return 0.5 / interval + interval / 2 / 3600

    best = best_interval(0.5, 0.5, 3600.0)
    assert lost(best) < min(lost(best * 0.9), lost(best * 1.1))


def test_the_interval_has_bounds() -> None:
    assert best_interval(0.0, 0.0, 3600.0) == SHORTEST
    assert best_interval(60.0, 60.0, 1e9) == LONGEST
    assert best_interval(0.001, 10.0, 3600.0) == 40.0  # writing takes no more than a quarter of the time
    assert best_interval(0.001, 1000.0, 3600.0) == LONGEST


def test_interruptions_are_expected_as_often_as_they_were_seen() -> None:
    assert expected_between(0.0, 0) == PRIOR
    assert expected_between(PRIOR, 0) == 2 * PRIOR
    assert expected_between(3600.0 * 1000, 999) == pytest.approx(3600.0, rel=0.01)
    assert expected_between(600.0, 5) < expected_between(600.0, 0)


def test_every_so_many_steps() -> None:
    assert saves(Cadence(Ranks(), steps=25), 110) == [25, 50, 75, 100]


def test_steps_are_counted_from_the_beginning_of_the_job() -> None:
    """Resumed at step 60, the next is 75."""
    cadence = Cadence(Ranks(), steps=25)
    cadence.begin(60)
    assert cadence.look_at == 75
    cadence.begin(75)
    assert cadence.look_at == 100


def test_never() -> None:
    cadence = Cadence(Ranks())
    cadence.begin(0)
    assert cadence.look_at == NEVER


def test_a_save_that_is_still_being_written_postpones_the_next() -> None:
    cadence = Cadence(Ranks(), steps=40)
    cadence.begin(0)
    assert not cadence.due(40, True)
    assert cadence.look_at == 42
    assert not cadence.due(42, True)
    assert cadence.due(44, False)
    assert cadence.look_at == 80  # it stays where the others will be


@pytest.mark.parametrize("a_step", [0.01, 0.3, 1.0])
def test_every_so_many_seconds(clock: Clock, a_step: float) -> None:
    found = saves(Cadence(Ranks(), seconds=10.0), int(60 / a_step), clock, a_step)
    times = [step * a_step for step in found]
    gaps = [b - a for a, b in itertools.pairwise([0.0, *times])]
    assert len(found) in (5, 6)
    assert all(10 - a_step <= gap <= 10.5 + a_step for gap in gaps), gaps


def test_a_step_longer_than_the_interval_is_saved_each_time(clock: Clock) -> None:
    assert saves(Cadence(Ranks(), seconds=10.0), 5, clock, 30.0) == [1, 2, 3, 4, 5]


def test_the_clock_is_looked_at_seldom(clock: Clock) -> None:
    cadence, looks = Cadence(Ranks(), seconds=10.0), 0
    cadence.begin(0)
    for step in range(1, 100_001):
        clock.now += 0.001
        if step >= cadence.look_at:
            looks += 1
            cadence.due(step, False)
    assert looks < 400  # in 100 s


def test_a_training_that_slows_down_still_saves_in_time(clock: Clock) -> None:
    """The steps to the next look are reckoned from the pace so far; they double at most."""
    cadence, found = Cadence(Ranks(), seconds=10.0), []
    cadence.begin(0)
    for step in range(1, 2001):
        clock.now += 0.001 if step <= 500 else 0.1
        if step >= cadence.look_at and cadence.due(step, False):
            found.append((step, clock.now - 1000.0))
    times = [when for _, when in found]
    assert len(times) >= 10
    assert max(b - a for a, b in itertools.pairwise(times[1:])) < 12


def test_auto_begins_with_a_guess_and_learns_from_the_saves() -> None:
    cadence = Cadence(Ranks(), seconds="auto")
    assert cadence.interval == module.FIRST
    said = cadence.adjust(stall=0.5, writing=2.0, running=0.0, interruptions=0)
    assert cadence.interval == pytest.approx(math.sqrt(2 * 0.5 * PRIOR))
    assert said is not None
    assert "every 147 s" in said
    assert cadence.adjust(stall=0.51, writing=2.0, running=0.0, interruptions=0) is None  # much the same
    cadence.adjust(stall=0.5, writing=2.0, running=600.0, interruptions=10)
    assert cadence.interval < 60  # interrupted often: saved often


def test_an_interval_of_the_users_stays() -> None:
    cadence = Cadence(Ranks(), seconds=10.0)
    assert cadence.adjust(5.0, 5.0, 100.0, 3) is None
    assert cadence.interval == 10.0


@pytest.mark.parametrize("how", [{"steps": 10}, {"seconds": 0.002}])
def test_all_workers_save_at_the_same_steps_though_their_clocks_and_disks_differ(how: dict[str, float]) -> None:
    def train(ranks: Ranks) -> list[tuple[int, bool]]:
        cadence, looks, written = Cadence(ranks, **how), [], 0  # type: ignore[arg-type]
        cadence.begin(0)
        for step in range(1, 201):
            sum(range(500 * (ranks.rank + 1)))  # some are slower
            if step >= cadence.look_at:
                due = cadence.due(step, step < written)
                written = step + 4 * ranks.rank if due else written  # and write longer
                looks.append((step, due))
        return looks

    first, *others = together(workers(3), train)
    assert others == [first, first]
    assert any(due for _, due in first)


def test_no_worker_saves_while_another_is_still_writing() -> None:
    answers = together(workers(2), lambda ranks: Cadence(ranks, steps=10).due(10, ranks.rank == 1))
    assert answers == [False, False]
