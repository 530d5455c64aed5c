"""When a study ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from tests.tuning.studies import LR, asker, space_of, study_in
from trainer.tuning.stopping import End, Ends, ends_of
from trainer.tuning.study import Study

UNBOUND: dict[str, Any] = dict.fromkeys(("trials", "max_time", "max_device_hours", "target", "patience"))


def bounds(goal: str = "min", **some: Any) -> Ends:
    return ends_of({**UNBOUND, "max_failures": 5, **some}, goal)


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    with study_in(tmp_path, space_of(LR)) as study:
        yield study


def tell(study: Study, value: float | None, **told: Any) -> None:
    """A trial that ended so; None failed."""
    frozen, _ = asker(study, space_of(LR), "random").ask()
    study.note(frozen, **told)
    study.optuna.tell(frozen.number, value, state=TrialState.FAIL if value is None else TrialState.COMPLETE)


def look(ends: Ends, study: Study, *, ran: float = 0.0, device_seconds: float = 0.0) -> End | None:
    return ends.by_trials(study.trials()) or ends.by_time(time.monotonic() - ran, device_seconds)


def test_after_its_trials_and_those_that_run_are_finished(study: Study) -> None:
    ends = bounds(trials=3)
    tell(study, 1.0)
    asker(study, space_of(LR), "random").ask()
    assert look(ends, study) is None
    tell(study, None)
    end = look(ends, study)
    assert end is not None
    assert end.leaves_running


def test_by_default_after_fifty_trials(study: Study) -> None:
    assert bounds().trials == 50
    assert bounds(max_time="1h").trials is None


def test_after_its_time(study: Study) -> None:
    ends = bounds(max_time="1m")
    assert look(ends, study, ran=59) is None
    end = look(ends, study, ran=61)
    assert end is not None
    assert not end.leaves_running


def test_after_a_budget_of_device_hours(study: Study) -> None:
    ends = bounds(max_device_hours=2)
    assert look(ends, study, device_seconds=7199) is None
    assert look(ends, study, device_seconds=7200) is not None


@pytest.mark.parametrize(("goal", "short", "reached"), [("min", 0.51, 0.5), ("max", 0.49, 0.5)])
def test_once_the_target_is_reached(study: Study, goal: str, short: float, reached: float) -> None:
    ends = bounds(goal, target=0.5)
    assert look(ends, study) is None
    tell(study, short)
    assert look(ends, study) is None
    tell(study, reached)
    assert look(ends, study) is not None


def test_a_value_outside_the_constraints_reaches_no_target(study: Study) -> None:
    tell(study, 0.1, constraints=[2.0])
    assert look(bounds(target=0.5), study) is None


def test_after_trials_without_an_improvement(study: Study) -> None:
    ends = bounds(patience=3)
    for value in (1.0, 2.0, 0.5, 0.6, None):
        tell(study, value)
        assert look(ends, study) is None
    tell(study, 0.5)
    assert look(ends, study) is not None


def test_after_five_failures_in_a_row_of_one_kind(study: Study) -> None:
    for kind in ("nan", "nan", "memory", "nan", "nan", "nan", "nan"):
        tell(study, None, kind=kind, reason=f"{kind}!")
        assert look(bounds(), study) is None
    tell(study, None, kind="nan", reason="it became nan")
    end = look(bounds(), study)
    assert end is not None
    assert end.failed
    assert "it became nan" in end.reason


def test_a_success_between_failures_lets_it_go_on(study: Study) -> None:
    for value in (None, None, None, None, 1.0, None, None, None, None):
        tell(study, value, kind="nan")
        assert look(bounds(), study) is None
