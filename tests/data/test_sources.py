import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from trainer.data.sources import BreastCancer, Csv, Digits, Jsonl, Libsvm, Npy, Parquet, Text
from trainer.errors import UserError

ROWS = "a,b,y\n1,2,0\n3,4,1\n"


def refused(source, role="train"):
    with pytest.raises(UserError) as caught:
        source.check(role)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_good_file_passes(write):
    path = write("rows.csv", ROWS)
    Csv(train=path, label="y").check()
    Csv(train=path, label=2, validation=path, columns=["a", 1]).check()


def test_a_missing_file_names_the_nearest_one(write):
    path = write("rows.csv", ROWS)
    assert "did you mean 'rows.csv'?" in refused(Csv(train=path.replace("rows", "row"), label="y"))


def test_no_path_at_all_says_which_key_to_set():
    assert "data.train is not set" in refused(Csv(label="y"))


def test_an_empty_file_and_an_empty_folder_are_refused(write, tmp_path):
    assert "the file is empty" in refused(Csv(train=write("rows.csv", ""), label="y"))
    (tmp_path / "none").mkdir()
    assert "holds no files" in refused(Csv(train=str(tmp_path / "none"), label="y"))


def test_files_of_mixed_formats_in_a_folder_are_refused(write, tmp_path):
    write("set/a.csv", ROWS)
    write("set/b.jsonl", "{}")
    assert "another format than a.csv" in refused(Csv(train=str(tmp_path / "set"), label="y"))
    Csv(train=str(tmp_path / "set" / "*.csv"), label="y").check()


def test_a_glob_without_a_match_is_refused(tmp_path):
    assert "no file matches" in refused(Csv(train=str(tmp_path / "*.csv"), label="y"))


def test_a_missing_label_column_names_the_nearest_one(write):
    path = write("rows.csv", "price,rooms\n1,2\n")
    assert "no column 'prize' (data.label): did you mean 'price'?" in refused(Csv(train=path, label="prize"))
    assert "no column 5 (data.label): it has 2" in refused(Csv(train=path, label=5))


def test_a_missing_feature_column_is_named_with_its_key(write):
    path = write("rows.csv", ROWS)
    assert "no column 'c' (data.columns)" in refused(Csv(train=path, label="y", columns=["c"]))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_refused(write):
    path = write("rows.csv", ROWS)
    os.chmod(path, 0)
    assert "no permission to read" in refused(Csv(train=path, label="y"))


def test_text_that_is_not_utf8_names_file_and_byte(write):
    path = write("text.txt", "gr\u00fcn".encode("latin1"))
    assert f"{path}, byte 2: 0xfc is not UTF-8" in refused(Text(train=path))


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("old.csv", "a,y\r1,0\r2,1\r", "old.csv: its lines end with carriage returns alone; convert them: tr"),
        ("zero.csv", "a,y\n1\0,0\n2,1\n", "zero.csv, byte 5: is zero, which text does not hold"),
        ("bare.csv", "0.5,1.0\n0.25,0.0\n", "set data.header=false if the first line is a row"),
        ("tabs.csv", "a\ty\n1\t0\n", "set \"data.delimiter='\\t'\" if it stands between cells"),
        ("marks.csv", "a;y\n1;0\n", "set \"data.delimiter=';'\" if it stands between cells"),
    ],
)
def test_a_table_that_is_written_otherwise_says_what_to_do(write, name, text, says):
    with pytest.raises(UserError) as refusal:
        Csv(train=write(name, text), label="y").check()
    assert says in str(refusal.value)


def test_a_tab_may_be_written_as_its_escape(write):
    source = Csv(train=write("tabs.csv", "a\ty\n1\t0\n"), label="y", delimiter="\\t")
    source.check()
    assert source.names(source.files()[0]) == ["a", "y"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[{"a": 1, "y": 0},\n {"a": 2, "y": 1}]\n', r"is a JSON array, .*jq -c '\.\[\]' FILE > NEW.jsonl"),
        ('{\n  "a": 1,\n  "y": 0\n}\n', r"an object goes over several lines, .*jq -c \. FILE > NEW.jsonl"),
    ],
)
def test_json_that_is_not_in_lines_says_how_to_convert_it(write, text, says):
    with pytest.raises(UserError, match=says):
        Jsonl(train=write("rows.jsonl", text), label="y").check()


def test_a_file_of_another_format_says_which_source_to_choose(write, tmp_path):
    parquet.write_table(pa.table({"y": [1]}), tmp_path / "rows.parquet")
    assert "choose data=parquet" in refused(Csv(train=str(tmp_path / "rows.parquet"), label="y"))
    assert "is not a parquet file" in refused(Parquet(train=write("rows.csv", ROWS), label="y"))
    assert "is not a npy file" in refused(Npy(train=write("rows.csv", ROWS)))


def test_a_damaged_parquet_file_is_refused(write):
    assert "can't be read as parquet" in refused(
        Parquet(train=write("rows.parquet", b"PAR1 and then nothing"), label=0)
    )


def test_a_validation_fraction_out_of_range_is_refused(write):
    assert "is not a fraction" in refused(Csv(train=write("rows.csv", ROWS), label="y", validation=1.5))


def test_remote_paths_say_that_they_are_not_supported_yet():
    assert "s3:// paths aren't supported yet" in refused(Csv(train="s3://bucket/rows.csv", label="y"))


def test_the_rows_to_predict_are_checked_without_a_label(write):
    Csv(test=write("new.csv", "a,b\n1,2\n"), label="y").check("test")
    assert "data.test is not set" in refused(Csv(), "test")


def test_bundled_sets_take_no_paths(write):
    Digits().check()
    BreastCancer().check()
    assert "takes no paths" in refused(Digits(train=write("rows.csv", ROWS)))
    assert "did you mean 'pixel_0_1'" in refused(Digits(columns=["pixel_0_11"]))


def test_every_format_reads_the_same_rows(write, tmp_path):
    table = pa.table({"a": [1.0, 3.0], "b": [2.0, 4.0], "y": [0, 1]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    np.save(tmp_path / "rows.npy", np.array([[1.0, 2, 0], [3, 4, 1]]))
    sources = [
        Csv(train=write("rows.csv", ROWS)),
        Parquet(train=str(tmp_path / "rows.parquet")),
        Jsonl(train=write("rows.jsonl", '{"a": 1, "b": 2, "y": 0}\n\n{"a": 3, "b": 4, "y": 1}\n')),
        Npy(train=str(tmp_path / "rows.npy")),
    ]
    for source in sources:
        source.check()
        (piece,) = source.batches(source.files("train"))
        rows = [[float(v) for v in row.values()] for row in piece.batch.to_pylist()]
        assert rows == [[1, 2, 0], [3, 4, 1]], source.name


def test_text_is_cut_between_characters(write):
    text = "é" * 800_000
    path = write("text.txt", text)
    pieces = [p.batch.column("text")[0].as_py() for p in Text(train=path).batches([path])]
    assert len(pieces) > 1
    assert "".join(pieces) == text


def test_text_that_breaks_late_names_the_byte(write):
    path = write("text.txt", "é".encode() * 600_000 + b"\xff")
    with pytest.raises(UserError, match="byte 1200000: 0xff is not UTF-8"):
        list(Text(train=path).batches([path]))


def test_libsvm_that_is_none_names_the_line(write):
    path = write("rows.svm", "1 1:2 3:4\n# comment\n0 2:x\n")
    with pytest.raises(UserError, match="line 3: '0 2:x' is not libsvm"):
        list(Libsvm(train=path).batches([path]))


def test_sources_import_nothing_heavy():
    heavy = ("torch", "pyarrow", "datasets", "numpy")
    code = f"import sys, trainer.data.sources; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
