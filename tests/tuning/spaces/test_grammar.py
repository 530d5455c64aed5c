"""A space as a person writes it, on the command line and in YAML."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.errors import UserError
from trainer.tuning.spaces.grammar import from_config, parse, split, unfixed
from trainer.tuning.spaces.space import Parameter


@pytest.mark.parametrize(
    ("text", "parameter"),
    [
        ("k=1,2,3", Parameter("k", "choice", choices=(1, 2, 3))),
        ("k=null,x,'1',[1,2],{b: 'q'}", Parameter("k", "choice", choices=(None, "x", "1", [1, 2], {"b": "q"}))),
        ("k=choice(true,false)", Parameter("k", "choice", choices=(True, False))),
        ("k=interval(1e-4,1)", Parameter("k", "float", 1e-4, 1.0)),
        ("k=int(interval(1,8))", Parameter("k", "int", 1, 8)),
        ("k=tag(log,interval(1e-4,1))", Parameter("k", "float", 1e-4, 1.0, "log")),
        ("k=tag(log, int(interval(1, 8)))", Parameter("k", "int", 1, 8, "log")),
        ("k=tag(reverse_log,interval(0.9,0.999))", Parameter("k", "float", 0.9, 0.999, "reverse_log")),
        ("k=range(2,8)", Parameter("k", "int", 2, 7)),
        ("k=range(4)", Parameter("k", "int", 0, 3)),
        ("k=range(8,2,-2)", Parameter("k", "int", 4, 8, step=2)),
        ("k=range(1,8,3)", Parameter("k", "int", 1, 7, step=3)),
        ("k=range(1,7,3)", Parameter("k", "int", 1, 4, step=3)),
        ("k=range(0.1,0.5,0.1)", Parameter("k", "float", 0.1, 0.4, step=0.1)),
        ("k=range(0,1,0.3)", Parameter("k", "float", 0.0, 0.9, step=0.3)),
        ("k=tag(log,range(1,9))", Parameter("k", "int", 1, 8, "log")),
        ("k=shuffle(range(3))", Parameter("k", "int", 0, 2)),
        ("+algorithm.params.max_leaves=2,4", Parameter("algorithm.params.max_leaves", "choice", choices=(2, 4))),
        ("data=glob(*_cancer)", Parameter("data", "choice", choices=("breast_cancer",))),
    ],
)
def test_the_command_line_spans_a_space(text: str, parameter: Parameter) -> None:
    assert split([text]) == ([], [parameter])


def test_a_range_has_the_values_that_hydra_gives_it() -> None:
    _, (parameter,) = split(["k=range(0.1,0.5,0.1)"])
    assert list(parameter.values()) == [0.1, 0.2, 0.3, 0.4]


def test_overrides_and_flags_stay_what_they_are() -> None:
    plain = [
        "algorithm=gpt",
        "train.epochs=3",
        "~tracking",
        "--config-dir",
        "mine",
        "hydra/x=a,b",
        "k=[1,2]",
        "+k.x=",
        "k.y='1,2'",
    ]
    assert split([*plain, "algorithm.lr=1,2"]) == (plain, [Parameter("algorithm.lr", "choice", choices=(1, 2))])


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["k=3", "k=1,2"], "k: it is fixed by k=3 and spans values too"),
        (["k=1,2", "k=interval(0,1)"], "k: it is given twice"),
        (["k=interval(1)"], "k: interval.1. can't be read: missing a required argument: 'end'"),
        (["k=tag(log,intervl(1,2))"], "intervl is no function .* did you mean 'interval'"),
        (["k=log(interval(1,2))"], "log is no function"),
        (["k=interval(a,b)"], "its start is not a number"),
        (["k=interval(1,,2)"], "is not an override"),
        (["k=choice(a,null)"], "without one, as in a,b,null"),
        (["k=choice()"], "choice.. can't be read"),
        (["k=tag(lag,interval(1,2))"], "'lag' is no scale; did you mean 'log'"),
        (["k=tag(log,reverse_log,interval(1,2))"], "the scales log and reverse_log"),
        (["k=tag(log,choice(1,2))"], "choices have no scale"),
        (["k=interval(2,1)"], "from 2 to 1 is inverted"),
        (["k=interval(1,1)"], "is empty; k=1 fixes a value"),
        (["k=interval(0,inf)"], "high is inf"),
        (["k=interval(nan,1)"], "low is nan"),
        (["k=range(1,2,0)"], "a step other than 0"),
        (["k=range(1,inf)"], "finite numbers"),
        (["k=range(8,2)"], "the range is empty"),
        (["k=range(8,7.5,1)"], "the range is empty"),
        (["k=tag(log,range(1,9,2))"], "a log scale has no steps"),
        (["k=tag(log,interval(0,1))"], "needs bounds above 0, and the lower one is 0"),
        (["k=tag(reverse_log,interval(0,1))"], "from 0 to below 1"),
        (["k=tag(reverse_log,int(interval(0,1)))"], "from 0 to below 1"),
        (["k=x,x"], "the choice x is there twice"),
        (["k=true,1"], "1 counts as the same as true"),
        (["k=interval(1,2),interval(3,4)"], "can't be one of several choices"),
        (["strategy@x=a,b"], "leave out @x"),
    ],
)
def test_a_mistake_is_one_line(overrides: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says) as refusal:
        split(overrides)
    assert "\n" not in str(refusal.value)
    assert "k" in str(refusal.value) or "x" in str(refusal.value)


@pytest.mark.parametrize(
    ("value", "parameter"),
    [
        ({"low": 1e-4, "high": 1, "log": True}, Parameter("k", "float", 1e-4, 1, "log")),
        ({"low": "1e-4", "high": "1e-1", "scale": "log"}, Parameter("k", "float", 1e-4, 0.1, "log")),
        ({"low": 0.5, "high": 0.99, "scale": "reverse_log"}, Parameter("k", "float", 0.5, 0.99, "reverse_log")),
        ({"low": 16, "high": 130, "step": 16, "kind": "int"}, Parameter("k", "int", 16, 128, step=16)),
        ({"low": 0.1, "high": 0.75, "step": 0.2}, Parameter("k", "float", 0.1, 0.7, step=0.2)),
        ({"choices": [1, None, "x"]}, Parameter("k", "choice", choices=(1, None, "x"))),
        ({"choices": ["a", "b"], "when": "x == 'a'"}, Parameter("k", "choice", choices=("a", "b"), when="x == 'a'")),
        ([16, 32], Parameter("k", "choice", choices=(16, 32))),
        ("tag(log, interval(1e-4, 1))", Parameter("k", "float", 1e-4, 1.0, "log")),
        ("16, 32", Parameter("k", "choice", choices=(16, 32))),
    ],
)
def test_yaml_says_the_same(value: Any, parameter: Parameter) -> None:
    assert from_config({"k": value}) == (parameter,)


def test_keys_may_be_nested_or_dotted_and_null_takes_one_out() -> None:
    nested = {"algorithm": {"lr": "interval(0, 1)", "l1": None, "params": {"low": {"low": 1, "high": 2}}}}
    dotted = {"algorithm.lr": "interval(0, 1)", "algorithm.params.low": {"low": 1, "high": 2}}
    assert from_config(nested) == from_config(dotted)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (3, "3 is one value"),
        ("fast", "'fast' is one value"),
        ({"low": 1}, "it needs both low and high"),
        ({"low": 1, "hihg": 2}, "k.hihg: a parameter has no such setting; did you mean 'high'"),
        ({"low": 1, "high": "many"}, "high is 'many', and that is not a finite number"),
        ({"low": 1, "high": True}, "high is true"),
        ({"low": 1, "high": 2, "choices": [1]}, "choices have no scale, no step and no bounds"),
        ({"choices": []}, "nothing to choose from"),
        ({"choices": "abc"}, "'abc' is not a list"),
        ({"low": 1, "high": 2, "step": 3}, "a step of 3 is larger than the interval from 1 to 2"),
        ({"low": 1, "high": 2, "step": -1}, "a step of -1 leads nowhere"),
        ({"low": 1, "high": 2, "log": True, "scale": "reverse_log"}, "contradict"),
        ({"low": 1, "high": 2, "log": "yes"}, "k.log: 'yes' is not true or false"),
        ({"low": 1, "high": 2, "scale": "lg"}, "did you mean 'log'"),
        ({"low": 1, "high": 2, "kind": "integer"}, "'integer' is no kind"),
        ({"low": 1.5, "high": 2, "kind": "int"}, "1.5 is not a whole number"),
    ],
)
def test_a_mistake_in_yaml_is_one_line(value: Any, says: str) -> None:
    with pytest.raises(UserError, match=says) as refusal:
        from_config({"k": value})
    assert str(refusal.value).startswith("k")
    assert "\n" not in str(refusal.value)


def test_what_the_command_line_fixes_is_not_searched() -> None:
    recommended = [parse("algorithm.lr", "interval(0, 1)"), parse("algorithm.l2", "interval(0, 1)")]
    assert unfixed(recommended, ["algorithm.lr=0.1", "data=digits"]) == recommended[1:]
