from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.tuning.written import SPACE, big
from trainer.tuning.record import StudyRecord
from trainer.tuning.reports.importance import compared, importances


@pytest.fixture(scope="module")
def study() -> StudyRecord:
    record = big(Path("study"), 150, seed=4)
    return replace(record, trials=[replace(t, state="completed", objective=(t.curve[-1][2],)) for t in record.trials])


def test_what_decides_the_value_comes_first(study: StudyRecord):
    shares = importances(study)
    assert set(list(shares)[:2]) == {"algorithm.lr", "algorithm.optimizer"}
    assert shares["algorithm.lr"] > 0.2
    assert sum(shares.values()) == pytest.approx(1.0)
    assert set(shares) == {p["key"] for p in SPACE}


def test_it_is_the_same_each_time(study: StudyRecord):
    assert importances(study) == importances(study)


def test_one_diverged_trial_does_not_explain_everything(study: StudyRecord):
    first = replace(study.trials[0], objective=(1e12,))
    shares = importances(replace(study, trials=[first, *study.trials[1:]]))
    assert set(list(shares)[:2]) == {"algorithm.lr", "algorithm.optimizer"}


def test_a_parameter_that_exists_only_sometimes_takes_no_share_from_what_makes_it_exist(study: StudyRecord):
    assert importances(study)["algorithm.momentum"] < 0.1


def test_nothing_is_said_of_few_trials_or_of_equal_values(study: StudyRecord):
    assert importances(replace(study, trials=study.trials[:5])) == {}
    equal = [replace(t, objective=(1.0,), curve=[]) for t in study.trials]
    assert importances(replace(study, trials=equal)) == {}
    assert importances(replace(study, trials=[])) == {}


def test_one_parameter_explains_all_there_is(study: StudyRecord):
    trials = [replace(t, values={"algorithm.lr": t.values["algorithm.lr"]}) for t in study.trials]
    assert importances(replace(study, trials=trials, space=SPACE[:1])) == {"algorithm.lr": 1.0}


def test_where_few_trials_complete_they_are_compared_where_many_were(study: StudyRecord):
    stopped = [
        replace(
            t, state="completed" if t.number % 30 == 0 else "stopped_early", curve=t.curve[: 1 + 4 * (t.number % 2)]
        )
        for t in study.trials
    ]
    record = replace(study, trials=stopped)
    losses, resource = compared(record)
    assert resource == 5
    assert all(losses[t.number] == t.curve[4][2] for t in stopped if len(t.curve) == 5)
    assert not [t.number for t in stopped if len(t.curve) < 5 and t.number in losses]
    assert set(list(importances(record))[:2]) == {"algorithm.lr", "algorithm.optimizer"}
