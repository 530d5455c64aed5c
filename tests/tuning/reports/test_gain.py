from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tuning.written import written
from trainer.tuning.record import StudyRecord, read
from trainer.tuning.reports.chart_data import chart_data
from trainer.tuning.reports.gain import gain, gained
from trainer.tuning.reports.plain import plain
from trainer.tuning.reports.show import closing, show


@pytest.fixture
def record(tmp_path: Path) -> StudyRecord:
    """Trial 1 is the best with 0.919, trial 0 the default with 0.909; more is better."""
    return of(read(written(tmp_path / "digits")), 0)


def of(record: StudyRecord, number: int, **more: Any) -> StudyRecord:
    trials = [replace(t, default=t.number == number, **(more if t.number == number else {})) for t in record.trials]
    return replace(record, trials=trials)


def test_the_gain_over_the_default_is_read_off(record: StudyRecord, capsys: pytest.CaptureFixture[str]):
    told = "best 0.9190; default 0.9090; gain 0.0100 (1.1%)"
    assert gained(record) == told
    assert gain(record) == pytest.approx(0.01)
    show(record)
    assert re.search(rf"^gain +{re.escape(told)}", capsys.readouterr().out, re.MULTILINE)
    closing(record)
    out = capsys.readouterr().out
    assert f"gain   {told}" in out
    assert "validation_accuracy   0.9190    0.9090" in out
    assert plain(record)["default"]["number"] == 0
    data = chart_data(record)["study"]
    assert (data["default"], data["gain"]) == (0, told)


def test_of_a_loss_less_is_a_gain(record: StudyRecord):
    assert gain(replace(of(record, 1), goals=["min"])) == pytest.approx(0.01)


def test_where_the_default_is_the_best_it_is_said(record: StudyRecord):
    assert gained(of(record, 1)) == "best 0.9190; no trial is better than the default"
    assert gain(of(record, 1)) == 0.0


def test_a_default_without_a_value_says_why(record: StudyRecord):
    assert gained(of(record, 3)) == (
        "the default has no value to compare with: trial 3 failed: NaN: the loss is not finite"
    )
    assert "trial 4 interrupted" in gained(of(record, 4))
    assert "outside of tune.constraints" in gained(of(record, 0, feasible=False))
    assert gain(of(record, 3)) is None


def test_a_study_without_one_says_nothing(record: StudyRecord):
    assert gained(of(record, -1)) == ""
    assert plain(of(record, -1))["default"] is None
    assert chart_data(of(record, -1))["study"]["default"] is None
