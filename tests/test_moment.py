"""How far apart two moments are, whoever sets the clock."""

from __future__ import annotations

import pytest

from trainer import moment


@pytest.mark.parametrize("jump", [-86400.0, 86400.0, 3.0])
def test_setting_the_clock_moves_no_moment(monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    one = moment.now()
    real = moment.time.time
    monkeypatch.setattr(moment.time, "time", lambda: real() + jump)
    other = moment.now()
    assert other["time"] - one["time"] == pytest.approx(jump, abs=60)
    assert 0 <= moment.seconds(one, other) < 60
    assert moment.earlier(one, other)
    assert not moment.earlier(other, one)


def test_of_two_machines_the_wall_clocks_count_and_never_backwards() -> None:
    here, there = {"time": 10.0, "up": 500.0, "boot": "a"}, {"time": 12.0, "up": 3.0, "boot": "b"}
    assert moment.seconds(here, there) == 2
    assert moment.seconds(there, here) == 0


def test_a_moment_may_be_of_an_older_version_which_knew_the_wall_clock_alone() -> None:
    assert moment.seconds({"time": 10.0}, moment.now()) > 0
    assert moment.of({"time": 10.0, "state": "Running"}) == {"time": 10.0}
