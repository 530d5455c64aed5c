"""What a column's values are is told apart in training and prediction, though batches are float32."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.data.conftest import Numbers
from trainer.algorithm import Algorithm
from trainer.data.encoding.rows import encode
from trainer.data.opening import open_data
from trainer.data.sources import Csv, Npy, Parquet
from trainer.errors import UserError


class Regression(Numbers):
    def target(self, schema):
        return None if schema.label is None else "number"

    def shift_equivariant(self, schema):
        return True


class Logarithm(Regression):
    def shift_equivariant(self, schema):
        return False


def opened(source, algorithm: Algorithm | None = None):
    return open_data(source, algorithm or Regression(), seed=1)


def column(found, name: str = "x") -> np.ndarray:
    """What a model sees of a column, put back in the column's own terms."""
    place = [c.name for c in found.schema.features].index(name)
    known = found.schema.features[place]
    (batch,) = found.train.sequential(batch_size=100_000)
    return batch.x[:, place].double().numpy() * known.unit + known.origin


@pytest.mark.parametrize(
    "values",
    [
        1700000000 + np.arange(600),  # epoch seconds
        1700000000000 + 1000 * np.arange(100) + 0.5,  # milliseconds
        np.array([20240101 + day for day in range(28)]),  # YYYYMMDD
        5_400_000 + np.arange(500) / 8,  # metres of UTM
        1e-47 * np.arange(1, 50),
        1e39 * np.arange(1, 50),
        np.append(np.zeros(60), 1700000000 + np.arange(540)),  # zero where nobody looked
        -1e12 + np.arange(50.0),
        2.0**52 + np.arange(50.0),
    ],
    ids=["seconds", "milliseconds", "dates", "metres", "tiny", "huge", "zeros", "negative", "largest"],
)
def test_all_values_of_a_column_stay_apart(tmp_path, values):
    path = str(tmp_path / "rows.parquet")
    parquet.write_table(pa.table({"x": values.astype(float), "y": np.arange(len(values)) / 7}), path)
    found = opened(Parquet(train=path, label="y", validation=None))
    assert len(np.unique(column(found))) == len(np.unique(values))
    assert np.abs(column(found) - values).max() <= 1e-6 * np.ptp(values)
    assert found.notes == []


def test_ordinary_columns_come_as_they_are(write):
    rows = np.random.default_rng(0).normal(size=(2000, 1))
    path = write("rows.csv", "x,y\n" + "".join(f"{v!r},{i}.5\n" for i, v in enumerate(rows[:, 0].tolist())))
    found = opened(Csv(train=path, label="y", validation=None))
    assert (found.schema.features[0].origin, found.schema.features[0].unit) == (0.0, 1.0)
    assert column(found).tolist() == rows[:, 0].astype(np.float32).tolist()


def test_new_rows_and_validation_rows_are_counted_from_the_same_origin(write):
    train = write("train.csv", "x,y\n" + "".join(f"{1700000000 + i},{i}.5\n" for i in range(100)))
    held = write("held.csv", "x,y\n1700000007,1.5\n1700000008,2.5\n")
    found = opened(Csv(train=train, validation=held, label="y"))
    (batch,) = found.validation.sequential(batch_size=10)
    (new,) = encode({"x": [1700000007, 1700000008]}, found.schema, Regression()).sequential(batch_size=10)
    assert batch.x.tolist() == new.x.tolist()
    assert batch.x[1, 0] - batch.x[0, 0] == 1


def test_values_that_no_origin_keeps_apart_are_told(write):
    path = write("rows.csv", "x,y\n1e80,0.5\n" + "".join(f"{i},{i}.5\n" for i in range(200)))
    (note,) = opened(Csv(train=path, label="y", validation=None)).notes
    assert "column 'x': of 201 different values 32 bits tell 2 apart" in note


def test_labels_that_differ_stay_apart(write):
    path = write("rows.csv", "x,y\n" + "".join(f"{i}.0,{1700000000000 + 1000 * i + 0.5}\n" for i in range(100)))
    found = opened(Csv(train=path, label="y", validation=None))
    (batch,) = found.train.sequential(batch_size=100)
    label = found.schema.label
    assert (batch.y.double().numpy() + label.origin).tolist() == [1700000000000 + 1000 * i + 0.5 for i in range(100)]
    assert label.mean + label.origin == pytest.approx(1700000049500.5)
    assert abs(label.mean) < 1e6


def test_an_algorithm_that_cannot_shift_its_label_refuses_what_it_would_merge(write):
    path = write("rows.csv", "x,y\n" + "".join(f"{i}.0,{1700000000000 + 1000 * i + 0.5}\n" for i in range(100)))
    with pytest.raises(UserError, match=r"column 'y': holds 100 different values, of which 32 bits tell 1 apart"):
        opened(Csv(train=path, label="y", validation=None), Logarithm())


@pytest.mark.parametrize("label", ["1e39", "3e25"])
def test_a_label_beyond_what_is_learned_is_refused(write, label):
    path = write("rows.csv", f"x,y\n1,0.5\n2,{label}\n3,1.5\n")
    with pytest.raises(UserError, match=r"column 'y': 0.5 to .* is beyond what Regression learns in 32 bits"):
        opened(Csv(train=path, label="y", validation=None))


def test_class_ids_beyond_two_to_the_53_are_classes_of_their_own(tmp_path):
    ids = [9007199254740992, 9007199254740993, 9007199254740994, 123456789012345678]
    path = str(tmp_path / "rows.parquet")
    parquet.write_table(pa.table({"x": np.arange(40.0), "y": pa.array(ids * 10, pa.int64())}), path)
    found = open_data(Parquet(train=path, label="y", validation=None), Numbers(), seed=1)
    assert found.schema.label.classes == tuple(ids)
    assert found.schema.label.counts == (10, 10, 10, 10)
    (batch,) = found.train.sequential(batch_size=40)
    assert batch.y.tolist() == [0, 1, 2, 3] * 10


def test_class_ids_of_any_length_are_read_from_text(write):
    ids = ["90071992547409921234567890", "90071992547409921234567891"]
    path = write("rows.csv", "x,y\n" + "".join(f"{i},{ids[i % 2]}\n" for i in range(20)))
    held = write("held.csv", f"x,y\n1,{ids[1]}\n2,{ids[0]}\n")
    found = open_data(Csv(train=path, label="y", validation=held), Numbers(), seed=1)
    assert found.schema.label.classes == tuple(int(one) for one in ids)
    (batch,) = found.validation.sequential(batch_size=4)
    assert batch.y.tolist() == [1, 0]


def test_numbers_beyond_two_to_the_53_are_learned_as_numbers_too(tmp_path):
    values = [2**60 + 3 * i for i in range(100)]
    path = str(tmp_path / "rows.parquet")
    parquet.write_table(pa.table({"x": np.arange(100.0), "y": pa.array(values, pa.int64())}), path)
    found = opened(Parquet(train=path, label="y", validation=None))
    (batch,) = found.train.sequential(batch_size=100)
    assert [int(y) + int(found.schema.label.origin) for y in batch.y.tolist()] == values


def test_an_array_of_another_byte_order_is_read(tmp_path):
    np.save(tmp_path / "rows.npy", np.array([[1, 2, 0], [3, 4, 1], [5, 6, 0], [7, 8, 1]], ">f8"))
    found = open_data(Npy(train=str(tmp_path / "rows.npy"), validation=None), Numbers(), seed=1)
    (batch,) = found.train.sequential(batch_size=9)
    assert batch.x.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]


def test_whole_numbers_that_even_64_bits_merge_are_told(write):
    lines = "".join(f"{2**60 + i},{i % 2}\n" for i in range(100))
    found = open_data(Csv(train=write("ids.csv", "id,y\n" + lines), label="y", validation=None), Numbers(), seed=1)
    (note,) = found.notes
    assert "column 'id': of 100 different values 32 bits tell 1 apart" in note
