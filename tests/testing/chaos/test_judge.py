"""What a drill finds wrong, and what it doesn't."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainer.testing.chaos import judge
from trainer.testing.chaos.faults import Given
from trainer.testing.chaos.schedule import RUNNING, STARTING, Fault
from trainer.testing.chaos.subject import Resume


def fault(kind: str, moment: str = RUNNING) -> Fault:
    return Fault(1, kind, moment, 0.0, 0.5)


def resume(reached: int, step: int, whole: tuple[int, ...] = (80, 100)) -> Resume:
    return Resume(0.0, 1, 2, reached, step, frozenset(whole))


def test_steps_lost_are_those_done_since_the_checkpoint() -> None:
    assert judge.steps_lost(fault("kill-worker"), Given(0.0), [resume(117, 100), resume(130, 100)]) == 47
    assert judge.steps_lost(fault("aws"), Given(0.0), [resume(117, 117)]) == 0


def test_a_notice_does_not_answer_for_the_kill_it_came_after() -> None:
    given = Given(0.0, floor=100)
    assert judge.steps_lost(fault("sigterm", STARTING), given, [resume(117, 100)]) == 0
    assert judge.steps_lost(fault("sigterm", STARTING), given, [resume(117, 80)]) == 20
    assert judge.steps_lost(fault("kill-all", STARTING), given, [resume(117, 100)]) == 17


@pytest.mark.parametrize(
    ("found", "floor", "says"),
    [
        (resume(117, 100), 100, ""),
        (resume(117, 0, ()), 0, ""),
        (resume(117, 120, (120,)), 100, "had reached only step 117"),
        (resume(117, 90), 0, "no whole checkpoint"),
        (resume(117, 80), 100, "there was a whole checkpoint of step 100"),
    ],
)
def test_a_wrong_resume_is_found(found: Resume, floor: int, says: str) -> None:
    wrong = judge.wrong_resumes(floor, [found])
    assert len(wrong) == bool(says)
    assert not says or says in wrong[0]


def test_nothing_may_be_lost_after_a_notice_nor_for_a_node_that_comes_back() -> None:
    assert judge.wrong_losses(fault("gcp"), 3, [])
    assert not judge.wrong_losses(fault("gcp"), 0, [])
    assert not judge.wrong_losses(fault("kill-all"), 3, [])
    assert not judge.wrong_losses(fault("lose-node"), 17, [resume(117, 100), resume(130, 130)])
    assert judge.wrong_losses(fault("lose-node"), 20, [resume(117, 100), resume(130, 127)])


def line(step: int, time: float = 0.0, **values: float) -> dict[str, Any]:
    return {"time": time, "step": step, "epoch": 1.0, "samples": 32 * step, "values": values}


def test_metrics_are_compared_but_for_times() -> None:
    nan = float("nan")
    one = [line(1, 5.0, loss=nan, samples_per_second=8.0, mfu=0.4, **{"gpu/0/utilisation": 0.9}), line(2, loss=0.5)]
    assert not judge.differing_metrics(one, [line(1, 9.0, loss=nan), line(2, loss=0.5)])
    assert "0.25" in judge.differing_metrics(one, [line(1, loss=nan), line(2, loss=0.25)])[0]
    assert "2 lines" in judge.differing_metrics(one, one[:1])[0]


def test_weights_are_compared_by_their_bytes(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"same")
        (folder / "artifact.json").write_text(folder.name)
    assert not judge.differing_weights(one, other)
    (one / "model.safetensors").write_bytes(b"sane")
    assert judge.differing_weights(one, other) == ["model.safetensors is not what it should be"]
    (one / "model.safetensors").unlink()
    assert judge.differing_weights(one, other) == ["model.safetensors is missing from the model"]
    assert judge.differing_weights(one, tmp_path / "nothing")
