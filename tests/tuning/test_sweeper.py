"""`headway train -m hydra/sweeper=headway`: a study by Hydra's own command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.cli.command import main

SWEEP = ["train", "-m", "hydra/sweeper=headway", "algorithm=linear", "data=digits"]
SPAN = "algorithm.lr=tag(log,interval(1e-4,1))"
DRY = "hydra.sweeper.study.dry_run=true"


def test_what_the_overrides_span_is_the_space(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SWEEP, SPAN, "strategy=single,auto", "train.epochs=2", DRY]) == 0
    said = capsys.readouterr().out
    assert "algorithm.lr  0.0001 … 1  log" in said
    assert "strategy      single, auto" in said
    assert not list(folder.iterdir())


def test_its_groups_are_chosen_under_its_node(folder: Path) -> None:
    assert main([*SWEEP, SPAN, "search@hydra.sweeper.search=tpe", "scheduler@hydra.sweeper.scheduler=asha", DRY]) == 0


def test_without_a_span_the_recommended_space_is_searched(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SWEEP, DRY]) == 0
    assert "algorithm.lr" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("hydra.sweeper.tune.trails=3", "did you mean 'hydra.sweeper.tune.trials'"),
        ("hydra.sweeper.tune.trials=many", "tune.trials: 'many' is not a whole number"),
        ("hydra.sweeper.tune.trials=0", "tune.trials: 0 must be more than 0"),
        ("algorithm.lx=0.1", "did you mean 'algorithm.lr'"),
        ("search@hydra.sweeper.search=tpa", "there is no such choice; did you mean 'tpe'"),
    ],
)
def test_a_mistake_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str], wrong: str, says: str) -> None:
    assert main([*SWEEP, SPAN, DRY, wrong]) == 2
    said = capsys.readouterr().err.strip()
    assert says in said
    assert "\n" not in said


def test_other_sweeps_stay_hydras(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = [a for a in SWEEP if not a.startswith("hydra/")]
    assert main([*sweep, "algorithm.lr=0.1,0.01", "job.dry_run=true"]) == 0
    said = capsys.readouterr().out
    assert "lr: 0.1\n" in said
    assert "lr: 0.01\n" in said
