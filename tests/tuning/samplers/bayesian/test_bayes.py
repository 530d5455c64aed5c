"""search=bayes: suggestions that repeat by seed, mind what is under way, fails or is forbidden, and lead to the best."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial, TrialState, create_trial

from trainer.errors import UserError
from trainer.tuning.samplers.bayesian.bayes import Bayes

Space = dict[str, BaseDistribution]
Value = Callable[[dict[str, Any]], float]

PLANE: Space = {"x": FloatDistribution(-5, 10), "y": FloatDistribution(0, 15)}
MIXED: Space = {
    "lr": FloatDistribution(1e-5, 1.0, log=True),
    "momentum": FloatDistribution(0.0, 0.9, step=0.1),
    "layers": IntDistribution(1, 8),
    "width": IntDistribution(16, 1024, log=True),
    "kind": CategoricalDistribution(["a", "b", "c"]),
    "batch": CategoricalDistribution([16, 32, 64, 128]),
}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("error", optuna.exceptions.ExperimentalWarning)
        yield


def study(sampler: optuna.samplers.BaseSampler | None = None, direction: str = "minimize") -> optuna.Study:
    return optuna.create_study(sampler=sampler or Bayes(0), direction=direction)


def run(searched: optuna.Study, space: Space, value: Value, trials: int) -> list[dict[str, Any]]:
    """Trials one after the other; what they tried."""
    tried = []
    for _ in range(trials):
        trial = searched.ask(space)
        tried.append(trial.params)
        searched.tell(trial, value(trial.params))
    return tried


def branin(config: dict[str, Any]) -> float:
    x, y = config["x"], config["y"]
    a = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return a**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def mixed(config: dict[str, Any]) -> float:
    """Least (0) at lr 0.01, momentum 0.5, 4 layers, kind b, batches of 64."""
    loss = (math.log10(config["lr"]) + 2) ** 2 + 4 * (config["momentum"] - 0.5) ** 2 + abs(config["layers"] - 4) / 2
    return loss + (config["kind"] != "b") + abs(math.log2(config["batch"] / 64)) / 2


@pytest.mark.parametrize(("space", "value"), [(PLANE, branin), (MIXED, mixed)])
def test_the_same_seed_suggests_the_same(space: Space, value: Value) -> None:
    assert run(study(Bayes(7)), space, value, 14) == run(study(Bayes(7)), space, value, 14)
    assert run(study(Bayes(8)), space, value, 14) != run(study(Bayes(7)), space, value, 14)


def test_another_process_goes_on_as_the_first_would() -> None:
    whole = study(Bayes(3))
    expected = run(whole, PLANE, branin, 15)
    resumed = study(Bayes(3))
    for trial in whole.get_trials()[:10]:
        resumed.add_trial(trial)
    resumed.sampler = Bayes(3)
    assert run(resumed, PLANE, branin, 5) == expected[10:]


def test_asked_twice_for_the_same_trial_it_answers_the_same() -> None:
    searched = study()
    run(searched, PLANE, branin, 10)
    trial = searched.ask()
    frozen = searched.get_trials()[trial.number]
    answers = [searched.sampler.sample_relative(searched, frozen, PLANE) for _ in range(2)]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(("space", "value", "goal"), [(PLANE, branin, 0.42), (MIXED, mixed, 0.6)])
def test_it_finds_what_random_search_does_not(space: Space, value: Value, goal: float) -> None:
    ours, theirs = study(Bayes(0)), study(optuna.samplers.RandomSampler(seed=0))
    run(ours, space, value, 40)
    run(theirs, space, value, 40)
    assert ours.best_value < goal < theirs.best_value


def test_it_finds_the_greatest_value_too() -> None:
    searched = study(direction="maximize")
    run(searched, PLANE, lambda config: -branin(config), 40)
    assert searched.best_value > -0.42


def test_what_is_under_way_is_not_suggested_again() -> None:
    searched = study()
    run(searched, PLANE, branin, 12)
    under_way = [searched.ask(PLANE).params for _ in range(8)]
    apart = [math.dist(a.values(), b.values()) for i, a in enumerate(under_way) for b in under_way[:i]]
    assert min(apart) > 1e-2


def test_eight_trials_at_once_reach_the_minimum() -> None:
    searched = study()
    waiting: list[Trial] = []
    for _ in range(60):
        if len(waiting) == 8:
            ended = waiting.pop(0)
            searched.tell(ended, branin(ended.params))
        waiting.append(searched.ask(PLANE))
    assert searched.best_value < 0.45


def test_a_small_space_is_tried_whole_before_anything_is_repeated() -> None:
    space: Space = {"layers": IntDistribution(1, 4), "kind": CategoricalDistribution(["a", "b", "c"])}
    searched = study()
    tried = run(searched, space, lambda config: config["layers"] + (config["kind"] != "b"), 12)
    assert len({tuple(config.items()) for config in tried}) == 12
    run(searched, space, lambda config: 1.0, 3)  # and goes on when nothing is left


def test_values_are_those_of_the_space() -> None:
    for config in run(study(), MIXED, mixed, 30):
        for name, value in config.items():
            assert MIXED[name]._contains(MIXED[name].to_internal_repr(value))
        assert round(config["momentum"], 10) in [round(0.1 * i, 10) for i in range(10)]


def test_where_trials_fail_few_more_are_tried() -> None:
    searched = study()
    failed = []
    for _ in range(50):
        trial = searched.ask(PLANE)
        fails = trial.params["x"] > 5  # a third of the space, and one of three minima
        failed.append(fails)
        searched.tell(trial, None if fails else branin(trial.params), TrialState.FAIL if fails else None)
    assert sum(failed[20:]) <= 4
    assert searched.best_value < 0.42


def test_configurations_that_are_not_feasible_are_not_suggested() -> None:
    def feasible(config: dict[str, Any]) -> bool:
        return bool(config["x"] + config["y"] <= 5)

    searched = study(Bayes(0, feasible=feasible))
    tried = run(searched, PLANE, branin, 30)
    assert all(map(feasible, tried[1:]))  # of the first one nothing was known, not even the space


def test_constraints_on_the_outcome_are_kept() -> None:
    searched = study()
    kept = []
    for _ in range(40):
        trial = searched.ask(PLANE)
        excess = trial.params["x"] - 0.0
        trial.set_user_attr("constraints", [excess])
        kept.append(excess <= 0)
        searched.tell(trial, branin(trial.params))
    assert sum(kept[20:]) >= 15
    assert min(t.value for t, k in zip(searched.trials, kept, strict=True) if k and t.value is not None) < 0.45


def test_it_searches_for_any_that_satisfies_the_constraints_first() -> None:
    sampler = Bayes(0, constraints_func=lambda trial: (trial.params["x"] + 4, 1 - trial.params["y"] / 14))
    searched = study(sampler)
    tried = run(searched, PLANE, branin, 30)
    assert any(config["x"] <= -4 and config["y"] >= 14 for config in tried)


def conditional(trial: Trial) -> float:
    """Least (0) for a tree of depth 3; a linear model comes to 0.5 at best."""
    if trial.suggest_categorical("model", ["linear", "tree", "none"]) == "linear":
        return 0.5 + abs(math.log10(trial.suggest_float("penalty", 1e-4, 1e2, log=True)))
    if trial.params["model"] == "tree":
        return abs(trial.suggest_int("depth", 1, 20) - 3) / 10
    return 1.0


def test_parameters_that_are_not_always_there() -> None:
    searched = study()
    searched.optimize(conditional, n_trials=35)
    assert searched.best_params == {"model": "tree", "depth": 3}
    assert sum(t.params["model"] == "none" for t in searched.trials) <= 6  # there it can find out nothing new


def test_trials_stopped_early_count_and_are_never_the_best() -> None:
    searched = study()
    for _ in range(40):
        trial = searched.ask(PLANE)
        end = branin(trial.params)
        trial.report(end + 5, 1)
        if end > 20:
            searched.tell(trial, state=TrialState.PRUNED)
        else:
            searched.tell(trial, end)
    assert searched.best_value < 0.45


def test_earlier_trials_and_points_to_start_from() -> None:
    earlier = [
        create_trial(params={"x": x, "y": y}, distributions=PLANE, value=branin({"x": x, "y": y}))
        for x, y in [(0, 5), (3, 3), (-3, 12), (9, 2), (5, 10), (-5, 0), (2, 2), (8, 14)]
    ]
    searched = study()
    searched.add_trials(earlier)
    searched.enqueue_trial({"x": -3.0, "y": 11.0})
    tried = run(searched, PLANE, branin, 20)
    assert tried[0] == {"x": -3.0, "y": 11.0}
    assert searched.best_value < 0.6


def test_trials_from_a_wider_space_do_not_lead_out_of_this_one() -> None:
    wide: Space = {"x": FloatDistribution(-50, 50), "y": FloatDistribution(0, 15)}
    searched = study()
    run(searched, wide, lambda config: config["x"], 10)
    assert all(-5 <= config["x"] <= 10 for config in run(searched, PLANE, branin, 10))


@pytest.mark.parametrize(
    "values",
    [[1.0], [0.0], [1.0, math.inf], [1e300, -1e300, 0.0], [1.0, 1e-300], [math.inf], [-math.inf, 1.0, 2.0]],
    ids=str,
)
def test_values_that_say_little_do_no_harm(values: list[float]) -> None:
    searched = study()
    for i in range(20):
        searched.tell(searched.ask(MIXED), values[i % len(values)])
    assert len(searched.trials) == 20


def test_several_metrics_are_for_another_sampler() -> None:
    searched = optuna.create_study(sampler=Bayes(0), directions=["minimize", "maximize"])
    searched.add_trial(create_trial(params={"x": 1.0, "y": 1.0}, distributions=PLANE, values=[0.0, 1.0]))
    with pytest.raises(UserError, match="nsga2"):
        searched.ask(PLANE)


@pytest.mark.parametrize("trials", [500, pytest.param(2000, marks=pytest.mark.slow)])
def test_many_trials(trials: int) -> None:
    searched = study(optuna.samplers.RandomSampler(seed=0))
    run(searched, PLANE | {"kind": CategoricalDistribution(["a", "b", "c"])}, branin, trials)
    searched.sampler = Bayes(0)
    run(searched, PLANE | {"kind": CategoricalDistribution(["a", "b", "c"])}, branin, 8)
    assert searched.best_value < 0.41
