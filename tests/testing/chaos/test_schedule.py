"""A schedule is a function of its seed."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from trainer.errors import UserError
from trainer.testing.chaos.schedule import (
    EARLY,
    KINDS,
    ONE_NODE,
    REMOTE,
    RUNNING,
    STARTING,
    TWO_NODES,
    amounts,
    check_kinds,
    plan,
)


def test_the_same_seed_gives_the_same_faults_and_another_one_others() -> None:
    assert plan(7, 200, list(KINDS)) == plan(7, 200, list(KINDS))
    assert plan(7, 200, list(KINDS)) != plan(8, 200, list(KINDS))


@pytest.mark.parametrize("count", [1, 3, len(KINDS) - 1, len(KINDS), 20, 1000])
def test_as_many_faults_as_asked_for_each_kind_among_them_if_there_are_enough(count: int) -> None:
    faults = plan(0, count, list(KINDS))
    assert [fault.number for fault in faults] == list(range(1, count + 1))
    kinds = Counter(fault.kind for fault in faults)
    if count >= len(KINDS):
        assert set(kinds) == set(KINDS)
    assert amounts(count, list(KINDS)) == {name: kinds[name] for name in KINDS}


def test_kinds_get_their_shares() -> None:
    given = amounts(1000, list(KINDS))
    total = sum(kind.share for kind in KINDS.values())
    for name, kind in KINDS.items():
        assert given[name] == pytest.approx(1000 * kind.share / total, abs=5)


def test_settings_follow_one_another() -> None:
    settings = [KINDS[fault.kind].setting for fault in plan(3, 300, list(KINDS))]
    assert settings == sorted(settings, key=(ONE_NODE, REMOTE, TWO_NODES).index)


def test_a_job_is_never_killed_twice_before_it_has_got_further() -> None:
    moments = [fault.moment for fault in plan(1, 2000, ["kill-worker"])]
    assert {RUNNING, EARLY, STARTING} < set(moments)
    soon = [moment in (EARLY, STARTING) for moment in moments]
    assert not any(one and other for one, other in pairwise(soon))


def test_what_is_drawn_is_among_what_there_is() -> None:
    for fault in plan(2, 500, list(KINDS)):
        kind = KINDS[fault.kind]
        assert set(fault.options) == set(kind.options)
        assert all(value in kind.options[name] for name, value in fault.options.items())
        assert fault.moment == RUNNING or fault.moment in kind.moments
        assert 0 <= fault.wait <= 1
        assert fault.pick([1, 2, 3]) in (1, 2, 3)


def test_a_kind_that_is_none_is_told_with_the_nearest() -> None:
    assert check_kinds(["hang", "hang", "s3"]) == ["hang", "s3"]
    with pytest.raises(UserError, match="did you mean 'kill-worker'"):
        check_kinds(["kill-workers"])
