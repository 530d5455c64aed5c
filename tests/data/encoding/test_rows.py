import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.sparse import csr_matrix

from tests.data.conftest import Everything, Numbers
from trainer.data.encoding.rows import encode
from trainer.data.opening import open_data
from trainer.data.schema import Column, Schema
from trainer.data.sources import Csv, Digits, Libsvm
from trainer.errors import UserError

NAN = float("nan")


@pytest.fixture
def schema(write):
    path = write("train.csv", "size,colour,rooms,price\n1,red,2,0\n3,blue,4,1\n5,red,6,1\n")
    return open_data(Csv(train=path, label="price", validation=None), Everything(), seed=1).schema


def encoded(rows, schema, algorithm=None):
    return torch.cat([b.x for b in encode(rows, schema, algorithm or Everything()).sequential(batch_size=2)])


def refused(rows, schema, algorithm=None):
    with pytest.raises(UserError) as caught:
        encoded(rows, schema, algorithm)
    message = str(caught.value)
    assert "\n" not in message
    return message


ROWS = {"colour": ["blue", "green", "red"], "rooms": [1, 2, 3], "size": [7.5, 8, 9], "more": ["x", "y", "z"]}
EXPECTED = [[7.5, 1, 1], [8, NAN, 2], [9, 0, 3]]


def tables(write):
    pandas = pytest.importorskip("pandas")
    text = "".join(",".join(map(str, row)) + "\n" for row in zip(*ROWS.values(), strict=True))
    return {
        "dict": ROWS,
        "arrow": pa.table(ROWS),
        "pandas": pandas.DataFrame(ROWS),
        "csv": Csv(test=write("new.csv", ",".join(ROWS) + "\n" + text)),
        "array": np.array([[7.5, "blue", 1], [8, "green", 2], [9, "red", 3]], dtype=object),
    }


@pytest.mark.parametrize("kind", ["dict", "arrow", "pandas", "csv", "array"])
def test_rows_of_any_form_get_the_codes_of_training(write, schema, kind):
    found = encoded(tables(write)[kind], schema)
    assert torch.allclose(found, torch.tensor(EXPECTED), equal_nan=True)


def test_chunks_are_numpy(schema):
    chunks = [x for x, _ in encode(ROWS, schema, Everything()).chunks(rows=2)]
    assert [len(x) for x in chunks] == [2, 1]
    assert np.allclose(np.concatenate(chunks), EXPECTED, equal_nan=True)


def test_a_missing_column_names_the_nearest_one(schema):
    rows = {"colour": ["red"], "room": [1], "size": [1]}
    assert "there is no column 'rooms', which the model learned from; did you mean 'room'" in refused(rows, schema)


def test_a_word_among_numbers_names_row_and_column(write, schema):
    rows = {"colour": ["red", "red"], "rooms": ["1", "many"], "size": [1, 2]}
    assert "row 2, column 'rooms': 'many' is not a number; mend the cell" in refused(rows, schema)
    path = write("new.csv", "colour,rooms,size\nred,1,1\nred,many,2\n")
    assert f"{path}, row 3, column 'rooms': 'many' is not a number" in refused(Csv(test=path), schema)


def test_a_wrong_number_of_columns_says_how_many(schema):
    assert "the rows: has 2 columns, and the model learned from 3" in refused(np.ones((1, 2)), schema)
    assert "1 dimensions and not 2" in refused(np.ones(3), schema)


def test_missing_cells_are_refused_or_replaced_as_in_training(write):
    path = write("train.csv", "a,y\n1,0\n,1\n3,1\n")
    source = Csv(train=path, label="y", validation=None, missing="mean")
    schema = open_data(source, Numbers(), seed=1).schema
    assert encoded({"a": [None, 5]}, schema, Numbers()).tolist() == [[2], [5]]
    assert encoded({"a": np.array([NAN, 5])}, schema, Numbers()).tolist() == [[2], [5]]
    plain = open_data(
        Csv(train=write("b.csv", "a,y\n1,0\n3,1\n"), label="y", validation=None), Numbers(), seed=1
    ).schema
    assert "row 2, column 'a': the cell is missing" in refused({"a": [5, None]}, plain, Numbers())


@pytest.mark.parametrize("label", [0, 1, 2])
def test_rows_without_names_come_with_the_label_or_without_it(write, label):
    row = ["5", "7"]
    full = [*row[:label], "1", *row[label:]]
    train = write("train.csv", ",".join(full) + "\n" + ",".join([*row[:label], "0", *row[label:]]) + "\n")
    source = Csv(train=train, label=label, header=False, validation=None)
    schema = open_data(source, Numbers(), seed=1).schema
    for cells in (row, full):
        test = Csv(test=write("new.csv", ",".join(cells) + "\n"), header=False)
        assert encoded(test, schema).tolist() == [[5, 7]]
    wide = Csv(test=write("wide.csv", "1,2,3,4\n"), header=False)
    assert "has 4 columns, and the model learned from 2 (or 3 with the label)" in refused(wide, schema)


def test_arrays_fit_a_model_of_named_columns_by_their_order():
    schema = open_data(Digits(), Numbers(), seed=1).schema
    x = np.arange(128, dtype=np.float64).reshape(2, 64)
    assert encoded(x, schema).tolist() == x.tolist()
    assert encoded(Digits(), schema).shape == (1797, 64)


def test_sparse_rows_fit_a_sparse_model_alone(write, schema):
    svm = write("rows.svm", "1 1:1 3:2\n0 2:1\n")
    sparse = open_data(Libsvm(train=svm, validation=None), Everything(), seed=1).schema
    matrix = csr_matrix(np.array([[0, 1, 2], [3, 0, 0]], np.float64))
    (batch,) = encode(matrix, sparse, Everything()).sequential(batch_size=5)
    assert batch.x.indices.tolist() == [1, 2, 0]
    assert batch.x.offsets.tolist() == [0, 2, 3]
    (x, _) = next(encode(matrix, sparse, Everything()).chunks())
    assert np.array_equal(x.toarray(), matrix.toarray())
    with pytest.raises(UserError, match="has 2 columns, and the model learned from 3"):
        encode(csr_matrix(np.ones((1, 2))), sparse, Everything())
    assert "sparse matrix, and the model learned from a table" in refused(matrix, schema)


def test_rows_may_be_records():
    schema = Schema(features=(Column(name="a", kind="numeric"), Column(name="b", kind="numeric")), columns=2)
    rows = [{"b": 2.0, "a": 1}, {"a": 3}]
    (batch,) = encode(rows, schema, Everything()).sequential(batch_size=5)
    assert np.array_equal(batch.x.numpy(), [[1, 2], [3, np.nan]], equal_nan=True)
    for wrong in (None, "rows.csv"):
        with pytest.raises(UserError, match="the rows are a DataFrame, a dict of columns or an array; of a file"):
            encode(wrong, schema, Everything())


def test_times_are_no_numbers_where_training_had_numbers():
    schema = Schema(features=(Column(name="a", kind="numeric"),), columns=1)
    times = pa.table({"a": pa.array([0], pa.timestamp("s"))})
    with pytest.raises(UserError, match="column 'a': holds times, and training had numbers there"):
        list(encode(times, schema, Everything()).sequential(batch_size=5))
