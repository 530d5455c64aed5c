from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tuning.written import big
from trainer.tuning.record import StudyRecord
from trainer.tuning.reports.chart_data import chart_data
from trainer.tuning.reports.contours import SHADES, shades, standing
from trainer.tuning.reports.measures import Measure, measures, value

BEST = "8i"


def cell_of(place: tuple[float, ...], rows: list[str]) -> tuple[int, int]:
    return int(place[0] * len(rows[0])), int(place[1] * len(rows))


def best_cells(rows: list[str]) -> set[tuple[int, int]]:
    return {(x, y) for y, row in enumerate(rows) for x, shade in enumerate(row) if shade in BEST}


def hang_together(cells: set[tuple[int, int]]) -> bool:
    left, edge = set(cells), list(cells)[:1]
    while edge:
        x, y = edge.pop()
        if (x, y) in left:
            left.remove((x, y))
            edge += [(x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)]
    return not left


@pytest.mark.parametrize("seed", range(20))
def test_the_best_region_is_one_and_holds_the_best_trial(seed: int):
    rng = random.Random(seed)
    count = rng.choice([5, 14, 60, 300])
    places = [(rng.random(), rng.random()) for _ in range(count)]
    rows = shades(places, [None, None])
    found = best_cells(rows)
    assert cell_of(places[0], rows) in found
    assert hang_together(found)


def test_a_best_trial_among_bad_ones_keeps_its_region_though_good_ones_lie_elsewhere():
    good = [(0.8 + 0.01 * i, 0.8) for i in range(12)]
    bad = [(0.2 + 0.03 * i, 0.2 + 0.02 * j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
    rows = shades([(0.2, 0.2), *good, *bad], [None, None])
    found = best_cells(rows)
    assert cell_of((0.2, 0.2), rows) in found
    assert all(x < 28 and y < 28 for x, y in found)


def test_of_trials_at_one_point_the_best_counts():
    rows = shades([(0.5, 0.5), (0.1, 0.9), (0.9, 0.1), *[(0.5, 0.5)] * 6], [None, None])
    assert cell_of((0.5, 0.5), rows) in best_cells(rows)


def test_between_levels_of_a_choice_nothing_is_estimated():
    rows = shades([(1 / 6, 0.5), (5 / 6, 0.5), (5 / 6, 0.1)], [3, None])
    assert len(rows[0]) == 3
    assert {row[1] for row in rows} == {"."}
    assert {x for x, _ in best_cells(rows)} == {0}


def test_cells_are_rows_of_shades_the_lowest_first(tmp_path: Path):
    rows = shades([(0.1, 0.1), (0.9, 0.9), (0.5, 0.5)], [None, None])
    assert {len(row) for row in rows} == {len(rows)}
    assert rows[int(0.9 * len(rows))][int(0.9 * len(rows))] in SHADES[3:6]


def of_the_best(record: StudyRecord, which: int) -> list[tuple[bool, bool]]:
    """Of each contour of a metric: whether its best region holds the best trial, and there is one."""
    data = chart_data(record)
    best = standing(record, measures(record)[which])[0]
    found = []
    for contour in data["contours"][which]:
        pair = (contour["x"], contour["y"])
        at = tuple(axis(data["params"][i], best.values[record.keys[i]], data["margin"]) for i in pair)
        cells = best_cells(contour["rows"])
        found.append((cell_of(at, contour["rows"]) in cells, bool(cells)))
    return found


def axis(parameter: dict[str, Any], item: Any, margin: float) -> float:
    """Where the page draws a value: as `numbers` and `levels` of base.js."""
    if parameter["levels"]:
        return float((parameter["levels"].index(str(item)) + 0.5) / len(parameter["levels"]))
    to = {"log": math.log10, "reverse_log": lambda v: -math.log10(1 - v), "linear": float}[parameter["scale"]]
    low, high = to(parameter["low"]), to(parameter["high"])
    return float((to(item) - low + margin * (high - low)) / ((1 + 2 * margin) * (high - low)))


@pytest.mark.parametrize("which", [0, 1])
def test_on_the_page_the_best_trial_lies_in_the_best_region_whichever_metric_is_chosen(which: int, tmp_path: Path):
    record = big(tmp_path, 80)
    assert [m.name for m in measures(record)] == ["validation_loss", "size"]
    assert of_the_best(record, which) == [(True, True)] * 3


def test_the_studys_best_is_ahead_of_what_earlier_studies_have_seen(tmp_path: Path):
    record = big(tmp_path, 20)
    trials = [
        replace(t, prior="earlier", state="completed", objective=(0.0,)) if t.number == 3 else t for t in record.trials
    ]
    record = replace(record, trials=trials)
    order = [t.number for t in standing(record, Measure("validation_loss", "min"))]
    best = record.best()
    assert best is not None
    assert order[:2] == [best.number, 3]


def test_trials_that_were_stopped_stand_by_how_far_they_came_then_by_value(tmp_path: Path):
    record = big(tmp_path, 60)
    found = [t for t in standing(record, Measure("validation_loss", "min")) if t.state == "stopped_early"]
    keys = [(-t.curve[-1][0], value(record, t, "validation_loss")) for t in found]
    assert keys == sorted(keys, key=lambda key: (key[0], key[1] or 0.0))
