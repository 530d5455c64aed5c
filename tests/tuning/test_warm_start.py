"""Trials of earlier studies count as observations where they lie in the new space."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tuning.studies import DEPTH, LR, ask_and_tell, asker, space_of, study_in
from trainer.errors import UserError
from trainer.tuning.spaces.parameter import Parameter
from trainer.tuning.spaces.space import Space
from trainer.tuning.warm_start import add_priors, observations


def earlier(folder: Path, space: Space, **more: object) -> str:
    """A study with ten trials."""
    with study_in(folder, space, **more) as study:
        ask_and_tell(study, asker(study, space, "random"), 10, lambda values: values["algorithm.lr"])
    return str(folder)


def test_observations_of_the_same_space_all_count_and_no_trial_is_run_for_them(tmp_path: Path) -> None:
    space = space_of(LR, DEPTH)
    name = earlier(tmp_path / "a", space)
    with study_in(tmp_path / "b", space) as study:
        add_priors(study, space, [name])
        assert study.trials() == []
        priors = study.trials(own=False)
        assert len(priors) == 10
        assert all(trial.values == [trial.params["algorithm.lr"]] for trial in priors)
        frozen, _ = asker(study, space).ask()
        assert frozen.number == 10


def test_of_an_overlapping_space_those_inside_count(tmp_path: Path) -> None:
    name = earlier(tmp_path / "a", space_of(LR, DEPTH))
    narrower = space_of(Parameter("algorithm.lr", "float", 1e-2, 1.0, "log"), DEPTH)
    with study_in(tmp_path / "b", narrower) as study:
        found = observations(name, narrower, study.facts)
    assert 0 < len(found) < 10
    assert all(values["algorithm.lr"] >= 1e-2 for values, _ in found)


def test_what_the_earlier_study_did_not_search_is_taken_from_its_config(tmp_path: Path) -> None:
    base = {"algorithm": {"depth": 4}, "data": {}, "train": {}, "job": {"seed": 0}}
    name = earlier(tmp_path / "a", space_of(LR), base=base)
    with study_in(tmp_path / "b", space_of(LR, DEPTH)) as study:
        assert {values["algorithm.depth"] for values, _ in observations(name, space_of(LR, DEPTH), study.facts)} == {4}


def test_a_study_of_another_metric_is_refused(tmp_path: Path) -> None:
    name = earlier(tmp_path / "a", space_of(LR), metrics=["validation_accuracy"], goals=["max"])
    with study_in(tmp_path / "b", space_of(LR)) as study, pytest.raises(UserError, match="max validation_accuracy"):
        observations(name, space_of(LR), study.facts)


def test_a_study_that_says_nothing_of_the_space_is_refused(tmp_path: Path) -> None:
    name = earlier(tmp_path / "a", space_of(LR))
    elsewhere = space_of(Parameter("algorithm.lr", "float", 10.0, 20.0))
    with study_in(tmp_path / "b", elsewhere) as study, pytest.raises(UserError, match="no finished trial"):
        observations(name, elsewhere, study.facts)
