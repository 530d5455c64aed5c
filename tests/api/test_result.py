"""What a job came to: its figures, its history, and what it looks like in a notebook."""

from __future__ import annotations

from dataclasses import replace

import pytest

import trainer


def test_a_history_has_a_row_for_each_step_that_was_reported(digits: trainer.Result) -> None:
    history = digits.history()
    assert list(history.columns[:4]) == ["step", "epoch", "time", "samples"]
    assert history["step"].tolist() == [45, 50, 90]
    assert history["validation_accuracy"].notna().tolist() == [True, False, True]
    assert history["train_loss"].notna().all()
    assert history["validation_accuracy"].iloc[-1] == digits["validation_accuracy"]
    assert str(history["time"].dt.tz) == "UTC"


def test_a_history_needs_the_job(digits: trainer.Result) -> None:
    with pytest.raises(trainer.UserError, match="the job's directory is gone"):
        replace(digits, dir=f"{digits.dir}-moved").history()


def test_a_result_is_a_few_lines(digits: trainer.Result) -> None:
    lines = repr(digits).splitlines()
    assert lines[0].startswith("Completed  ")
    assert lines[1].split()[0] == "validation_accuracy"
    assert lines[-2] == "90 steps, 2 epochs, 2,876 samples, 1 worker"
    assert len(lines) == 6
    assert max(map(len, lines[1:-1])) < 80


def test_a_metric_that_is_not_there_is_told_with_the_nearest(digits: trainer.Result) -> None:
    with pytest.raises(KeyError, match="did you mean 'validation_accuracy'"):
        digits["validation_acc"]


def test_a_model_is_loaded_from_its_folder_alone(digits: trainer.Result) -> None:
    for other in (None, digits):
        with pytest.raises(trainer.UserError, match=r"from its folder, such as result\.model, not from a"):
            trainer.load(other)  # type: ignore[arg-type]


def test_a_model_is_a_few_lines(digits: trainer.Result) -> None:
    lines = repr(trainer.load(str(digits.model))).splitlines()
    assert lines[:2] == ["Linear model, from 64 columns to digit, 10 classes", "650 parameters"]
    assert lines[2].startswith("best  validation_accuracy 0.9")
