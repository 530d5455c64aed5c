"""A point near a point."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from trainer.tuning.schedulers.perturb import perturbed
from trainer.tuning.spaces.expression import Expression
from trainer.tuning.spaces.parameter import Parameter
from trainer.tuning.spaces.space import Space


def near(parameter: Parameter, value: Any, resample: float = 0.0, tries: int = 60) -> set[Any]:
    """What may become of a value."""
    found = [perturbed(Space((parameter,)), {parameter.key: value}, resample, Random(seed)) for seed in range(tries)]
    return {round(v, 9) if isinstance(v, float) else v for point in found for v in point.values()}


@pytest.mark.parametrize(
    ("parameter", "value", "expected"),
    [
        (Parameter("a.b", "float", 1e-4, 1.0, "log"), 0.1, {0.08, 0.125}),
        (Parameter("a.b", "float", 0.09, 0.11), 0.1, {0.09, 0.11}),  # within its bounds
        (Parameter("a.b", "float", 0.9, 0.999, "reverse_log"), 0.99, {0.992, 0.9875}),
        (Parameter("a.b", "float", 0.0, 1.0, step=0.25), 0.5, {0.25, 0.75}),
        (Parameter("a.b", "int", 1, 100), 40, {32, 50}),
        (Parameter("a.b", "int", 1, 8), 1, {2}),  # to the next one at least
        (Parameter("a.b", "int", 1, 8), 2, {1, 3}),
        (Parameter("a.b", "choice", choices=(32, 64, 128)), 64, {32, 128}),
        (Parameter("a.b", "choice", choices=("x", None, True)), "x", {None}),
    ],
)
def test_a_value_becomes_a_little_more_or_less(parameter: Parameter, value: Any, expected: set[Any]) -> None:
    assert near(parameter, value) == expected


def test_zero_is_left_by_drawing_anew() -> None:
    assert len(near(Parameter("a.b", "float", 0.0, 0.5), 0.0)) > 50


def test_some_values_are_drawn_anew() -> None:
    rate = Parameter("a.b", "float", 1e-4, 1.0, "log")
    found = near(rate, 0.1, resample=0.25, tries=400)
    assert {0.08, 0.125} < found
    assert 60 < len(found) - 2 < 140
    assert len(near(rate, 0.1, resample=1.0, tries=50)) == 50


def test_the_same_chance_gives_the_same_point() -> None:
    space = Space((Parameter("a.b", "float", 1e-4, 1.0, "log"), Parameter("a.c", "int", 1, 9)))
    points = [perturbed(space, {"a.b": 0.1, "a.c": 4}, 0.25, Random(5)) for _ in range(2)]
    assert points[0] == points[1] != {"a.b": 0.1, "a.c": 4}


def test_constraints_and_conditions_hold() -> None:
    kind = Parameter("a.kind", "choice", choices=("sgd", "adam"))
    momentum = Parameter("a.momentum", "float", 0.1, 0.9, when="a.kind == 'sgd'")
    size = Parameter("a.size", "int", 1, 10)
    space = Space((kind, momentum, size), (Expression("a.size <= 5"),))
    for seed in range(30):
        for start in ({"a.kind": "sgd", "a.momentum": 0.5, "a.size": 5}, {"a.kind": "adam", "a.size": 5}):
            point = perturbed(space, start, 0.0, Random(seed))
            assert point["a.size"] <= 5
            assert ("a.momentum" in point) == (point["a.kind"] == "sgd")


def test_where_nothing_else_is_allowed_it_stays() -> None:
    size = Parameter("a.size", "int", 1, 10)
    assert perturbed(Space((size,), (Expression("a.size == 5"),)), {"a.size": 5}, 0.5, Random(0)) == {"a.size": 5}
