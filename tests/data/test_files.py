"""Which files a path names, each once, and what the names of files and folders say."""

import bz2
import gzip

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.data.conftest import Bytes, Everything
from trainer.data.encoding.rows import encode
from trainer.data.files import paths
from trainer.data.opening import open_data
from trainer.data.sources import Csv, Jsonl, Parquet, Text
from trainer.errors import UserError


def opened(source):
    source.check()
    return open_data(source, Everything(), seed=1)


def values(found) -> list[float]:
    (batch,) = found.train.sequential(batch_size=100)
    return sorted(batch.x[:, 0].tolist())


def test_a_folder_is_all_that_is_in_it(write, tmp_path):
    write("set/top.csv", "a,y\n1,0\n")
    write("set/more/one.csv", "a,y\n2,1\n")
    write("set/more/deep/two.csv", "a,y\n3,1\n")
    write("set/_SUCCESS", "")
    write("set/.hidden/x.csv", "a,y\n9,1\n")
    assert values(opened(Csv(train=str(tmp_path / "set"), label="y", validation=None))) == [1, 2, 3]


def test_a_file_counts_once_however_it_is_named(write, tmp_path):
    path = write("set/a.csv", "a,y\n1,0\n")
    other = write("set/b.csv", "a,y\n2,1\n")
    (tmp_path / "set" / "c.csv").symlink_to(path)
    (tmp_path / "set" / "again").symlink_to(tmp_path / "set")
    given = [str(tmp_path / "set"), str(tmp_path / "set" / "*.csv"), other]
    assert values(opened(Csv(train=given, label="y", validation=None))) == [1, 2]


def test_parts_and_dates_in_names_are_no_formats(write, tmp_path):
    write("set/train.00", "a,y\n1,0\n")
    write("set/train.01", "a,y\n2,1\n")
    write("set/x.csv.2024-01-01", "a,y\n3,1\n")
    assert values(opened(Csv(train=str(tmp_path / "set"), label="y", validation=None))) == [1, 2, 3]
    write("set/x.parquet", "a,y\n3,1\n")
    with pytest.raises(UserError, match=r"x.parquet: has another format than x.csv.2024-01-01"):
        Csv(train=str(tmp_path / "set"), label="y").check()


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lambda data: pa.compress(data, "zstd", asbytes=True)])
def test_packed_text_is_read(write, pack):
    if pack not in (gzip.compress, bz2.compress):
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(b"a,y\n1,0\n2,1\n")
        data = sink.getvalue().to_pybytes()
    else:
        data = pack(b"a,y\n1,0\n2,1\n")
    assert values(opened(Csv(train=write("rows.csv.pack", data), label="y", validation=None))) == [1, 2]
    damaged = Csv(train=write("cut.csv.pack", data[:-9]), label="y", validation=None)
    with pytest.raises(UserError, match=r"cut.csv.pack: is packed and damaged|holds no rows"):
        opened(damaged)


def test_packed_lines_and_text_are_read(write):
    lines = gzip.compress(b'{"a": 1, "y": 0}\n{"a": 2, "y": 1}\n')
    assert values(opened(Jsonl(train=write("rows.jsonl.gz", lines), label="y", validation=None))) == [1, 2]
    text = Text(train=write("text.txt.gz", gzip.compress(b"hello there, hello again")), validation=None)
    assert open_data(text, Bytes(), seed=1).train.rows == 2


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_named(write, encoding):
    path = write("rows.csv", "alpha,y\n1,0\n2,1\n".encode(encoding))
    with pytest.raises(
        UserError, match=r"rows.csv: is UTF-16; convert it, for example: iconv -f utf-16 -t utf-8 rows.csv"
    ):
        Csv(train=path, label="y").check()


def test_a_header_goes_on_over_its_line_breaks(write):
    path = write("rows.csv", '\n"first\nname",y\n1,0\n2,1\n')
    found = opened(Csv(train=path, label="y", validation=None))
    assert found.schema.features[0].name == "first\nname"
    assert values(found) == [1, 2]


def test_folders_names_are_columns(tmp_path):
    for year, colour in [(2023, "red"), (2024, "dark%20blue"), (2024, "__HIVE_DEFAULT_PARTITION__")]:
        folder = tmp_path / "set" / f"year={year}" / f"colour={colour}"
        folder.mkdir(parents=True)
        parquet.write_table(pa.table({"a": [1.0, 2.0], "y": [0, 1]}), folder / "part-0.parquet")
    found = opened(Parquet(train=str(tmp_path / "set"), label="y", validation=None))
    assert [(c.name, c.kind) for c in found.schema.features] == [
        ("a", "numeric"),
        ("year", "numeric"),
        ("colour", "categorical"),
    ]
    assert sorted(found.schema.features[2].categories) == ["dark blue", "red"]
    assert found.schema.features[2].missing == 2
    assert found.schema.features[1].max == 2024
    batches = encode(Parquet(test=str(tmp_path / "set")), found.schema, Everything()).sequential(batch_size=9)
    assert [year for batch in batches for year in batch.x[:, 1].tolist()] == [2023, 2023, 2024, 2024, 2024, 2024]


def test_folders_names_can_be_the_label_or_left_out(write, tmp_path):
    write("set/kind=cat/a.csv", "a\n1\n2\n")
    write("set/kind=dog/a.csv", "a\n3\n4\n")
    found = opened(Csv(train=str(tmp_path / "set" / "*" / "*.csv"), label="kind", validation=None))
    assert found.schema.label.classes == ("cat", "dog")
    write("plain/run=7/a.csv", "a,y\n1,0\n2,1\n")
    below = opened(Csv(train=str(tmp_path / "plain" / "run=7"), label="y", validation=None))
    assert [c.name for c in below.schema.features] == ["a"]


def test_columns_of_one_name_are_refused(tmp_path):
    parquet.write_table(pa.table([[1], [2], [0]], names=["a", "a", "y"]), tmp_path / "rows.parquet")
    with pytest.raises(UserError, match="two columns are called 'a'; rename one"):
        Parquet(train=str(tmp_path / "rows.parquet"), label="y").check()


def test_a_file_that_changed_and_kept_its_time_is_another(tmp_path):
    import os

    path = tmp_path / "rows.csv"
    path.write_text("a,y\n1,0\n2,1\n")
    before, times = paths.fingerprint(str(path)), path.stat()
    path.write_text("a,y\n1,1\n2,0\n")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_mtime_ns == times.st_mtime_ns
    assert paths.fingerprint(str(path)) != before


def test_rows_of_a_table_of_texts_do_not_run_into_one_another(write):
    path = write("rows.jsonl", '{"text": "one two"}\n{"text": "three four"}\n')
    tokens = open_data(Jsonl(train=path, validation=None), Bytes(), seed=1).train.sequences
    assert bytes(tokens[0].tolist()) == b"one two\nt"
