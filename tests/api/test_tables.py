"""DataFrames and arrays become tables of the same cells, or a line says why not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.sparse import csr_matrix

import trainer
from trainer.api.tables import coded, pair_of, table_of

FRAME = pd.DataFrame({"a": [1.5, np.nan], "b": ["x", None], "c": pd.Categorical([3, 4])})


class OfAnotherLibrary:
    """A DataFrame that only gives what Arrow asks for, as that of polars."""

    def __arrow_c_stream__(self, requested: Any = None) -> Any:
        words = pa.array(["x", None, "x"]).cast(pa.string_view())
        few = pa.DictionaryArray.from_arrays(pa.array([1, 0, None], pa.uint32()), words.slice(0, 2))
        return pa.table({"a": [1.0, float("nan"), 2.0], "w": words, "c": few}).__arrow_c_stream__(requested)


def test_missing_cells_are_null_and_categories_their_values() -> None:
    assert table_of(FRAME, "data").to_pydict() == {"a": [1.5, None], "b": ["x", None], "c": [3, 4]}
    assert coded(FRAME) == ["c"]


@pytest.mark.parametrize(
    ("value", "columns"),
    [
        (np.array([[1, 2], [3, 4]]), {"0": [1, 3], "1": [2, 4]}),
        ([[1.0, 2.0]], {"0": [1.0], "1": [2.0]}),
        (np.ma.array([[1, 2]], mask=[[False, True]]), {"0": [1], "1": [None]}),
        (np.array([(1, "x")], dtype=[("n", ">i4"), ("w", "U1")]), {"n": [1], "w": ["x"]}),
        (np.array([[1.5]], np.float16), {"0": [1.5]}),
        (pd.DataFrame([[1, 2]]), {"0": [1], "1": [2]}),
        ({"a": [1, None], "b": np.array([1.0, np.nan])}, {"a": [1, None], "b": [1.0, None]}),
        (pa.table({"a": [float("nan")]}), {"a": [None]}),
        (OfAnotherLibrary(), {"a": [1.0, None, 2.0], "w": ["x", None, "x"], "c": [None, "x", None]}),
    ],
)
def test_tables_of_all_kinds(value: Any, columns: dict[str, list[Any]]) -> None:
    assert table_of(value, "data").to_pydict() == columns


def test_only_an_index_with_a_name_is_kept_and_as_an_index() -> None:
    assert table_of(FRAME.set_index(np.array([7, 8])), "data").column_names == ["a", "b", "c"]
    table = table_of(FRAME.set_index("a"), "data")
    assert table.column_names == ["b", "c", "a"]
    assert b'"index_columns": ["a"]' in table.schema.metadata[b"pandas"]


@pytest.mark.parametrize(
    ("y", "label"),
    [(pd.Series([1, 2], name="price"), "price"), ([1, 2], "label"), (np.array([[1], [2]]), "label")],
)
def test_the_label_of_a_pair_is_called_as_it_is(y: Any, label: str) -> None:
    table, named = pair_of(np.zeros((2, 1)), y, "data")
    assert named == label
    assert table.to_pydict() == {"0": [0.0, 0.0], label: [1, 2]}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (pd.concat([FRAME, FRAME], axis=1), "two columns are called 'a'; rename one"),
        (pd.DataFrame([[1, 2]], columns=[0, "0"]), "two columns are called '0'"),
        (FRAME.rename(columns={"a": ("a", 1)}), "the name of the column ('a', 1) is a tuple and not text"),
        (FRAME.rename(columns={"a": 1.5}), "the name of the column 1.5 is a float and not text"),
        (FRAME.assign(b=["x", 1]), "column 'b' holds str and int; make them all of one type"),
        (FRAME.assign(b=[object(), None]), "column 'b' holds objects of type object"),
        (FRAME.assign(b=pd.period_range("2024", periods=2)), "column 'b' holds pandas.period"),
        (FRAME["a"], "a Series is one column"),
        (FRAME.head(0), "there are no rows"),
        (pd.DataFrame(index=[0, 1]), "there are no columns"),
        (np.zeros((2, 2, 2)), "an array of shape (2, 2, 2) is no table"),
        ([[1, 2], [3]], "can't be read as an array"),
        ({"a": [1], "b": [1, 2]}, "the columns differ in length: {'a': 1, 'b': 2}"),
        (csr_matrix((2, 2)), "a sparse matrix is given as a file"),
        (3, "a value of type int holds no rows; give a DataFrame"),
    ],
)
def test_what_no_file_can_hold_is_one_line(value: Any, said: str) -> None:
    with pytest.raises(trainer.UserError) as error:
        table_of(value, "data.train")
    assert str(error.value).startswith("data.train: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (FRAME, FRAME["a"], "X has a column 'a', as y is called"),
        (FRAME, [1, 2, 3], "X has 2 rows and y 3"),
        (FRAME, FRAME, "this one has 3 columns; two sets of rows are {'train': …, 'validation': …}"),
        (FRAME, np.zeros((2, 2)), "y is an array of shape (2, 2)"),
    ],
)
def test_a_pair_that_is_none_is_one_line(x: Any, y: Any, said: str) -> None:
    with pytest.raises(trainer.UserError) as error:
        pair_of(x, y, "data")
    assert said in str(error.value)
