from __future__ import annotations

from typing import Any

from trainer.tuning.curves import curves, reached


def report(step: int, **values: float) -> dict[str, Any]:
    return {"time": 1000.0 + step, "step": step, "epoch": step / 10, "values": values}


REPORTS = [report(10, loss=3.0), report(15, train=1.0), report(20, loss=2.0), report(30, loss=1.0)]


def test_every_metric_has_its_curve_in_the_studys_unit():
    assert curves(REPORTS, "steps", 1000.0)["loss"] == [(10, 10, 3.0), (20, 20, 2.0), (30, 30, 1.0)]
    assert curves(REPORTS, "epochs", 1000.0)["train"] == [(1.5, 15, 1.0)]
    assert [x for x, *_ in curves(REPORTS, "seconds", 1005.0)["loss"]] == [5, 15, 25]


def test_of_steps_that_an_interrupted_trial_came_to_again_the_later_report_counts():
    again = [*REPORTS, report(20, loss=2.5), report(30, loss=1.5), report(40, loss=0.5)]
    found = curves(again, "steps", None)["loss"]
    assert [(x, y) for x, _, y in found] == [(10, 3.0), (20, 2.5), (30, 1.5), (40, 0.5)]


def test_how_far_a_trial_had_come_by_a_step():
    assert reached(REPORTS, "epochs", None, 29) == 2.0
    assert reached(REPORTS, "steps", None, 9) is None
