"""A rank that is slower than the others is named, once."""

from __future__ import annotations

from trainer.worker.monitoring.stragglers import LOOK_SECONDS, LOOKS, Stragglers

STEPS = 20


def looks(stragglers: Stragglers, own: list[float], times: int = LOOKS, start: int = 0) -> list[str]:
    """What is said while each rank takes so many seconds of its own in steps that take `LOOK_SECONDS` together."""
    words = []
    for i in range(times):
        words += stragglers.hear(start + (i + 1) * STEPS, own, LOOK_SECONDS, STEPS)
    return words


def test_ranks_of_one_pace_are_not_named() -> None:
    assert looks(Stragglers(local_world_size=4), [0.5, 0.6, 0.55, 0.5], 10) == []


def test_a_slow_rank_is_named_once_until_it_is_no_more() -> None:
    stragglers = Stragglers(local_world_size=4)
    words = looks(stragglers, [0.5, 0.5, 1.5], 10)
    assert words == [
        "rank 2 is slow: 75 ms a step for its data and its forward, where the others take 25 ms and wait for it "
        "(step 40)"
    ]
    assert looks(stragglers, [0.5, 0.5, 0.5], 5, 200) == ["rank 2 is as fast as the others again (step 220)"]
    assert stragglers.episodes == [{"rank": 2, "factor": 3.0, "since": 40, "until": 220}]
    assert len(looks(stragglers, [0.5, 0.5, 1.5], 5, 300)) == 1


def test_of_two_ranks_the_slow_one_is_named() -> None:
    assert looks(Stragglers(local_world_size=4), [1.2, 0.6])[0].startswith("rank 0 is slow")


def test_a_busy_moment_is_no_straggler() -> None:
    stragglers = Stragglers(local_world_size=4)
    for step in range(0, 100, 40):
        assert looks(stragglers, [0.5, 1.5], 1, step) == []
        assert looks(stragglers, [0.5, 0.5], 1, step + 20) == []


def test_a_rank_that_costs_the_others_next_to_nothing_is_not_named() -> None:
    assert looks(Stragglers(local_world_size=4), [0.01, 0.05], 5) == []


def test_one_worker_alone_is_no_straggler() -> None:
    assert looks(Stragglers(local_world_size=4), [], 5) == []


def test_of_several_nodes_the_slow_ranks_node_is_named() -> None:
    assert looks(Stragglers(local_world_size=2), [0.5, 0.5, 0.5, 1.5])[0].startswith("rank 3 (node 1) is slow")
