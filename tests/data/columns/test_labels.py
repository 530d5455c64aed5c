"""What a label is taken for, and what says otherwise."""

import pytest

from algorithms.linear import Linear
from tests.data.conftest import Numbers
from trainer.data.opening import open_data
from trainer.data.sources import Csv


def opened(write, labels, algorithm=None, **keys):
    path = write("rows.csv", "x,price\n" + "".join(f"{i}.5,{label}\n" for i, label in enumerate(labels)))
    return open_data(Csv(train=path, label="price", validation=None, **keys), algorithm or Numbers(), seed=1)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([0, 1] * 50, 2),
        ([1, 2, 3] * 20, 3),
        ([0.0, 1.0, 2.0] * 20, 3),
        (["no", "yes"] * 20, 2),
        ([*range(100)] * 30, 100),  # 0, 1, 2, … as classes are numbered
        ([*range(1, 40)] * 100, 39),
        ([10 + i for i in range(99)] * 30, 0),  # prices
        ([18 + i for i in range(60)] * 50, 0),  # ages
        ([3 * i for i in range(30)] * 20, 0),
        ([*range(15)], 0),  # each once
        ([*range(200)] * 2, 0),
        ([0.5, 1.5] * 20, 0),
    ],
)
def test_few_whole_numbers_are_classes_and_many_are_a_number(write, labels, classes):
    assert opened(write, labels).schema.classes == classes


def test_what_was_taken_and_what_says_otherwise_is_told(write):
    prices = [10 + i for i in range(99)] * 3
    told = opened(write, prices).label
    assert told == "price, a number (99 different whole ones; data.categorical=[price] makes them classes)"
    assert opened(write, [1, 2, 3] * 9).label == (
        "price, 3 classes (whole numbers, few of them; algorithm.task=regression learns a number)"
    )
    assert opened(write, ["a", "b"] * 9).label == "price, 2 classes"
    assert opened(write, [0.5, 2.25] * 9).label == "price, a number"


def test_either_can_be_insisted_on(write):
    prices = [10 + i for i in range(99)] * 3
    assert opened(write, prices, categorical=["price"]).schema.classes == 99
    assert opened(write, prices, Linear(task="multiclass")).schema.classes == 99
    few = opened(write, [1, 2, 3] * 9, Linear(task="regression"))
    assert few.train.y.dtype.is_floating_point
    assert few.label == "price, a number"


def test_a_label_of_times_is_a_number_of_seconds(write):
    times = [f"2024-01-{day:02d} 12:00" for day in range(1, 29)]
    found = opened(write, times, Linear())
    assert found.label == "price, a number (a time, in seconds)"
    assert found.schema.label.std == pytest.approx(86400 * 8.078, rel=1e-3)
