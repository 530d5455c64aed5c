"""New rows are matched to the columns of training by name, or by the training file's positions; never by guess."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tests.data.conftest import Everything
from trainer.data.encoding.rows import encode
from trainer.data.files.naming import column
from trainer.data.opening import open_data
from trainer.data.sources import Csv, Jsonl, Parquet
from trainer.errors import UserError


def opened(source):
    return open_data(source, Everything(), seed=1)


def encoded(rows, schema) -> list[list[float]]:
    (batch,) = encode(rows, schema, Everything()).sequential(batch_size=100)
    return batch.x.tolist()


def csv(write, *lines):
    return Csv(test=write("new.csv", "\n".join(lines) + "\n"), header=False)


@pytest.fixture
def four(write):
    """A file of four columns without names: a label and two of the others to learn from."""
    path = write("train.csv", "0,1,20,300\n1,2,30,400\n0,3,40,500\n")
    return opened(Csv(train=path, header=False, label=0, columns=[1, 2], validation=None)).schema


def test_a_file_as_the_training_file_was_is_taken_by_its_positions(write, four):
    assert encoded(csv(write, "9,1,20,300"), four) == [[1, 20]]


def test_so_is_one_without_its_label(write, four):
    assert encoded(csv(write, "1,20,300"), four) == [[1, 20]]


def test_the_features_alone_come_in_their_order(write, four):
    assert encoded(csv(write, "1,20"), four) == [[1, 20]]
    assert encoded(np.array([[1, 20]]), four) == [[1, 20]]


def test_any_other_width_is_refused(write, four):
    with pytest.raises(UserError) as caught:
        encoded(csv(write, "1,2,3,4,5"), four)
    assert (
        "has 5 columns, and the model learned from 2 (or 3 as the training file without its label, 4 with the label)"
        in str(caught.value)
    )


def test_a_label_in_the_middle_is_left_out(write):
    path = write("train.csv", "1,0,20,300\n2,1,30,400\n3,0,40,500\n")
    schema = opened(Csv(train=path, header=False, label=1, columns=[0, 3], validation=None)).schema
    assert encoded(csv(write, "1,9,20,300"), schema) == [[1, 300]]
    assert encoded(csv(write, "1,20,300"), schema) == [[1, 300]]


def test_an_order_that_can_be_meant_in_two_ways_is_refused(write):
    path = write("train.csv", "0,1,20\n1,2,30\n0,3,40\n")
    schema = opened(Csv(train=path, header=False, label=0, columns=[2, 1], validation=None)).schema
    assert encoded(csv(write, "9,1,20"), schema) == [[20, 1]]
    with pytest.raises(
        UserError, match=r"2 columns without names are the training file's without its label, or 2, 1 in this"
    ):
        encoded(csv(write, "1,20"), schema)


def test_rows_without_names_fit_a_named_training_file_by_its_positions(write):
    path = write("train.csv", "id,a,b,y\n7,1,2,0\n8,3,4,1\n")
    schema = opened(Csv(train=path, label="y", columns=["b", "a"], validation=None)).schema
    assert encoded(csv(write, "7,1,2,0"), schema) == [[2, 1]]
    assert encoded(np.array([[2, 1]]), schema) == [[2, 1]]


def test_a_number_that_is_a_name_and_a_position_is_refused():
    names = ["", "0", "1", "2"]
    with pytest.raises(UserError, match=r"data.label=0 is the name of one column and the position of another, ''"):
        column(0, names, "rows.csv", "label")
    assert column("0", names, "rows.csv", "label") == "0"
    assert column(2019, ["2018", "2019"], "rows.csv", "label") == "2019"
    assert column(1, ["0", "1"], "rows.csv", "label") == "1"
    assert column(-1, ["a", "b"], "rows.csv", "label") == "b"


class OfAnotherLibrary:
    """A DataFrame that only gives what Arrow asks for, as that of polars, whose array would have lost the names."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested=None):
        return self._table.__arrow_c_stream__(requested)

    def __array__(self, *given, **named):
        return np.array([column.to_pylist() for column in self._table.columns], dtype=object).T


def test_a_frame_of_any_library_is_matched_by_names(write):
    schema = opened(Csv(train=write("train.csv", "a,w,y\n1,u,1\n2,v,2\n3,u,3\n"), label="y", validation=None)).schema
    words = pa.DictionaryArray.from_arrays([1, 0], pa.array(["v", "u"]).cast(pa.string_view()))
    rows = OfAnotherLibrary(pa.table({"w": words, "a": [7, 8]}))
    assert encoded(rows, schema) == [[7, 0], [8, 1]]


# what the file itself calls an index


def test_an_index_of_pandas_is_not_learned_from(tmp_path):
    frame = pd.DataFrame({"a": [1.5, 2.5, 3.5], "y": [0, 1, 1]})
    for index, name in [(pd.Index([5, 7, 8]), "__index_level_0__"), (pd.Index([5, 7, 8], name="row"), "row")]:
        frame.set_index(index).to_parquet(tmp_path / "rows.parquet")
        found = opened(Parquet(train=str(tmp_path / "rows.parquet"), label="y", validation=None))
        assert [c.name for c in found.schema.features] == ["a"]
        assert found.left_out == (name,)
    kept = Parquet(train=str(tmp_path / "rows.parquet"), label="y", columns=["row", "a"], validation=None)
    assert [c.name for c in opened(kept).schema.features] == ["row", "a"]


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_a_csv_of_pandas_has_its_index_first(write, name):
    path = write("rows.csv", f"{name},a,y\n0,1.5,0\n1,2.5,1\n")
    found = opened(Csv(train=path, label="y", validation=None))
    assert [c.name for c in found.schema.features] == ["a"]
    assert found.left_out == (name,)


def test_columns_are_left_out_by_name_or_position(write):
    path = write("rows.csv", "id,a,b,y\n7,1,2,0\n8,3,4,1\n")
    found = opened(Csv(train=path, label="y", drop=["id", 2], validation=None))
    assert [c.name for c in found.schema.features] == ["a"]
    with pytest.raises(UserError, match=r"data.drop holds the label 'y'"):
        opened(Csv(train=path, label="y", drop=["y"], validation=None))
    with pytest.raises(UserError, match=r"has no column 'ib' \(data.drop\): did you mean 'b'"):
        Csv(train=path, label="y", drop=["ib"]).check()


# rows from Python


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (pd.Series([1.0, 2.0]), "the rows are a Series, which is one column or one row; give a DataFrame"),
        ({"a": 1.0, "b": 2.0}, "column 'a' has 0 dimensions and not 1; a single row's is [value]"),
        (pd.DataFrame([[1, 2, 3]], columns=["a", "b", "a"]), "two columns that are called 'a'; rename one"),
        (pa.table([[1], [2], [3]], names=["a", "b", "a"]), "two columns that are called 'a'; rename one"),
        ({"a": [1.0, 2.0], "b": [1.0]}, "the columns differ in length"),
        (np.zeros(3), "the rows have 1 dimensions and not 2"),
    ],
)
def test_rows_that_are_none_are_refused_in_a_line(write, rows, why):
    schema = opened(Csv(train=write("t.csv", "a,b,y\n1,2,0\n3,4,1\n"), label="y", validation=None)).schema
    with pytest.raises(UserError) as caught:
        encoded(rows, schema)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "cells",
    [
        np.ma.masked_array([1.0, 99.0], [False, True]),
        np.ma.masked_array(np.array([1, 99], ">i4"), [False, True]),
        pd.array([1, pd.NA], "Int64"),
        np.array([1, pd.NA], object),
        np.array([1.0, None], object),
        pa.array([1, None]),
    ],
    ids=["masked", "masked whole", "Int64", "NA", "None", "arrow"],
)
def test_cells_that_are_missing_stay_missing(write, cells):
    schema = opened(Csv(train=write("t.csv", "a,y\n1,0\n,1\n"), label="y", validation=None)).schema
    rows = pd.DataFrame({"a": cells}) if isinstance(cells, pd.api.extensions.ExtensionArray) else {"a": cells}
    first, second = encoded(rows, schema)
    assert first == [1]
    assert np.isnan(second).all()


def test_a_masked_matrix_keeps_its_mask(write):
    schema = opened(Csv(train=write("t.csv", "a,b,y\n1,2,0\n,4,1\n"), label="y", validation=None)).schema
    ((a, b),) = encoded(np.ma.masked_array([[99.0, 5.0]], [[True, False]]), schema)
    assert np.isnan(a)
    assert b == 5


# JSON Lines, whose rows need not have every key


def test_a_key_that_first_appears_late_is_a_column(write):
    lines = ['{"a": 1, "y": 0}\n'] * 150 + ['{"a": 2, "late": 5, "y": 1}\n'] * 50
    path = write("rows.jsonl", "".join(lines))
    source = Jsonl(train=path, label="y", validation=None)
    found = opened(source)
    assert [c.name for c in found.schema.features] == ["a", "late"]
    assert found.schema.features[1].missing == 150
    Jsonl(train=path, label="y", drop=["late"]).check()


def test_a_key_that_a_file_lacks_is_a_missing_cell(write):
    schema = opened(
        Jsonl(train=write("t.jsonl", '{"a": 1, "b": 2, "y": 0}\n{"a": 2, "y": 1}\n'), label="y", validation=None)
    ).schema
    ((a, b),) = encoded(Jsonl(test=write("new.jsonl", '{"a": 3}\n')), schema)
    assert a == 3
    assert np.isnan(b)
    with pytest.raises(UserError, match="there is no column 'a'"):
        encoded(Jsonl(test=write("other.jsonl", '{"alpha": 3}\n')), schema)
