"""A space held against the config that it varies, and the points that come out of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from trainer.config import schema
from trainer.config.compose import compose, recommended
from trainer.errors import UserError
from trainer.tuning.spaces.checking import build
from trainer.tuning.spaces.grammar import from_config, split
from trainer.tuning.spaces.placing import known_values
from trainer.tuning.spaces.space import Parameter, Space, placed

HUBER = Parameter("algorithm.huber_delta", "float", 0.1, 10, "log", when="algorithm.objective == 'huber'")


@pytest.fixture(scope="module")
def linear() -> dict[str, Any]:
    return compose([])


@pytest.fixture(scope="module")
def gpt() -> dict[str, Any]:
    return compose(["algorithm=gpt", "data=text", "data.train=corpus.txt"])


def spanned(*overrides: str) -> list[Parameter]:
    return split(list(overrides))[1]


def composed(choices: Mapping[str, str]) -> dict[str, Any]:
    return compose([f"{group}={choice}" for group, choice in choices.items()])


def ask(trial: optuna.Trial) -> Any:
    """What a trial suggests for a distribution."""

    def suggest(name: str, distribution: BaseDistribution) -> Any:
        if isinstance(distribution, CategoricalDistribution):
            return trial.suggest_categorical(name, distribution.choices)
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        kind = trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
        return kind(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)  # type: ignore[operator]

    return suggest


# what is found before the first trial


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["algorithm.lr=interval(-1,2)"], r"algorithm\.lr: -1\.0 must be more than 0"),
        (["algorithm.quantile=interval(0.1,1)"], r"algorithm\.quantile: 1\.0 must be less than 1"),
        (["algorithm.lrr=interval(1,2)"], "algorithm.lrr: .*did you mean 'lr'"),
        (["algoritm.lr=interval(1,2)"], "algoritm.lr: there is no such key; did you mean 'algorithm.lr'"),
        (["train.bacth_size=4,5"], "train.bacth_size: there is no such key; did you mean 'train.batch_size'"),
        (["train.early_stopping.patient=4,5"], "did you mean 'train.early_stopping.patience'"),
        (["train.batch_size.x=4,5"], "train.batch_size is a value"),
        (["lr=1,2"], "lr: there is no such key; did you mean 'algorithm.lr'"),
        (["train.batch_size=interval(0.5,5)"], r"train\.batch_size: 0\.5 is not a whole number"),
        (["train.log_every=interval(0.5,5)"], r"train\.log_every: 0\.5 is not a whole number"),
        (["train.compile=1,2"], r"train\.compile: 1 is not true or false"),
        (["algorithm.objective=auto,hubr"], "'hubr' is not one of its choices; did you mean 'huber'"),
        (["algorithm.normalize=true,sometimes"], r"algorithm\.normalize: 'sometimes' is not true or false"),
        (["strategy=ddp,fsd"], "strategy=fsd: there is no such choice; did you mean 'fsdp'"),
        (["strategy=range(3)"], "strategy is a config group"),
        (["strategy.stage=1,2"], "strategy.stage: auto has no such setting"),
        (["job.dir=a,b"], "job.dir: each trial has its own"),
        ([], "the space is empty"),
        (
            ["train.batch_size=16,32,128", "train.gradient_accumulation=1,64"],
            r"64 parts of a batch .* the point train\.batch_size=.* leave such out with",
        ),
    ],
)
def test_a_space_that_contradicts_the_schema_is_refused(
    linear: dict[str, Any], overrides: list[str], says: str
) -> None:
    with pytest.raises(UserError, match=says) as refusal:
        build(spanned(*overrides), [], linear)
    assert "\n" not in str(refusal.value)


def test_a_value_that_needs_anothers_is_no_mistake(linear: dict[str, Any]) -> None:
    space = build(spanned("train.batch_size=64,128", "train.gradient_accumulation=32,64"), [], linear)
    assert space.points(100) == 4


def test_a_fault_of_the_config_itself_is_not_blamed_on_a_parameter() -> None:
    config = placed(compose([]), {"train.precision": "bf61"})
    with pytest.raises(UserError, match=r"^train\.precision"):
        build(spanned("algorithm.lr=interval(0.1,1)"), [], config)


@pytest.mark.parametrize(
    ("constraints", "says"),
    [
        (["algorithm.lr > 3"], "none of 10,000 random points of the space keeps `algorithm.lr > 3`"),
        (["algorithm.lr < 0.5", "algorithm.lr > 0.6"], "keeps `algorithm.lr < 0.5` and `algorithm.lr > 0.6`"),
        (["algorithm.learning > 3"], "names algorithm.learning, and there is no such key"),
        (["algorithm.lr < algorithm.l2"], "can't be compared with null"),
        (["algorithm.lr +"], "can't be read as a condition"),
    ],
)
def test_a_constraint_that_cannot_work_is_refused(linear: dict[str, Any], constraints: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says.replace("(", r"\(").replace("+", r"\+")):
        build(spanned("algorithm.lr=interval(0.1,1)"), constraints, linear)


@pytest.mark.parametrize(
    ("when", "says"),
    [
        (
            "algorithm.objektive == 'huber'",
            "algorithm.objektive, and there is no such key; did you mean 'algorithm.obj",
        ),
        ("algorithm.objective == 'hubr'", "held in none of 10,000 random points"),
        ("algorithm.objective", None),
        ("algorithm.objective = 'huber'", "compared with =="),
        ("algorithm.huber_delta > 1", "they wait for each other"),
    ],
)
def test_a_condition_that_cannot_work_is_refused(linear: dict[str, Any], when: str, says: str | None) -> None:
    delta = Parameter("algorithm.huber_delta", "float", 0.1, 10, when=when)
    parameters = [delta, *spanned("algorithm.objective=auto,huber")]
    if says is None:
        build(parameters, [], linear)
        return
    with pytest.raises(UserError, match=says):
        build(parameters, [], linear)


def test_a_circle_of_conditions_is_named(linear: dict[str, Any]) -> None:
    one = Parameter("algorithm.l1", "float", 0, 1, when="algorithm.l2 > 0.5")
    other = Parameter("algorithm.l2", "float", 0, 1, when="algorithm.l1 > 0.5")
    with pytest.raises(UserError, match=r"`when` of algorithm\.l1 and algorithm\.l2"):
        build([one, other], [], linear)


def test_a_key_twice_is_refused(linear: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"algorithm\.lr: it is in the space twice"):
        build(spanned("algorithm.lr=1,2") * 2, [], linear)


# what a space is


@pytest.mark.parametrize(
    ("override", "kind"),
    [
        ("train.batch_size=interval(8,64)", "int"),
        ("algorithm.max_depth=interval(2,8)", "int"),
        ("algorithm.max_depth=tag(log,interval(2,8))", "int"),
        ("algorithm.lr=interval(1,8)", "float"),
        ("algorithm.subsample=interval(0.5,1)", "float"),
        ("train.epochs=interval(1,8)", "float"),
        ("+algorithm.params.max_leaves=int(interval(2,64))", "int"),
    ],
)
def test_an_interval_is_of_whole_numbers_where_its_key_is(override: str, kind: str) -> None:
    config = compose(["algorithm=linear" if override.startswith("train.") else "algorithm=xgboost"])
    assert build(spanned(override), [], config).parameters[0].kind == kind


@pytest.mark.parametrize("algorithm", ["linear", "xgboost", "gpt", "gpt_small", "gpt_1b", "gpt_7b"])
def test_each_built_in_recommends_a_space_that_its_config_takes(algorithm: str) -> None:
    data = ["data=text", "data.train=corpus.txt"] if "gpt" in algorithm else []
    config = compose([f"algorithm={algorithm}", *data], space=True)
    space = build(from_config(recommended(config)), [], config)
    assert "algorithm.lr" in space.keys
    assert len(space.parameters) >= 4
    assert config == compose([f"algorithm={algorithm}", *data])


def test_a_jobs_config_has_no_space_in_it() -> None:
    assert "_space_" not in compose([])["algorithm"]
    assert not any("_space_" in key for key in known_values(compose([])))


def test_a_space_can_be_changed_by_override() -> None:
    config = compose(["algorithm._space_.lr='interval(0.1, 0.2)'", "algorithm._space_.l1=null"], space=True)
    space = build(from_config(recommended(config)), [], config)
    assert space.describe()[0].split() == ["algorithm.lr", "0.1", "…", "0.2"]
    assert "algorithm.l1" not in space.keys


def test_parameters_come_after_those_they_wait_for(linear: dict[str, Any]) -> None:
    space = build([HUBER, *spanned("algorithm.objective=auto,huber")], [], linear)
    assert space.keys == ["algorithm.objective", "algorithm.huber_delta"]


def test_what_is_spanned_is_told_a_line_each(linear: dict[str, Any]) -> None:
    parameters = spanned(
        "algorithm.lr=tag(log,interval(1e-4,1))",
        "train.ema=tag(reverse_log,interval(0.9,0.999))",
        "train.batch_size=range(16,129,16)",
        "algorithm.objective=auto,huber",
        "algorithm.class_weights=null,balanced",
    )
    space = build([*parameters, HUBER], ["algorithm.lr <= train.batch_size"], linear)
    assert [" ".join(line.split()) for line in space.describe()] == [
        "algorithm.lr 0.0001 … 1 log",
        "train.ema 0.9 … 0.999 reverse log",
        "train.batch_size 16 … 128 step 16",
        "algorithm.objective auto, huber",
        "algorithm.class_weights null, balanced",
        "algorithm.huber_delta 0.1 … 10 log when algorithm.objective == 'huber'",
        "where algorithm.lr <= train.batch_size",
    ]


def test_it_goes_through_json_and_back(linear: dict[str, Any]) -> None:
    parameters = [*spanned("algorithm.objective=auto,huber", "algorithm.class_weights=null,[1.0,2.0]"), HUBER]
    space = build(parameters, ["algorithm.huber_delta < algorithm.lr * 100"], linear)
    again = Space.from_yaml(json.loads(json.dumps(space.to_yaml())))
    assert again == space
    assert space.differences(again) == []
    assert again.fixed["algorithm.lr"] == 0.05


def test_what_differs_from_another_space_is_said(linear: dict[str, Any]) -> None:
    old = build(spanned("algorithm.lr=interval(0.1,1)", "algorithm.l1=interval(0,1)"), [], linear)
    new = build(
        spanned("algorithm.lr=tag(log,interval(0.1,1))", "algorithm.l2=interval(0,1)"), ["algorithm.l2 < 0.5"], linear
    )
    assert new.differences(old) == [
        "algorithm.lr: 0.1 … 1 there, 0.1 … 1  log here",
        "algorithm.l1: 0 … 1 there, no parameter here",
        "algorithm.l2: no parameter there, 0 … 1 here",
        "the constraint algorithm.l2 < 0.5 is not there",
    ]


def test_true_is_another_choice_than_1() -> None:
    ones, trues = (Space((Parameter("k", "choice", choices=choices),)) for choices in ((1, 0), (True, False)))
    assert ones.differences(trues)


# points


def everything(linear: dict[str, Any]) -> Space:
    parameters = spanned(
        "algorithm.lr=tag(log,interval(1e-4,1))",
        "train.ema=tag(reverse_log,interval(0.9,0.9999))",
        "train.batch_size=range(16,129,16)",
        "train.gradient_clip=range(0.1,1,0.1)",
        "algorithm.objective=auto,huber",
        "algorithm.class_weights=null,balanced,[1.0,2.0],{a: 1}",
    )
    return build([*parameters, HUBER], [], linear)


def test_optuna_draws_points_that_the_config_takes(linear: dict[str, Any]) -> None:
    space = everything(linear)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(25):
        trial = study.ask()
        values = space.draw(ask(trial))
        checked = schema.check(placed(linear, values))
        assert checked["algorithm"]["lr"] == values["algorithm.lr"]
        assert ("algorithm.huber_delta" in values) == (values["algorithm.objective"] == "huber")
        assert space.values(trial.params) == values
        assert space.stored(values) == pytest.approx(trial.params)
        study.tell(trial, values["algorithm.lr"])


def test_what_is_near_1_is_drawn_evenly_over_the_logarithm_of_what_is_missing() -> None:
    space = Space((Parameter("k", "float", 0.9, 0.9999, "reverse_log"),))
    assert space.parameters[0].name == "1 - k"
    rng = Random(0)
    drawn = sorted(space.random(rng)["k"] for _ in range(999))
    assert drawn[499] == pytest.approx(1 - (0.1 * 0.0001) ** 0.5, abs=5e-4)
    assert 0.9 <= drawn[0] <= drawn[-1] <= 0.9999


def test_steps_have_the_values_as_they_are_written() -> None:
    space = Space((Parameter("k", "float", 0.1, 1, step=0.1),))
    assert [values["k"] for values in space.grid()] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert space.values({"k": 0.1 + 2 * 0.1}) == {"k": 0.3}


def test_a_point_to_start_from_may_be_written_as_in_a_config(linear: dict[str, Any]) -> None:
    space = everything(linear)
    point = {"algorithm.lr": "1e-2", "train.ema": 0.99, "algorithm.class_weights": [1.0, 2.0], "train.batch_size": 32}
    stored = space.stored(point)
    assert stored == pytest.approx(
        {"algorithm.lr": 0.01, "1 - train.ema": 0.01, "algorithm.class_weights": "[1.0, 2.0]", "train.batch_size": 32}
    )
    study = optuna.create_study()
    study.enqueue_trial(stored)
    values = space.draw(ask(study.ask()))
    assert values | {"algorithm.lr": 0.01, "train.ema": 0.99} == values | {"train.ema": pytest.approx(0.99)}
    assert values["algorithm.class_weights"] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("point", "says"),
    [
        ({"algorithm.lr": 2}, r"algorithm\.lr: 2 is outside of 0\.0001 … 1"),
        ({"algorithm.lr": "fast"}, "value is 'fast', and that is not a finite number"),
        ({"train.batch_size": 17}, r"train\.batch_size: 17 is between the steps"),
        ({"train.batch_size": 16.5}, "16.5 is not a whole number"),
        ({"algorithm.objective": "hinge"}, r"algorithm\.objective: 'hinge' is not one of auto, huber"),
        ({"algorithm.lrr": 1}, "algorithm.lrr is no parameter of this space; did you mean 'algorithm.lr'"),
        ({"algorithm.objective": "auto", "algorithm.huber_delta": 1}, "it exists only where algorithm.objective == 'h"),
    ],
)
def test_a_point_outside_of_the_space_is_refused(linear: dict[str, Any], point: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        everything(linear).stored(point)


def test_a_point_that_breaks_a_constraint_is_refused(gpt: dict[str, Any]) -> None:
    space = build(
        spanned("algorithm.width=range(32,129,32)", "algorithm.heads=1,3,4"),
        ["algorithm.width % (2 * algorithm.heads) == 0"],
        gpt,
    )
    assert not space.feasible({"algorithm.width": 32, "algorithm.heads": 3})
    assert space.feasible({"algorithm.width": 96, "algorithm.heads": 3})
    assert space.points(100) == 9
    assert all(space.feasible(values) for values in space.grid())
    with pytest.raises(UserError, match=r"algorithm\.width=32 algorithm\.heads=3 breaks the constraint"):
        space.stored({"algorithm.width": 32, "algorithm.heads": 3})


def test_a_constraint_counts_a_parameter_that_does_not_exist_as_the_config_has_it(linear: dict[str, Any]) -> None:
    space = build([HUBER, *spanned("algorithm.objective=auto,huber")], ["algorithm.huber_delta < 2"], linear)
    assert space.fixed["algorithm.huber_delta"] == 1.0
    assert space.feasible({"algorithm.objective": "auto"})
    assert not space.feasible({"algorithm.objective": "huber", "algorithm.huber_delta": 3})


@pytest.mark.parametrize(
    ("overrides", "points"),
    [
        (["algorithm.lr=0.1,0.2,0.3", "train.batch_size=range(8,65,8)"], 24),
        (["algorithm.lr=0.1,0.2,0.3", "algorithm.l1=interval(0,1)"], None),
        (["train.batch_size=range(1,100000)", "train.log_every=range(1,100000)"], 1000),
    ],
)
def test_points_are_counted_where_they_can_be(linear: dict[str, Any], overrides: list[str], points: int | None) -> None:
    assert build(spanned(*overrides), [], linear).points(1000) == points


def test_a_grid_skips_what_does_not_exist(linear: dict[str, Any]) -> None:
    delta = Parameter("algorithm.huber_delta", "choice", choices=(0.5, 1.5), when="algorithm.objective == 'huber'")
    space = build([delta, *spanned("algorithm.objective=auto,huber")], [], linear)
    assert [tuple(values.values()) for values in space.grid()] == [("auto",), ("huber", 0.5), ("huber", 1.5)]
    assert space.points(10) == 3


def test_a_grid_over_an_interval_is_refused(linear: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"algorithm\.lr: 0\.1 … 1 has no steps"):
        build(spanned("algorithm.lr=interval(0.1,1)"), [], linear).grid()


# groups


def test_a_choice_of_configs_brings_its_own_keys(linear: dict[str, Any]) -> None:
    depth = Parameter("algorithm.max_depth", "float", 2, 8, when="algorithm == 'xgboost'")
    space = build(
        [depth, *spanned("algorithm=linear,xgboost", "algorithm.lr=interval(0.1,1)")], [], linear, recompose=composed
    )
    drawn = [space.random(Random(seed)) for seed in range(20)]
    assert {("algorithm.max_depth" in values, values["algorithm"]) for values in drawn} == {
        (True, "xgboost"),
        (False, "linear"),
    }
    assert next(p for p in space.parameters if p.key == "algorithm.max_depth").kind == "int"


def test_a_key_that_only_one_choice_has_needs_a_condition(linear: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"algorithm\.max_depth: Linear has no such setting"):
        build(spanned("algorithm=linear,xgboost", "algorithm.max_depth=2,3"), [], linear, recompose=composed)


def test_a_condition_on_what_the_choice_decides_is_refused(linear: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"what algorithm\.lr is depends on the choice of algorithm"):
        build(spanned("algorithm=linear,xgboost"), ["algorithm.lr < 0.1"], linear, recompose=composed)


def test_a_group_that_is_fixed_can_be_named(linear: dict[str, Any]) -> None:
    delta = Parameter("algorithm.l1", "float", 0, 1, when="algorithm == 'linear' and strategy == 'auto'")
    assert build([delta], [], linear).random(Random(0)).keys() == {"algorithm.l1"}


# values put into a config


def test_a_value_is_put_into_a_copy(linear: dict[str, Any]) -> None:
    before = json.dumps(linear)
    result = placed(linear, {"algorithm.lr": 0.5, "train.early_stopping.patience": 3, "data.columns": ["a"]})
    assert result["algorithm"]["lr"] == 0.5
    assert result["train"]["early_stopping"] == {**linear["train"]["early_stopping"], "patience": 3}
    assert json.dumps(linear) == before


@pytest.mark.parametrize("key", ["algoritm.lr", "train.early.patience", "train.epochs.x", "train"])
def test_a_value_has_to_have_a_place(linear: dict[str, Any], key: str) -> None:
    with pytest.raises(UserError, match=f"^{key}"):
        placed(linear, {key: 1})
