"""Strings, dicts and keywords say the same, and a value is what it is in Python."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pandas import DataFrame

import trainer
from trainer.api.overrides import settings, written
from trainer.config.compose import compose

WORDS = [
    "",
    "null",
    "True",
    "NaN",
    "1",
    "1e5",
    " a b ",
    "a,b",
    "[1]",
    "{a:1}",
    "it's",
    'say "so"',
    "back\\slash",
    "at its end\\",
    "\\'",
    "${oc.env:HOME}",
    "\\${a}",
    "${",
    "two\nlines",
    "interval(1,2)",
    "naïve #1 = ~x!",
]


def composed(value: Any) -> Any:
    given = {"algorithm": "script", "algorithm.hyperparameters": {"key": value}, "data": "channels"}
    return compose(written(settings(given, {})))["algorithm"]["hyperparameters"]["key"]


@pytest.mark.parametrize(
    ("given", "keywords"),
    [
        (["algorithm=linear", "train.epochs=3"], {}),
        ({"algorithm": "linear", "train.epochs": 3}, {}),
        ({"algorithm": "linear", "train": {"epochs": 3}}, {}),
        ((), {"algorithm": "linear", "train": {"epochs": 3}}),
        (["algorithm=linear"], {"train.epochs": 3}),
        (["algorithm=gpt", "train.epochs=1"], {"algorithm": "linear", "train.epochs": 3}),  # keywords count last
    ],
)
def test_strings_dicts_and_keywords_say_the_same(given: Any, keywords: Any) -> None:
    config = compose(written(settings(given, keywords)))
    assert config == compose(["algorithm=linear", "train.epochs=3"])


def test_text_is_taken_as_it_is() -> None:
    assert composed(WORDS) == WORDS


def test_values_of_python_and_numpy_are_theirs() -> None:
    given = [
        None,
        True,
        3,
        1e-05,
        np.float64(0.1),
        np.int64(3),
        np.bool_(False),
        np.array([[1, 2]]),
        Path("/a b"),
        (1,),
    ]
    assert composed(given) == [None, True, 3, 1e-05, 0.1, 3, False, [[1, 2]], "/a b", [1]]
    assert math.isnan(composed(math.nan))


def test_a_setting_that_is_a_mapping_keeps_its_keys() -> None:
    given = {"a b": 1, "c:d,": {"e.f": None}}
    assert composed(given) == given
    config = compose(written(settings(["algorithm=xgboost"], {"algorithm": {"params": {"max_leaves": 8}}})))
    assert config["algorithm"]["params"] == {"max_leaves": 8}


@pytest.mark.parametrize(
    ("given", "keywords", "said"),
    [
        ({"train.epoch": 3}, {}, "train.epoch: there is no such key; did you mean 'train.epochs'"),
        ((), {"train": {"epoch": 3}}, "train.epoch: there is no such key; did you mean 'train.epochs'"),
        ((), {"algoritm": "linear"}, "algoritm: there is no such key; did you mean 'algorithm'"),
        ((), {"algorithm": "linaer"}, "algorithm=linaer: there is no such choice; did you mean 'linear'?"),
        ({"train.epochs": "three"}, {}, "train.epochs: 'three' is not a number"),
        ("algorithm=linear", {}, "overrides: 'algorithm=linear' is one text; write a list"),
        (None, {}, 'overrides: they are a list, ["KEY=VALUE", …], or a dict, not a NoneType; rows are data='),
        ((), {"target": "price"}, "target: there is no such key; did you mean 'data.label' or 'tune.target'?"),
        ((), {"data": "rows.csv"}, "data=rows.csv: there is no such choice; a file is data=csv data.train=rows.csv"),
        ((), {"data.valid": DataFrame({"a": [1]})}, "rows are data, data.train, data.validation or data.test"),
        ([3], {}, 'overrides: 3 is no text such as "KEY=VALUE"'),
        ({3: 4}, {}, "3: a key is text"),
        ({"train.epochs=3": 4}, {}, "'train.epochs=3': a key is text"),
        ((), {"algorithm": trainer.Module}, "algorithm: a config can't hold a value of type ABCMeta"),
        ({"job.detach": True}, {}, "job.detach: there would be no result to return"),
    ],
)
def test_a_mistake_is_one_line(given: Any, keywords: Any, said: str) -> None:
    with pytest.raises(trainer.UserError) as error:
        trainer.train(given, **keywords)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
