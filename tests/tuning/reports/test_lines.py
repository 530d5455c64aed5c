from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.tuning.written import big
from trainer.tuning.record import StudyRecord
from trainer.tuning.reports.chart_data import chart_data
from trainer.tuning.reports.lines import joined, thinned


def family(folder: Path, unit: str = "epochs") -> StudyRecord:
    """0 goes to 6; 1 went on from 0 at 3; 2 went on from 1 at 5, and 3 is alone. Of seconds each counts its own."""
    record = replace(big(folder, 4), unit=unit)
    own = {0: range(1, 7), 1: range(4, 7), 2: range(6, 9), 3: range(1, 9)}
    begins = {0: 0, 1: 3, 2: 5, 3: 0} if unit == "seconds" else dict.fromkeys(range(4), 0)
    curves = {n: [(float(x - begins[n]), 0.0, 10.0 * n + x) for x in xs] for n, xs in own.items()}
    told = {1: (0, 3.0), 2: (1, 5.0 - begins[1])}
    trials = [
        replace(
            t, curve=curves[t.number], parent=told.get(t.number, (None,))[0], branch=told.get(t.number, (0, None))[1]
        )
        for t in record.trials
    ]
    return replace(record, trials=trials)


@pytest.mark.parametrize("unit", ["epochs", "seconds"])
def test_a_trial_that_went_on_from_another_is_one_line_with_its_ancestors_up_to_where_it_left_them(
    unit: str, tmp_path: Path
):
    record = family(tmp_path, unit)
    trials = {t.number: t for t in record.trials}
    points, inherited = joined(record, trials[2], "validation_loss", trials)
    assert [(x, y) for x, _, y in points] == [(1, 1), (2, 2), (3, 3), (4, 14), (5, 15), (6, 26), (7, 27), (8, 28)]
    assert inherited == 5
    assert joined(record, trials[3], "validation_loss", trials) == (trials[3].curve, 0)


def test_charts_are_given_the_joined_line_and_the_trial_that_it_went_on_from(tmp_path: Path):
    trial = chart_data(family(tmp_path))["trials"][1]
    assert trial["k"] == 0
    assert trial["c"][0] == [[1, 2, 3, 4, 5, 6], [1, 2, 3, 14, 15, 16], 3]


def test_a_trial_whose_ancestor_is_gone_keeps_its_own_curve(tmp_path: Path):
    record = family(tmp_path)
    trials = {2: record.trials[2]}
    assert joined(record, trials[2], "validation_loss", trials) == (record.trials[2].curve, 0)


def test_a_long_curve_keeps_its_ends():
    assert thinned(range(10_000), 3) == [0, 5000, 9999]
