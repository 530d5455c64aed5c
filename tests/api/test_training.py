"""`train` from Python: silent, or as the command shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

import trainer


def test_training_says_nothing_unless_it_is_asked_to(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings = {"algorithm": "linear", "data": "digits", "train.epochs": 1, "job.name": "said"}
    trainer.train(settings)
    assert capfd.readouterr() == ("", "")
    trainer.train(settings, verbose=True)
    assert "said is already completed" in capfd.readouterr().out
    trainer.train(settings, verbose=True, job={"name": "shown"}, seed=1)
    out = capfd.readouterr().out
    assert "train  linear on digits, seed 1" in out
    assert "Completed  shown" in out


def test_a_mistake_that_a_worker_finds_is_the_users(folder: Path) -> None:
    (folder / "holes.csv").write_text("a,b\n" + "1,1\n,2\n" * 20)
    with pytest.raises(trainer.UserError, match="column 'a': the cell is missing"):
        trainer.train({"data": "csv", "data.train": folder / "holes.csv", "data.label": "b"}, algorithm="linear")
