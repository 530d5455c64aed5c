"""search=cmaes proposes what Optuna's own sampler does, and keeps no pickles."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler, CmaEsSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from trainer.tuning.samplers.cmaes import Evolution

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
SPACE = {"x": FloatDistribution(-3.0, 3.0), "y": FloatDistribution(1e-4, 1.0, log=True)}


def searched(kind: type[BaseSampler], trials: int, path: Path | None = None, direction: str = "minimize") -> Any:
    """A study in which each trial has a sampler of its own, as `headway tune` does it."""
    storage = JournalStorage(JournalFileBackend(str(path))) if path else None
    study = optuna.create_study(storage=storage, direction=direction, study_name="one", load_if_exists=True)
    for number in range(len(study.trials), trials):
        study.sampler = kind(seed=100 + number)  # type: ignore[call-arg]
        trial = study.ask(SPACE)
        study.tell(trial, (trial.params["x"] - 1.0) ** 2 + trial.params["y"])
    return study


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_it_proposes_what_optunas_own_does(direction: str) -> None:
    ours, theirs = (searched(kind, 40, direction=direction) for kind in (Evolution, CmaEsSampler))
    for mine, its in zip(ours.trials, theirs.trials, strict=True):
        assert mine.params == pytest.approx(its.params, rel=1e-9)  # to the last bit but of rounding
    if direction == "minimize":
        assert ours.best_value < 0.05


def test_a_driver_that_takes_over_proposes_what_the_one_before_would_have(tmp_path: Path) -> None:
    searched(Evolution, 20, tmp_path / "journal")
    again = searched(Evolution, 35, tmp_path / "journal")
    assert [trial.params for trial in again.trials] == [trial.params for trial in searched(Evolution, 35).trials]
    assert "optimizer" not in (tmp_path / "journal").read_text()


class Marked:
    """Leaves a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_in_a_study_is_not_read(tmp_path: Path) -> None:
    study = searched(Evolution, 10, tmp_path / "journal")
    held = pickle.dumps(Marked(tmp_path / "mark")).hex()
    for trial in study.trials:
        if trial.number < 9:
            continue
        more = study.ask(SPACE)
        study._storage.set_trial_system_attr(more._trial_id, "cma:optimizer:0", held)
        study.tell(more, 1.0)
    searched(Evolution, 20, tmp_path / "journal")
    assert not (tmp_path / "mark").exists()
