from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.tuning.written import big, written
from trainer.tuning.record import read
from trainer.tuning.reports.chart_data import chart_data
from trainer.tuning.reports.importance import importances
from trainer.tuning.reports.measures import Measure, curve, measures, value


def test_any_metric_that_a_trial_reported_can_be_looked_at_the_studys_own_first(tmp_path: Path):
    record = read(written(tmp_path / "digits"))
    assert [m.name for m in measures(record)] == ["validation_accuracy", "train_loss"]
    assert [m.goal for m in measures(record)] == ["max", "min"]
    data = chart_data(record)
    assert [m["name"] for m in data["metrics"]] == ["validation_accuracy", "train_loss"]
    assert len(data["importance"]) == len(data["compared"]) == len(data["contours"]) == 2


def test_whether_more_is_better_is_known_from_what_the_algorithm_maximizes(tmp_path: Path):
    record = big(tmp_path, 3)
    running = {"time": 1.0, "state": "Running", "maximize": ["accuracy"]}
    told = {"validation_accuracy": 0.9, "training_seconds": 1.0, "lr": 0.1, "samples_per_second": 5.0}
    trials = [replace(t, metrics={**t.metrics, **told}, events=[running]) for t in record.trials]
    found = {m.name: m.goal for m in measures(replace(record, trials=trials))}
    assert found == {"validation_loss": "min", "validation_accuracy": "max", "size": "min", "training_seconds": "min"}


def test_another_metric_has_its_values_curves_and_importances(tmp_path: Path):
    record = read(written(tmp_path / "digits"))
    trial = record.trials[1]
    assert value(record, trial, "train_loss") == trial.metrics["train_loss"]
    assert [y for *_, y in curve(record, trial, "train_loss")] == [1 / step for step in range(1, 10)]
    assert value(record, record.trials[3], "train_loss") is None  # it failed
    shares = importances(big(tmp_path, 60), Measure("size", "min"))
    assert max(shares, key=lambda key: shares[key]) == "algorithm.layers"
