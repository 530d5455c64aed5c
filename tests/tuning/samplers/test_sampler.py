"""What is tried next: new points that keep the constraints, the same ones for the same seed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.tuning.studies import DEPTH, KIND, LR, MOMENTUM, ask_and_tell, asker, space_of, study_in
from trainer.errors import HeadwayError, UserError
from trainer.tuning.samplers.sampler import Exhausted, choose
from trainer.tuning.spaces.expression import Expression
from trainer.tuning.spaces.parameter import Parameter

GP = pytest.param("gp", marks=pytest.mark.slow)
ALL = ["bayes", "tpe", GP, "cmaes", "random", "nsga2"]


def loss(values: dict[str, Any]) -> float:
    return abs(math.log10(values["algorithm.lr"]) + 2) + 0.1 * values.get("algorithm.depth", 0)


@pytest.mark.parametrize("search", ALL)
def test_every_search_proposes_points_of_the_space(tmp_path: Path, search: str) -> None:
    space = space_of(LR, DEPTH, KIND, MOMENTUM)
    with study_in(tmp_path, space, search=search) as study:
        for values in ask_and_tell(study, asker(study, space, search), 14, loss):
            assert set(values) == set(space.keys)
            space.stored(values)


@pytest.mark.parametrize("search", ALL)
def test_a_driver_that_takes_over_proposes_what_the_one_before_would_have(tmp_path: Path, search: str) -> None:
    space = space_of(LR, DEPTH)
    with study_in(tmp_path / "whole", space, search=search) as study:
        whole = ask_and_tell(study, asker(study, space, search), 14, loss)
    points = []
    for _ in range(7):
        with study_in(tmp_path / "parts", space, search=search) as study:
            points += ask_and_tell(study, asker(study, space, search), 2, loss)
    assert points == whole


@pytest.mark.parametrize("search", ALL)
def test_points_keep_the_constraints(tmp_path: Path, search: str) -> None:
    narrow = Parameter("algorithm.width", "int", 1, 8)
    space = space_of(LR, DEPTH, narrow, constraints=(Expression("algorithm.depth * algorithm.width <= 8"),))
    with study_in(tmp_path, space, search=search) as study:
        for values in ask_and_tell(study, asker(study, space, search), 14, loss):
            assert values["algorithm.depth"] * values["algorithm.width"] <= 8


@pytest.mark.parametrize("search", ["bayes", "tpe", "random", "grid"])
def test_no_point_of_a_finite_space_is_tried_twice_and_then_it_is_over(tmp_path: Path, search: str) -> None:
    space = space_of(DEPTH, KIND)
    with study_in(tmp_path, space, search=search) as study:
        source = asker(study, space, search)
        points = ask_and_tell(study, source, 24, lambda values: float(values["algorithm.depth"]))
        assert len({tuple(point.items()) for point in points}) == 24
        with pytest.raises(Exhausted):
            source.ask()
        assert len(study.trials()) == 24


def test_a_trial_whose_point_was_never_written_gets_one_and_is_not_counted_twice(tmp_path: Path) -> None:
    space = space_of()
    with study_in(tmp_path / "a", space) as study:
        whole = ask_and_tell(study, asker(study, space), 4, loss)
    with study_in(tmp_path / "b", space) as study:
        ask_and_tell(study, asker(study, space), 3, loss)
        study.storage.create_new_trial(study.optuna._study_id)  # and the driver dies
    with study_in(tmp_path / "b", space) as study:
        _, values = asker(study, space).ask()
        assert values == whole[3]
        assert len(study.trials()) == 4


@pytest.mark.parametrize("search", ["bayes", "tpe", GP])
def test_where_trials_fail_fewer_are_tried(tmp_path: Path, search: str) -> None:
    space = space_of(LR, MOMENTUM)

    def fails_above(values: dict[str, Any]) -> float | None:
        return None if values["algorithm.lr"] > 1e-2 else abs(math.log10(values["algorithm.lr"]) + 2.7)

    with study_in(tmp_path, space, search=search) as study:
        points = ask_and_tell(study, asker(study, space, search), 40, fails_above)
    failed = [point["algorithm.lr"] > 1e-2 for point in points]
    assert sum(failed[20:]) < sum(failed[:20])
    assert sum(failed[20:]) <= 8


def test_points_to_start_from_come_first(tmp_path: Path) -> None:
    space = space_of(LR, DEPTH)
    with study_in(tmp_path, space) as study:
        given = {"algorithm.lr": 0.01, "algorithm.depth": 3}
        frozen, values = asker(study, space).ask(given)
        assert values == given
        assert frozen.params == given


def test_constraints_that_nothing_keeps_are_an_error(tmp_path: Path) -> None:
    space = space_of(LR, constraints=(Expression("algorithm.lr > 2"),))
    with study_in(tmp_path, space) as study, pytest.raises(HeadwayError, match="less tightly"):
        asker(study, space, "random").ask()


def test_a_small_space_is_tried_whole() -> None:
    found = choose("bayes", space_of(DEPTH, KIND), 30, 1, False)
    assert (found.name, found.why) == ("grid", "all 24 points fit into 30 trials")
    assert choose("bayes", space_of(DEPTH, KIND), 20, 1, False).name == "bayes"


def test_several_metrics_have_a_search_of_their_own() -> None:
    assert choose("bayes", space_of(), None, 2, False).name == "tpe"
    with pytest.raises(UserError, match="cmaes has one metric"):
        choose("cmaes", space_of(), None, 2, False)


def test_a_grid_needs_an_end() -> None:
    with pytest.raises(UserError, match="search=grid"):
        choose("grid", space_of(), None, 1, False)
