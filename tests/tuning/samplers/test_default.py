from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tuning.studies import DEPTH, KIND, LR, asker, facts, space_of, study_in
from tests.tuning.test_engine import begin, complete, engine_in
from trainer.tuning.samplers.default import Start, gone_on_with, start
from trainer.tuning.samplers.sampler import choose
from trainer.tuning.schedulers.choice import scheduler_of
from trainer.tuning.spaces.expression import Expression
from trainer.tuning.spaces.parameter import Parameter
from trainer.tuning.spaces.space import Space

GRID = space_of(
    Parameter("algorithm.depth", "int", 1, 3), Parameter("algorithm.kind", "choice", choices=("tree", "line"))
)


def begun(space: Space, search: str = "tpe", trials: int | None = 10, given: Any = (), **config: Any) -> Start:
    return start(space, {"algorithm": config}, given, choose(search, space, trials, 1, False), trials)


def test_the_first_trial_is_the_config_as_it_is():
    found = begun(space_of(LR, DEPTH), lr=0.01, depth=3, other=5)
    assert found == Start(
        [{"algorithm.lr": 0.01, "algorithm.depth": 3}], 0, "trial 0 is the default, the config as it is"
    )


def test_points_to_start_from_come_before_it_and_may_be_it():
    points = [{"algorithm.lr": 0.5}, {"algorithm.lr": 0.01}]
    found = begun(space_of(LR), given=points[:1], lr=0.01)
    assert (found.points, found.default) == (points, 1)
    found = begun(space_of(LR), given=points, lr=0.01)
    assert (found.points, found.default) == (points, 1)
    found = begun(space_of(LR), given=points, trials=2, lr=0.03)
    assert (found.points, found.default) == (points, None)
    assert "tune.start_from has a point for each trial" in found.words


def test_what_of_it_lies_outside_of_the_space_is_told_and_stays_as_it_is():
    found = begun(space_of(LR, DEPTH, KIND), lr=0.0, depth=3, kind="bush")
    assert (found.points, found.default) == ([{"algorithm.depth": 3}], 0)
    assert found.words.endswith("outside of the space: algorithm.lr=0.0, algorithm.kind=bush")


@pytest.mark.parametrize("config", [{"lr": 0.01}, {"lr": 0.01, "depth": "???"}])
def test_where_a_key_has_no_value_there_is_no_default(config: dict[str, Any]):
    found = begun(space_of(LR, DEPTH), **config)
    assert (found.points, found.default) == ([], None)
    assert found.words == "no trial of the default: algorithm.depth has no value"


@pytest.mark.parametrize("search", ["cmaes", "nsga2"])
def test_a_search_that_it_would_mislead_goes_without_one_outside_of_the_space(search: str):
    found = begun(space_of(LR, DEPTH), search, lr=0.0, depth=3)
    assert (found.points, found.default) == ([], None)
    assert found.words.startswith(f"no trial of the default: search={search}")
    assert begun(space_of(LR, DEPTH), search, lr=0.1, depth=3).default == 0


def test_one_that_breaks_a_constraint_is_not_tried():
    found = begun(space_of(LR, DEPTH, constraints=(Expression("algorithm.depth < 3"),)), lr=0.01, depth=3)
    assert (found.default, found.words) == (None, "no trial of the default: it breaks tune.constraints")


def test_a_grid_gets_no_further_trial_where_each_has_its_point():
    outside = {"depth": 9, "kind": "tree"}
    assert begun(GRID, "grid", 6, **outside).default is None
    assert begun(GRID, "grid", 7, **outside).default == 0
    assert begun(GRID, "grid", None, **outside).default == 0


def test_of_a_grid_it_is_the_point_that_is_the_same(tmp_path: Path):
    told = begun(GRID, "grid", 6, depth=2.0, kind="line")
    with study_in(tmp_path / "s", GRID) as study:
        ask = asker(study, GRID, "grid", 6)
        found = [ask.ask(told.points[0], default=True)[1], *(ask.ask()[1] for _ in range(5))]
        marked = [t.user_attrs.get("default") for t in study.trials()]
    assert found[0] == {"algorithm.depth": 2, "algorithm.kind": "line"}
    assert len({str(point) for point in found}) == 6
    assert marked == [True, *[None] * 5]


@pytest.mark.parametrize("search", ["tpe", "gp", "bayes", "random"])
def test_a_sampler_learns_from_it_in_the_space_and_searches_every_parameter_if_it_is_outside(
    search: str, tmp_path: Path
):
    space = space_of(LR, DEPTH)
    with study_in(tmp_path / "s", space) as study:
        ask = asker(study, space, search)
        frozen, values = ask.ask({"algorithm.depth": 3}, default=True)
        assert (values, frozen.params) == ({"algorithm.depth": 3}, {})
        study.optuna.tell(frozen.number, 0.0)
        for number in range(14):
            frozen, values = ask.ask()
            assert set(values) == {"algorithm.lr", "algorithm.depth"}
            study.optuna.tell(frozen.number, abs(values["algorithm.lr"] - 0.1) + number % 2)
        if search == "gp":
            assert set(study_space(ask)) == {"algorithm.lr", "algorithm.depth"}
    with study_in(tmp_path / "t", space) as study:
        frozen, _ = asker(study, space, search).ask({"algorithm.lr": 0.1, "algorithm.depth": 3}, default=True)
        assert frozen.params == {"algorithm.lr": 0.1, "algorithm.depth": 3}


def study_space(ask: Any) -> dict[str, Any]:
    """The parameters that the sampler proposes together, at the next trial."""
    frozen, _ = ask.ask()
    found: dict[str, Any] = ask.choice.make(0, frozen.number).infer_relative_search_space(ask._seen(), frozen)
    return found


def test_it_is_the_first_trial_also_of_a_driver_that_takes_the_study_over(tmp_path: Path):
    points = [{"algorithm.lr": 0.05}]
    with engine_in(tmp_path / "s", start_from=points, trials=2) as engine:
        engine.default = 0
        live = begin(engine)
        assert live.values == points[0]
        complete(engine, live, validation_loss=0.4)
    with engine_in(tmp_path / "s", start_from=points, trials=2) as engine:
        engine.default = 0
        assert begin(engine).values != points[0]
        assert engine.next() is None  # it counts as one of tune.trials
        assert [t.user_attrs.get("default") for t in engine.study.trials()] == [True, None]


def test_a_study_that_began_without_one_gets_none_later(tmp_path: Path):
    space = space_of(LR, DEPTH)
    told = begun(space, lr=0.01, depth=3)
    with study_in(tmp_path / "s", space) as study:
        ask = asker(study, space)
        assert gone_on_with(told, study.trials()) == told
        ask.ask()
        assert gone_on_with(told, study.trials()) == Start(told.points, None, "")
    with study_in(tmp_path / "t", space) as study:
        asker(study, space).ask(told.points[0], default=True)
        assert gone_on_with(told, study.trials()) == told


OPTIONS = {"unit": "epochs", "min": None, "max": None, "reduction": 2, "interval": None, "startup": 1}


@pytest.mark.parametrize("name", ["asha", "median"])
def test_no_scheduler_stops_it(name: str, tmp_path: Path):
    space = space_of(LR)
    with study_in(tmp_path / name, space, scheduler=name) as study:
        ask = asker(study, space, "random")
        scheduler = scheduler_of(study, {**OPTIONS, "name": name})
        others = [ask.ask()[0] for _ in range(4)]
        default, _ = ask.ask({"algorithm.lr": 0.9}, default=True)
        worst, _ = ask.ask()
        at = {"steps": 10.0, "epochs": 1.0, "seconds": 1.0, "total": 100.0}
        for i, trial in enumerate(others):
            scheduler.decide(trial, at, 0.1 * i)
            study.optuna.tell(trial.number, 0.1 * i)
        assert scheduler.decide(worst, at, 9.0)
        assert scheduler.decide(default, at, 10.0) == {}


def test_a_study_that_is_described_anew_begins_with_the_same(tmp_path: Path):
    space = space_of(LR, DEPTH, KIND)
    told = Space.from_yaml(facts(space)["space"])
    config = {"lr": 0.02, "depth": 4, "kind": None}
    assert begun(told, **config) == begun(space, **config)
    assert begun(space, **config).points == [{"algorithm.lr": 0.02, "algorithm.depth": 4, "algorithm.kind": None}]
