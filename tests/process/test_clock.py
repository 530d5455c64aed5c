"""How far apart two moments are, whoever sets the clock."""

from __future__ import annotations

import pytest

from trainer.process import clock


@pytest.mark.parametrize("jump", [-86400.0, 86400.0, 3.0])
def test_setting_the_clock_moves_no_moment(monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    one = clock.now()
    real = clock.time.time
    monkeypatch.setattr(clock.time, "time", lambda: real() + jump)
    other = clock.now()
    assert other["time"] - one["time"] == pytest.approx(jump, abs=60)
    assert 0 <= clock.seconds(one, other) < 60
    assert clock.earlier(one, other)
    assert not clock.earlier(other, one)


def test_of_two_machines_the_wall_clocks_count_and_never_backwards() -> None:
    here, there = {"time": 10.0, "up": 500.0, "boot": "a"}, {"time": 12.0, "up": 3.0, "boot": "b"}
    assert clock.seconds(here, there) == 2
    assert clock.seconds(there, here) == 0


def test_a_moment_may_be_of_an_older_version_which_knew_the_wall_clock_alone() -> None:
    assert clock.seconds({"time": 10.0}, clock.now()) > 0
    assert clock.of({"time": 10.0, "state": "Running"}) == {"time": 10.0}
