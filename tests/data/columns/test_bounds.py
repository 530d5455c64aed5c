"""A label that is an interval: its lower bound is the label, its upper one another column."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.data.conftest import Everything
from trainer.data.opening import open_data
from trainer.data.sources import Csv, Jsonl, Parquet
from trainer.data.tables import order, streaming
from trainer.data.tables.order import BLOCK
from trainer.errors import UserError

Write = Callable[[str, str], str]
INF = np.inf


class Survivor(Everything):
    roles = frozenset({"label_upper_bound"})

    def target(self, schema: Any) -> str:
        return "number"


def bounds(source: Any) -> np.ndarray:
    return np.concatenate([y for _, y in open_data(source, Survivor(), seed=1).train.chunks()])


KNOWN = [[1.5, 1.5], [2, INF], [0, 3.25], [4, INF], [5, 6]]


def test_an_empty_or_infinite_cell_is_no_bound(write: Write, tmp_path: Path) -> None:
    named = {"label": "low", "label_upper_bound": "high", "validation": None}
    path = write("x.csv", "low,a,high\n1.5,1,1.5\n2,2,\n0,3,3.25\n4,4, Inf\n5,5,6\n")
    assert bounds(Csv(train=path, **named)).tolist() == KNOWN
    path = write("y.csv", "low;a;high\n1,5;1;1,5\n2;2;NA\n0;3;3,25\n4;4;+infinity\n5;5;6\n")
    assert bounds(Csv(train=path, delimiter=";", decimal=",", **named)).tolist() == KNOWN
    rows = [
        f'{{"low": {low}, "a": 1{"" if high == INF else f", {chr(34)}high{chr(34)}: {high}"}}}' for low, high in KNOWN
    ]
    assert bounds(Jsonl(train=write("x.jsonl", "\n".join(rows) + "\n"), **named)).tolist() == KNOWN
    low, high = (list(column) for column in zip(*KNOWN, strict=True))
    table = pa.table({"low": low, "a": range(5), "high": [high[0], None, *high[2:]]})
    parquet.write_table(table, tmp_path / "x.parquet")
    opened = open_data(Parquet(train=str(tmp_path / "x.parquet"), **named), Survivor(), seed=1)
    assert np.concatenate([y for _, y in opened.train.chunks()]).tolist() == KNOWN
    assert [column.name for column in opened.schema.features] == ["a"]
    assert opened.schema.label.name == "low"
    assert opened.schema.label.max == 5
    assert (opened.label, opened.left_out) == ("between low and high", ())


@pytest.mark.parametrize("streamed", [False, True])
def test_both_bounds_of_a_row_go_to_the_same_side_of_a_split(
    streamed: bool, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "".join(f"{i},{i},{i + 1 if i % 2 else ''}\n" for i in range(2 * BLOCK + 100))
    source = Csv(train=write("x.csv", "a,low,high\n" + rows), label="low", label_upper_bound="high", validation=0.2)
    if streamed:
        monkeypatch.setattr(order, "WINDOW", BLOCK * 12)
        monkeypatch.setattr(streaming, "PIECE", 1000 * 12)
    opened = open_data(source, Survivor(), seed=1)
    seen = []
    for part in (opened.train, opened.validation):
        for batch in part.stream(seed=1, epoch=0, batch_size=500):
            a, y = batch.x[:, 0].numpy(), batch.y.numpy()
            assert (y[:, 0] == a).all()
            assert (y[:, 1] == np.where(a % 2, a + 1, INF)).all()
            seen += a.tolist()
    assert sorted(seen) == list(range(2 * BLOCK + 100))


def test_all_may_be_known_to_be_later_than_the_same_time(write: Write) -> None:
    path = write("x.csv", "a,low,high\n1,0,3\n2,0,4\n3,0,5\n")
    assert bounds(Csv(train=path, label="low", label_upper_bound=-1, validation=None))[:, 1].tolist() == [3, 4, 5]


REFUSED = {
    "crossed": ("a,low,high\n1,1,2\n2,5,3\n", {}, "x.csv, row 3: 5 in column 'low' to 3 in 'high' is no interval"),
    "a word": ("a,low,high\n1,1,2\n2,5,never\n", {}, "x.csv, row 3, column 'high': 'never' is not a number"),
    "minus infinity": ("a,low,high\n1,1,2\n2,5,-inf\n", {}, "row 3, column 'high'"),
    "no lower bound": ("a,low,high\n1,1,2\n2,,3\n", {}, "x.csv, row 3, column 'low': the label is missing"),
    "unknown column": (
        "a,low,high\n1,1,2\n",
        {"label_upper_bound": "hi"},
        r"no column 'hi' \(data.label_upper_bound\)",
    ),
    "twice": (
        "a,low,high\n1,1,2\n",
        {"label_upper_bound": "low"},
        "data.label_upper_bound and data.label both are 'low'",
    ),
    "dropped": ("a,low,high\n1,1,2\n", {"drop": ["high"]}, "data.drop holds the upper bound 'high'"),
    "not named": ("a,low,high\n1,1,2\n", {"label_upper_bound": None}, r"set data\.label_upper_bound to the column"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_interval_is_told_in_a_line(case: str, write: Write) -> None:
    lines, settings, says = REFUSED[case]
    given = {"label": "low", "label_upper_bound": "high", "validation": None}
    with pytest.raises(UserError, match=says) as refusal:
        bounds(Csv(train=write("x.csv", lines), **{**given, **settings}))
    assert "\n" not in str(refusal.value)


def test_a_bound_that_nobody_learns_from_is_refused(write: Write) -> None:
    source = Csv(train=write("x.csv", "a,low,high\n1,1,2\n"), label="low", label_upper_bound="high")
    with pytest.raises(UserError, match=r"doesn't use data\.label_upper_bound; algorithm=xgboost"):
        open_data(source, Everything(), seed=1)


def test_a_test_file_without_the_upper_bound_is_not_scored(write: Write) -> None:
    named = {"label": "low", "label_upper_bound": "high", "validation": None}
    train = write("x.csv", "a,low,high\n1,1,2\n2,2,3\n")
    opened = open_data(Csv(train=train, test=write("y.csv", "a,low\n1,1\n"), **named), Survivor(), seed=1)
    assert opened.test is None
    assert "data.test has no column 'high', so nothing is scored on it" in opened.notes
