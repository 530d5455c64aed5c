"""Workers that died are started again, unless it would only happen once more."""

from __future__ import annotations

from typing import Any

import pytest

from launchers.agent.restart_policy import Attempt, why_not

BUG = {"type": "RuntimeError", "message": "my own bug", "where": "mine.py:3 in loss"}
OTHER_BUG = {"type": "RuntimeError", "message": "another", "where": "mine.py:9 in loss"}
KILLED = {"type": "WorkerDied", "kind": "SIGKILL", "message": "worker 1 was ended by SIGKILL"}
HANG = {"type": "WorkerDied", "kind": "hang", "message": "worker 1 made no step"}
LOST = {"type": "RuntimeError", "kind": "lost node", "message": "Connection closed by peer"}
EXITED = {"type": "WorkerDied", "kind": "exit 3", "message": "worker 1 left with exit code 3"}
NOT_STARTED = {"type": "WorkerDied", "kind": "not started", "message": "the workers could not be started"}


def life(
    error: dict[str, Any], began: int | None = 0, reached: int | None = 10, saved: int | None = None, **more: Any
) -> Attempt:
    return Attempt(began, reached, saved, {**error, **more})


@pytest.mark.parametrize(
    ("lives", "reason"),
    [
        pytest.param([life(BUG)], None, id="a first crash may be an accident"),
        pytest.param([life(KILLED)], None, id="a first kill"),
        pytest.param([life(KILLED, None, None)], None, id="killed before its first step"),
        pytest.param([life(BUG, None, None)], "before the first step", id="its own error before its first step"),
        pytest.param([life(BUG, final=True)], "would not help", id="an error that says it is final"),
        pytest.param([life(KILLED), life(BUG, final=True)], "would not help", id="a final error after another"),
        pytest.param([life(BUG), life(BUG)], "twice in a row after step 10", id="the same crash at the same step"),
        pytest.param([life(BUG), life(BUG, reached=11)], None, id="the same crash a step later"),
        pytest.param([life(BUG), life(OTHER_BUG)], None, id="another crash at the same step"),
        pytest.param([life(BUG), life(KILLED), life(BUG)], None, id="the same crash, but not in a row"),
        pytest.param([life(EXITED), life(EXITED)], "twice in a row", id="the same exit code at the same step"),
        pytest.param([life(HANG), life(HANG)], "twice in a row", id="it hangs at the same step again"),
        pytest.param([life(KILLED)] * 2, None, id="killed twice at the same step may be chance"),
        pytest.param([life(KILLED)] * 3, "three times in a row after step 10", id="killed three times there is none"),
        pytest.param([life(LOST)] * 2, None, id="the same step when a node was lost twice"),
        pytest.param([life(NOT_STARTED, None, None)] * 3, None, id="workers that can't be started are tried again"),
        pytest.param(
            [life(NOT_STARTED, None, None)] * 4, "after 3 restarts without a newer checkpoint", id="but not for ever"
        ),
    ],
)
def test_the_decision(lives: list[Attempt], reason: str | None) -> None:
    found = why_not(lives, max_restarts=3)
    if reason is None:
        assert found is None
    else:
        assert found is not None
        assert reason in found


def kills(*saved: int | None) -> list[Attempt]:
    """Lives that were killed at different steps, each leaving this newest checkpoint."""
    began = [0, *(step or 0 for step in saved)]
    return [life(KILLED, began=began[i], reached=100 + i, saved=step) for i, step in enumerate(saved)]


def test_a_job_that_gets_on_is_started_again_however_often_it_is_interrupted() -> None:
    lives = kills(*range(10, 510, 10))
    assert [why_not(lives[: i + 1], 3) for i in range(len(lives))] == [None] * 50


def test_a_job_that_gets_nowhere_is_given_up_after_max_restarts() -> None:
    lives = kills(None, None, None, None)
    assert [why_not(lives[: i + 1], 3) for i in range(3)] == [None] * 3
    assert "after 3 restarts" in (why_not(lives, 3) or "")


def test_a_newer_checkpoint_begins_the_count_anew() -> None:
    assert why_not(kills(10, 10, 10, 20, 20, 20), 3) is None
    assert why_not(kills(10, 10, 10, 20, 20, 20, 20), 3) is None
    assert why_not(kills(10, 10, 10, 20, 20, 20, 20, 20), 3) is not None


def test_a_checkpoint_that_was_there_before_is_no_progress() -> None:
    """The first life went on from step 50 and left nothing newer."""
    assert why_not([life(KILLED, began=50, reached=60, saved=50)], 0) is not None
    assert why_not([life(KILLED, began=50, reached=80, saved=75)], 0) is None


def test_no_restarts_are_allowed() -> None:
    assert "after 0 restarts" in (why_not([life(KILLED)], 0) or "")
