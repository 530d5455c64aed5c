import numpy as np
import pytest
import torch

from tests.data.conftest import Everything
from trainer.data.encoding.rows import encode
from trainer.data.opening import open_data
from trainer.data.sources import Libsvm
from trainer.data.tables import order, streaming
from trainer.data.tables.sparse import Sparse, SparseStreaming
from trainer.errors import UserError

ROWS, COLUMNS = 9000, 6


@pytest.fixture(scope="module")
def dense():
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(size=(ROWS, COLUMNS)) * (rng.random((ROWS, COLUMNS)) < 0.4), 3)
    x[0], x[1], x[:, 0] = 1.5, 0, np.arange(ROWS)
    return x.astype(np.float32)


def lines(x, base):
    return "".join(
        f"{i % 3} " + " ".join(f"{j + base}:{v}" for j, v in enumerate(row) if v) + "\n"
        for i, row in enumerate(x.tolist())
    )


def to_dense(rows):
    x = torch.zeros(len(rows.offsets) - 1, rows.columns)
    for i, (start, stop) in enumerate(zip(rows.offsets[:-1], rows.offsets[1:], strict=True)):
        x[i, rows.indices[start:stop]] = rows.values[start:stop]
    return x.numpy()


@pytest.mark.parametrize("base", [0, 1])
def test_rows_are_those_of_the_file_whatever_the_indices_count_from(write, dense, base):
    source = Libsvm(train=write("rows.svm", lines(dense, base)), validation=None)
    source.check()
    opened = open_data(source, Everything(), seed=1)
    assert isinstance(opened.train, Sparse)
    assert (opened.schema.sparse, opened.schema.columns, opened.schema.features) == (True, COLUMNS, ())
    batches = list(opened.train.sequential(batch_size=1000))
    assert np.array_equal(np.concatenate([to_dense(b.x) for b in batches]), dense)
    assert torch.cat([b.y for b in batches])[:4].tolist() == [0, 1, 2, 0]
    assert opened.schema.label.classes == (0, 1, 2)
    (x, y) = next(opened.train.chunks(rank=1, world=2, rows=100))
    assert np.array_equal(x.toarray(), dense[4500:4600])
    assert len(y) == 100


def test_statistics_count_the_zeros(write, dense):
    schema = open_data(Libsvm(train=write("rows.svm", lines(dense, 1)), validation=None), Everything(), seed=1).schema
    assert schema.sparse_mean == pytest.approx(dense.astype(np.float64).mean(0), abs=1e-9)
    assert schema.sparse_std == pytest.approx(dense.astype(np.float64).std(0), abs=1e-9)


@pytest.mark.parametrize("world", [1, 3])
def test_streamed_sparse_rows_are_those_in_memory(write, dense, monkeypatch, world):
    source = Libsvm(train=write("rows.svm", lines(dense, 1)), validation=0.1)
    memory = open_data(source, Everything(), seed=1)
    monkeypatch.setattr(order, "WINDOW", 100_000)
    monkeypatch.setattr("trainer.data.tables.sparse.PIECE", 20_000)
    streamed = open_data(source, Everything(), seed=1)
    assert isinstance(streamed.train, SparseStreaming)
    assert streaming.PIECE > 20_000
    seen = {}
    for rank in range(world):
        for b in streamed.train.stream(seed=1, epoch=0, batch_size=100, rank=rank, world=world):
            for row, y in zip(to_dense(b.x)[: b.size], b.y.tolist(), strict=False):
                assert int(row[0]) not in seen or row[0] == 1.5
                seen[float(row[0])] = (row.tolist(), y)
    expected = {}
    for b in memory.train.sequential(batch_size=1000):
        for row, y in zip(to_dense(b.x), b.y.tolist(), strict=True):
            expected[float(row[0])] = (row.tolist(), y)
    assert seen == expected


def test_columns_that_training_never_saw_are_dropped(write):
    train = write("train.svm", "1 1:1 3:2\n0 2:1\n")
    held = write("held.svm", "1 1:1 7:5\n")
    opened = open_data(Libsvm(train=train, validation=held), Everything(), seed=1)
    (batch,) = opened.validation.sequential(batch_size=5)
    assert to_dense(batch.x).tolist() == [[1, 0, 0]]
    (batch,) = encode(Libsvm(test=held), opened.schema, Everything()).sequential(batch_size=5)
    assert to_dense(batch.x).tolist() == [[1, 0, 0]]


GOOD = "# made by hand\n1 qid:3 1:1 3:2  # a comment\n\n   \n0 2:-1e-3 \n1\n1 0001:+5 4:7\r\n"


def test_comments_blank_lines_and_query_numbers_are_no_data(write):
    opened = open_data(Libsvm(train=write("rows.svm", GOOD), validation=None), Everything(), seed=1)
    (batch,) = opened.train.sequential(batch_size=9)
    assert to_dense(batch.x).tolist() == [
        [1, 0, 2, 0],
        [0, pytest.approx(-1e-3), 0, 0],
        [0, 0, 0, 0],
        [5, 0, 0, 7],
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1 7:1 3:2", "index 3 comes after 7; sort each line's indices in ascending order"),
        ("1 3:1 3:2", "index 3 is there twice; keep one of its values"),
        ("1 2:1 3:2 2:1 # back", "index 2 comes after 3; sort each line's indices in ascending order"),
        ("1 -1:1", "index -1 is negative; number the columns from 0 or 1"),
        ("1 3000000000:1", "index 3000000000 is above 2,147,483,647; number the columns from 0 or 1"),
        ("1 99999999999999999999999:1", "index 99999999999999999999999 is above 2,147,483,647"),
        ("1 3:", "'1 3:' is not libsvm, which reads: label index:value …"),
        ("1 3:a", "is not libsvm, which reads: label index:value …"),
        ("1 a:3", "is not libsvm, which reads: label index:value …"),
        ("1 1.5:3", "is not libsvm, which reads: label index:value …"),
        ("1 3", "is not libsvm, which reads: label index:value …"),
        ("1,2 3:1", "is not libsvm, which reads: label index:value …"),
        ("3:1", "is not libsvm, which reads: label index:value …"),
        ("1 3:nan", "index 3: nan is no finite number of single precision; mend it"),
        ("1 3:1e99", "index 3: inf is no finite number of single precision; mend it"),
        ("1 2:1 qid:3", "is not libsvm, which reads: label index:value …"),
    ],
)
def test_a_wrong_line_is_named_with_what_is_wrong(write, line, words):
    path = write("rows.svm", f"# names\n\n1 1:1\n{line}\n0 2:1\n")
    with pytest.raises(UserError) as raised:
        open_data(Libsvm(train=path, validation=None), Everything(), seed=1)
    assert str(raised.value).startswith(f"{path}, line 4")
    assert words in str(raised.value)


def test_the_line_is_the_files_in_a_large_file_too(write, monkeypatch):
    monkeypatch.setattr("trainer.data.formats.blocks._LINES", 40)
    path = write("rows.svm", "# text\n" + "1 1:1 2:2\n" * 50 + "1 2:1 1:1\n")
    with pytest.raises(UserError, match="line 52: index 1 comes after 2"):
        open_data(Libsvm(train=path, validation=None), Everything(), seed=1)


def test_a_few_columns_far_apart_take_no_more_room_than_they_are(write):
    """Indices near 2^31 of which three are there: nothing is as wide as the largest."""
    text = "1 5:1 2000000000:2\n0 7:3\n1 2000000000:4\n0 5:5 7:6\n"
    found = open_data(Libsvm(train=write("rows.svm", text), validation=None), Everything(), seed=1)
    assert (found.schema.columns, found.schema.sparse_columns) == (3, (5, 7, 2000000000))
    (batch,) = found.train.sequential(batch_size=10)
    rows = [[1, 0, 2], [0, 3, 0], [0, 0, 4], [5, 6, 0]]
    assert to_dense(batch.x).tolist() == rows
    assert found.schema.sparse_mean == pytest.approx(np.mean(rows, 0))
    again = type(found.schema).from_dict(found.schema.to_dict())
    new = write("new.svm", "0 6:9 7:8 1999999999:1\n1 2000000000:7\n")
    (batch,) = encode(Libsvm(test=new), again, Everything()).sequential(batch_size=10)
    assert to_dense(batch.x).tolist() == [[0, 8, 0], [0, 0, 7]]


def test_a_validation_file_has_the_training_files_columns(write):
    train = write("rows.svm", "1 5:1 2000000000:2\n0 7:3\n1 5:4\n")
    held = write("held.svm", "1 7:1 8:2\n0 2000000000:3\n")
    found = open_data(Libsvm(train=train, validation=held), Everything(), seed=1)
    (batch,) = found.validation.sequential(batch_size=10)
    assert to_dense(batch.x).tolist() == [[0, 1, 0], [0, 0, 3]]


def test_what_32_bits_do_to_values_and_labels_is_told(write):
    text = "".join(f"{i} 3:{1_700_000_000 + i} 4:{i / 8}\n" for i in range(100))
    (note,) = open_data(Libsvm(train=write("rows.svm", text), validation=None), Everything(), seed=1).notes
    assert "column 3: of 100 different values 32 bits tell 2 apart" in note
    labels = "".join(f"{2**60 + 1024 * (i % 3)} 1:{i}\n" for i in range(100))
    with pytest.raises(UserError, match=r"labels beyond 2\^53 are not told apart in this format"):
        open_data(Libsvm(train=write("ids.svm", labels), validation=None), Everything(), seed=1)
