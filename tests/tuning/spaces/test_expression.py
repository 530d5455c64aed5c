"""Conditions over config keys: what they mean, and that they are nothing more than conditions."""

from __future__ import annotations

import contextlib
import pickle
from typing import Any

import pytest

from trainer.errors import UserError
from trainer.tuning.spaces.expression import Expression, Unknown, partition

VALUES: dict[str, Any] = {
    "algorithm.width": 128,
    "algorithm.heads": 4,
    "algorithm.kv_heads": None,
    "algorithm.objective": "huber",
    "algorithm.normalize": True,
    "strategy": "fsdp",
    "train.batch_size": 16,
    "x": 0.5,
    "zero": 0,
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("algorithm.heads <= algorithm.width / 32", True),
        ("algorithm.width % (2 * algorithm.heads) == 0", True),
        ("algorithm.width % 3 == 0", False),
        ("strategy == 'fsdp' and train.batch_size > 8", True),
        ("strategy == 'ddp' or train.batch_size > 80", False),
        ("algorithm.objective in ['huber', 'squared']", True),
        ("algorithm.objective not in ('huber', 'squared')", False),
        ("1 < algorithm.heads < 8", True),
        ("1 < algorithm.heads < 3", False),
        ("not strategy == 'fsdp'", False),
        ("algorithm.normalize", True),
        ("algorithm.normalize == true and algorithm.kv_heads == null", True),
        ("algorithm.kv_heads == null or algorithm.heads % algorithm.kv_heads == 0", True),
        ("abs(x - 1) <= 0.5", True),
        ("min(x, algorithm.heads) + max(1, 2) == 2.5", True),
        ("2 ** 3 // 3 == 2", True),
        ("-x < +x", True),
        ("  x >= 0.5  ", True),
    ],
)
def test_a_condition_holds_as_it_reads(text: str, holds: bool) -> None:
    expression = Expression(text)
    assert expression.holds(VALUES) is holds
    assert (expression.margin(VALUES) > 0) is not holds


@pytest.mark.parametrize(
    "text", ["x / zero < 1", "x % zero == 0", "(0 - 1) ** x < 1", "10.0 ** 999 < x", "x ** -999999 > 1e400"]
)
def test_where_it_is_undefined_it_does_not_hold(text: str) -> None:
    assert not Expression(text).holds(VALUES)
    assert Expression(text).margin(VALUES) > 0


@pytest.mark.parametrize(
    ("text", "margin"),
    [
        ("train.batch_size <= 12", 4),
        ("train.batch_size < 20", -4),
        ("train.batch_size >= 20", 4),
        ("train.batch_size == 20", 4),
        ("train.batch_size <= 12 and x <= 0", 4),
        ("train.batch_size <= 12 or x <= 0", 0.5),
        ("0 <= x <= 0.25", 0.25),
        ("strategy == 'ddp'", 1),
        ("strategy == 'fsdp'", -1),
        ("strategy in ['ddp']", 1),
        ("not algorithm.normalize", 1),
    ],
)
def test_the_margin_says_by_how_much_it_is_broken(text: str, margin: float) -> None:
    assert Expression(text).margin(VALUES) == pytest.approx(margin)


def test_a_strict_comparison_is_broken_where_both_sides_are_equal() -> None:
    assert Expression("x < 0.5").margin(VALUES) > 0
    assert Expression("x <= 0.5").margin(VALUES) <= 0


def test_its_names_are_known() -> None:
    assert Expression("a.b < c + max(d.e_f, 2) and true != g").names == {"a.b", "c", "d.e_f", "g"}


def test_what_it_need_not_look_at_may_have_no_value() -> None:
    assert not Expression("strategy == 'ddp' and nowhere > 3").holds(VALUES)
    assert Expression("strategy == 'ddp' and nowhere > 3").margin(VALUES) > 0
    with pytest.raises(Unknown, match="nowhere has no value"):
        Expression("nowhere > 3").holds(VALUES)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "open('x') == 1",
        "x.__class__() == 1",
        "(lambda: 1)() == 1",
        "[y for y in (1, 2)] == x",
        "x if x else 1",
        "x[0] == 1",
        "{1: 2} == x",
        "f'{x}' == 'x'",
        "x is x",
        "x & 1 == 0",
        "(y := 3) > x",
        "abs(x, 2) < 1",
        "max() < 1",
        "max(x, key=abs) < 1",
        "b'x' == x",
        "1j == x",
        "... == x",
    ],
)
def test_nothing_but_a_condition_is_read(text: str) -> None:
    with pytest.raises(UserError, match=r"allowed|takes"):
        Expression(text)


@pytest.mark.parametrize("text", ["", " ", "x <", "x ==", "import os", "x; y", "(x < 1", "x\n< 1", "x && y", "\0"])
def test_what_cannot_be_read_is_said(text: str) -> None:
    with pytest.raises(UserError, match="condition") as refusal:
        Expression(text)
    assert "\n" not in str(refusal.value).replace(text, "")


def test_one_equals_sign_gets_a_hint() -> None:
    with pytest.raises(UserError, match="compared with =="):
        Expression("strategy = 'fsdp'")


@pytest.mark.parametrize("text", ["x + 1", "3", "'x'", "abs(x)", "[x]"])
def test_a_value_is_no_condition(text: str) -> None:
    with pytest.raises(UserError, match="a value, not a condition"):
        Expression(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("algorithm.kv_heads > 2", "null can't be compared with 2|can't be compared"),
        ("algorithm.heads % algorithm.kv_heads == 0", "kv_heads is null, not a number; say what holds there"),
        ("strategy < 3", "'fsdp' can't be compared with 3"),
        ("strategy * 3 == 'x'", "strategy is 'fsdp', not a number"),
        ("3 in x", "can't be compared"),
    ],
)
def test_values_that_do_not_go_together_are_said(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        Expression(text).holds(VALUES)


@pytest.mark.parametrize(
    "text",
    [
        "9 ** 9 ** 9 ** 9 > x",
        "(((9 ** 999) ** 999) ** 999) ** 999 > x",
        "x > " + "-" * 900 + "1",
        "x > " + "(" * 150 + "1" + ")" * 150,
        "x > " + "1 + " * 200 + "1",
        "x > 1" + " " * 2000,
        "'a' * 999999999 == x",
    ],
)
def test_none_takes_long_or_exhausts_the_memory(text: str) -> None:
    with contextlib.suppress(UserError):  # refusing it is an answer too
        Expression(text).holds(VALUES)


def test_it_travels_to_another_process() -> None:
    copied = pickle.loads(pickle.dumps(Expression("x < 1")))
    assert copied == Expression("x < 1")
    assert copied.holds(VALUES)


def test_conditions_on_metrics_are_told_from_those_on_parameters() -> None:
    on_parameters, on_outcomes = partition(
        ["algorithm.heads <= 8", "latency <= 0.1", "size / algorithm.heads < 3"], set(VALUES)
    )
    assert [str(e) for e in on_parameters] == ["algorithm.heads <= 8"]
    assert [str(e) for e in on_outcomes] == ["latency <= 0.1", "size / algorithm.heads < 3"]


def test_a_misspelt_key_is_no_metric() -> None:
    with pytest.raises(UserError, match=r"algorithm\.hedas; did you mean 'algorithm\.heads'"):
        partition(["algorithm.hedas <= 8"], set(VALUES))
