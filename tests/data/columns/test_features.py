"""Cells as files spell them become the values that they mean, or a line says why not."""

import datetime
import re
import shlex
import warnings

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.data.conftest import Everything
from trainer.config.compose import compose
from trainer.data.encoding.rows import encode
from trainer.data.opening import open_data
from trainer.data.sources import Csv, Jsonl, Parquet
from trainer.errors import UserError


def opened(source):
    return open_data(source, Everything(), seed=1)


def rows_of(found) -> list[list[float]]:
    (batch,) = found.train.sequential(batch_size=10_000)
    origin = np.array([c.origin for c in found.schema.features])
    return (batch.x.double().numpy() + origin).tolist()


def codes(rows, schema) -> list[float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (batch,) = encode(rows, schema, Everything()).sequential(batch_size=100)
    return batch.x[:, 0].tolist()


def csv(write, head, *lines, **keys):
    return Csv(train=write("rows.csv", "\n".join([head, *lines]) + "\n"), validation=None, **keys)


def refused(source) -> str:
    with pytest.raises(UserError) as caught:
        opened(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# numbers in another spelling


@pytest.mark.parametrize(
    ("cells", "keys", "values"),
    [
        (["1,5", "-2,25", "3"], {"decimal": ","}, [1.5, -2.25, 3]),
        (["1.234,5", "12", "1.000.000"], {"decimal": ",", "thousands": "."}, [1234.5, 12, 1000000]),
        (["1,200", "950", "1,000,000.5"], {"thousands": ","}, [1200, 950, 1000000.5]),
        (["1 200", "", "950"], {"thousands": " "}, [1200, np.nan, 950]),
        (["1\u202f200", "1\u00a0000,5"], {"thousands": " ", "decimal": ","}, [1200, 1000.5]),
        (["1,5e3", "2e-1", "NA"], {"decimal": ","}, [1500, 0.2, np.nan]),
    ],
)
def test_numbers_are_read_as_they_are_spelled(write, cells, keys, values):
    lines = [f"{cell};{i % 2}" for i, cell in enumerate(cells)]
    found = opened(csv(write, "x;y", *lines, label="y", delimiter=";", **keys))
    assert np.allclose([row[0] for row in rows_of(found)], values, equal_nan=True)
    new = Csv(test=write("new.csv", "x;y\n" + "\n".join(lines)), delimiter=";", **keys)
    assert np.allclose(codes(new, found.schema), values, equal_nan=True)


@pytest.mark.parametrize(
    ("cell", "advice"),
    [
        ("1,5", "set \"data.decimal=','\""),
        ("1,200", "set \"data.thousands=','\" or \"data.decimal=','\""),
        ("1.234,50", "set \"data.decimal=','\" and data.thousands"),
        ("1\u202f200", "set \"data.thousands=' '\""),
        ("1'200", 'set "data.thousands=\\"\'\\""'),
        ("$5", "take the sign out of the file"),
        ("12%", "take the sign out of the file"),
        ("(3.50)", "take the sign out of the file"),
        ("USD 20", "take the sign out of the file"),
    ],
)
def test_numbers_in_another_spelling_are_no_categories(write, cell, advice):
    message = refused(csv(write, "x;y", f"{cell};0", f"{cell};1", label="y", delimiter=";"))
    assert f"column 'x': {cell!r} looks like a number in another spelling; {advice}" in message
    assert "or set data.categorical=[x]" in message
    for override in re.findall(r'"data\.(?:[^"\\]|\\.)*"', message):  # as it is copied to a shell
        key, _, mark = shlex.split(override)[0].partition("=")
        assert compose(["data=csv", f"{key}={mark}"])["data"][key.partition(".")[2]] in cell.replace("\u202f", " ")
    kept = csv(write, "x;y", f"{cell};0", f"{cell};1", label="y", delimiter=";", categorical=["x"])
    assert opened(kept).schema.features[0].categories == (cell,)


def test_a_number_that_is_not_in_the_spelling_is_refused_not_guessed(write):
    for cell, keys in [("1.5", {"decimal": ","}), ("1,5", {"thousands": ","}), ("12,34,5", {"thousands": ","})]:
        message = refused(csv(write, "x;y", "1;0", "2;1", f"{cell};1", label="y", delimiter=";", **keys))
        assert f"row 4, column 'x': {cell!r} is not a number" in message


@pytest.mark.parametrize("words", [["A1", "B2"], ["18-25", "26-35"], ["1.2.3", "192.168.0.1"], ["3rd", "1st"]])
def test_words_with_digits_are_categories(write, words):
    found = opened(csv(write, "x,y", *[f"{word},{i % 2}" for i, word in enumerate(words)], label="y"))
    assert found.schema.features[0].categories == tuple(words)
    assert found.notes == []


def test_many_categories_of_digits_are_told(write):
    lines = [f"room {i},{i % 2}" for i in range(60)]
    (note,) = opened(csv(write, "x,y", *lines, label="y")).notes
    assert (
        "column 'x': 60 different words such as 'room 0' are learned as categories; data.drop=[x] leaves it out" in note
    )


# the same value spelled otherwise


@pytest.mark.parametrize(
    ("trained", "new"),
    [
        (["true", "false"], pa.array([True, False])),
        (["TRUE", "FALSE"], np.array([True, False])),
        (["True", "False"], ["true", "false"]),
        (["1", "2"], np.array([1.0, 2.0])),
        (["1.0", "2.0"], np.array([1, 2])),
        (["1", "0"], np.array([True, False])),
        (["2024-01-01", "2024-01-02"], [datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)]),
        (["2024-01-01", "2024-01-02"], ["2024-01-01 00:00:00", "2024-01-02T00:00:00Z"]),
    ],
)
def test_a_category_is_known_by_its_value(write, trained, new):
    found = opened(csv(write, "x,y", *[f"{w},{i}" for i, w in enumerate(trained)], label="y", categorical=["x"]))
    assert codes({"x": new}, found.schema) == [0, 1]


def test_what_training_told_apart_stays_apart(write):
    found = opened(csv(write, "x,y", "1,0", "01,1", label="y", categorical=["x"]))
    assert codes({"x": ["1", "01"]}, found.schema) == [0, 1]
    assert np.isnan(codes({"x": ["1.0"]}, found.schema)).all()


def test_unknown_cells_are_told_when_they_are_not_few(write):
    found = opened(csv(write, "colour,y", "red,0", "blue,1", label="y"))
    with pytest.warns(
        UserWarning, match=r"column 'colour': 75% of the cells hold what training never saw, such as 'Red'"
    ):
        list(encode({"colour": ["Red", "Red", "Blue", "blue"]}, found.schema, Everything()).sequential(batch_size=9))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        few = ["red"] * 30 + ["green"]
        list(encode({"colour": few}, found.schema, Everything()).sequential(batch_size=99))


def test_unknown_cells_of_a_validation_file_are_told(write):
    held = write("held.csv", "colour,y\nRED,0\nblue,1\n")
    train = write("train.csv", "colour,y\nred,0\nblue,1\n")
    (note,) = opened(Csv(train=train, validation=held, label="y")).notes
    assert "column 'colour': 50% of the cells hold what training never saw, such as 'RED'" in note


# times


def test_times_dates_and_durations_are_numbers(tmp_path):
    day = datetime.date(2024, 1, 2)
    moment = datetime.datetime(2024, 1, 2, 3, 4, 5, 500000)
    columns = {
        "date": pa.array([day, None], pa.date32()),
        "moment": pa.array([moment, None], pa.timestamp("ns")),
        "there": pa.array([moment, None], pa.timestamp("ms", "Europe/Berlin")),
        "clock": pa.array([datetime.time(1, 0, 1), None], pa.time32("s")),
        "length": pa.array([datetime.timedelta(minutes=2), None], pa.duration("us")),
        "y": [0, 1],
    }
    parquet.write_table(pa.table(columns), tmp_path / "rows.parquet")
    found = opened(Parquet(train=str(tmp_path / "rows.parquet"), label="y", validation=None))
    assert rows_of(found)[0] == [1704153600, 1704164645.5, 1704164645.5, 3601, 120]
    assert np.isnan(rows_of(found)[1]).all()
    assert all(c.time for c in found.schema.features)


@pytest.mark.parametrize("cell", ["2024-01-02 03:04", "2024-01-02T03:04:00Z", "2024-01-02 04:04:00+01:00"])
def test_times_in_text_are_numbers(write, cell):
    found = opened(csv(write, "when,y", f"{cell},0", f"{cell},1", label="y"))
    assert rows_of(found)[0] == [1704164640]
    text = write("rows.jsonl", f'{{"when": "{cell}", "y": 0}}\n{{"when": "{cell}", "y": 1}}\n')
    assert rows_of(opened(Jsonl(train=text, label="y", validation=None)))[0] == [1704164640]
    assert codes({"when": [cell]}, found.schema) == [0 if found.schema.features[0].origin else 1704164640]


@pytest.mark.parametrize(
    ("cells", "seconds"),
    [
        (["0 days 00:01:00", "-1 days +23:59:30.5"], [60, -29.5]),  # pandas
        (["1 day, 0:00:05", "0:00:05"], [86405, 5]),  # Python
        (["08:30", "23:59"], [30600, 86340]),
        (["1:02:03", "25:00:00.5"], [3723, 90000.5]),
        (["P1DT5S", "PT1H1M"], [86405, 3660]),
    ],
)
def test_durations_and_times_of_day_in_text_are_seconds(write, cells, seconds):
    found = opened(csv(write, "t,y", f'"{cells[0]}",0', f'"{cells[1]}",1', ",1", label="y", missing="mean"))
    assert [row[0] for row in rows_of(found)[:2]] == seconds
    assert found.schema.features[0].time
    assert codes({"t": cells}, found.schema) == seconds


@pytest.mark.parametrize("cell", ["1:02:10", "soon"])
def test_minutes_are_not_taken_for_hours(write, cell):
    """59:30 beside 1:02:10 is 59 minutes; alone it could be no time of day, and 12:30 could."""
    message = refused(csv(write, "t,y", "12:30,0", "11:30,1", f"{cell},1", label="y"))
    assert f"row 4, column 't': '{cell}' is not a duration such as" in message
    assert "write all as H:MM:SS, or set data.categorical=[t]" in message


def test_a_cell_that_is_no_time_among_times_is_named(write):
    message = refused(csv(write, "when,y", "2024-01-02,0", "2024-01-03,1", "soon,1", label="y"))
    assert "row 4, column 'when': 'soon' is not a time such as 2024-12-31 23:59:59" in message


@pytest.mark.parametrize("cell", ["31/12/2020", "12-31-2020", "31.12.20", "2020/12/31", "31 Dec 2020", "Dec 31, 2020"])
def test_dates_in_another_spelling_are_told_before_there_is_a_job(write, cell):
    quoted = f'"{cell}"'
    source = csv(write, "when,y", f"{quoted},0", f"{quoted},1", label="y")
    with pytest.raises(UserError, match=r"column 'when': .* looks like a date, and dates are read as 2024-12-31"):
        source.check()
    assert "leave it out with data.drop=[when]" in refused(source)
    source.drop = ["when"]
    with pytest.raises(UserError, match="no column to learn from"):
        opened(source)


def test_an_iso_time_can_be_taken_as_a_category(write):
    found = opened(csv(write, "when,y", "2024-01-02,0", "2024-01-03,1", label="y", categorical=["when"]))
    assert found.schema.features[0].categories == ("2024-01-02", "2024-01-03")


# bytes


def test_text_that_parquet_holds_as_bytes_is_text(tmp_path):
    columns = {"a": pa.array([b"x", b"y"], pa.binary()), "b": pa.array([b"no", b"ok"], pa.binary(2)), "y": [0, 1]}
    parquet.write_table(pa.table(columns), tmp_path / "rows.parquet")
    found = opened(Parquet(train=str(tmp_path / "rows.parquet"), label="y", validation=None))
    assert [c.categories for c in found.schema.features] == [("x", "y"), ("no", "ok")]
    parquet.write_table(pa.table({"a": pa.array([b"\xff\xfe"], pa.binary()), "y": [0]}), tmp_path / "bad.parquet")
    message = refused(Parquet(train=str(tmp_path / "bad.parquet"), label="y", validation=None))
    assert "row 1, column 'a': holds bytes that are no text in UTF-8" in message


@pytest.mark.parametrize(("known", "new"), [("2024-01-02", "1:02:03"), ("1:02:03", "2024-01-02")])
def test_dates_and_durations_are_not_taken_for_each_other(write, known, new):
    found = opened(csv(write, "t,y", f"{known},0", f"{known},1", label="y"))
    with pytest.raises(UserError, match=r"column 't': holds (dates|durations or times of day), and .* before"):
        codes({"t": [new]}, found.schema)
    moments = pa.array([0], pa.timestamp("s") if ":" in known else pa.duration("s"))
    with pytest.raises(UserError, match=r"column 't': holds"):
        codes(pa.table({"t": moments}), found.schema)
