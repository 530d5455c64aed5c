import errno
import os
import shutil
import subprocess
import sys

import pyarrow as pa
import pytest
from pyarrow import parquet

from trainer.data.encoding import ingest as module
from trainer.data.encoding.ingest import ingest
from trainer.data.files import cache
from trainer.data.formats import delimited
from trainer.data.sources import Csv, Jsonl, Parquet
from trainer.data.tables.order import BLOCK
from trainer.errors import HeadwayError, UserError


def table(source):
    return ingest(source, source.files("train"))


def refused(source):
    with pytest.raises(UserError) as caught:
        table(source)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_rows_are_written_in_whole_blocks(write):
    rows = 2 * BLOCK + 10
    path = write("rows.csv", "a,y\n" + "".join(f"{i},{i % 2}\n" for i in range(rows)))
    found = table(Csv(train=path, label="y"))
    assert (found.rows, found.blocks) == (rows, 3)
    assert [len(found.block(i).x) for i in range(3)] == [BLOCK, BLOCK, 10]
    assert found.block(1).x[0, 0] == BLOCK
    assert found.block(2).y[-1] == (rows - 1) % 2


def test_categories_are_numbered_by_first_appearance_without_their_spaces(write):
    path = write("rows.csv", "c,y\nred,0\n blue ,1\nred,0\n,1\n")
    found = table(Csv(train=path, label="y"))
    assert found.features[0].categories == {"red": 0, "blue": 1}
    assert found.block(0).x[:3, 0].tolist() == [0, 1, 0]
    assert found.block(0).x[3, 0] != found.block(0).x[3, 0]
    assert found.features[0].missing == (path, 3)


def test_numbers_named_as_categorical_become_categories(write):
    path = write("rows.csv", "zip,y\n7,0\n9,1\n7,1\n")
    found = table(Csv(train=path, label="y", categorical=["zip"]))
    assert found.features[0].categories == {"7": 0, "9": 1}


def test_a_column_with_many_different_words_is_text(write):
    path = write("rows.csv", "title,y\n" + "".join(f"word{i},{i % 2}\n" for i in range(1500)))
    assert "column 'title' is text (more than 1,000 different values" in refused(Csv(train=path, label="y"))
    assert len(table(Csv(train=path, label="y", categorical=["title"])).features[0].categories) == 1500


def test_booleans_and_times_of_parquet_are_categories(tmp_path):
    path = str(tmp_path / "rows.parquet")
    rows = {"b": [True, False], "d": pa.array(["x", "y"]).dictionary_encode(), "y": [1, 2]}
    parquet.write_table(pa.table(rows), path)
    found = table(Parquet(train=path, label="y"))
    assert [f.categories for f in found.features] == [{"True": 0, "False": 1}, {"x": 0, "y": 1}]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["<=50K", ">50K", "<=50K"], ("<=50K", ">50K")),
        ([10, 2, 10], (2, 10)),
        (["1.0", "0.0", "1.0"], (0, 1)),
        (["1.5", "0.5", "2"], ()),
    ],
)
def test_what_labels_can_be_classes(write, labels, classes):
    path = write("rows.csv", "a,y\n" + "".join(f"1,{v}\n" for v in labels))
    assert table(Csv(train=path, label="y")).label.classes() == classes


def test_a_thousand_and_one_integers_are_no_classes(write):
    path = write("rows.csv", "a,y\n" + "".join(f"1,{i}\n" for i in range(1001)))
    assert table(Csv(train=path, label="y")).label.classes() == ()


def test_a_word_among_numbers_names_file_row_and_column(write):
    path = write("rows.csv", "a,b,y\n1,2,0\n3,4,0\n\n5,abc,1\n")
    message = refused(Csv(train=path, label="y"))
    # blank lines and the header count, as in an editor
    assert f"{path}, row 5, column 'b': 'abc' is not a number" in message
    assert "data.categorical=[b]" in message


def test_the_row_is_right_after_a_cell_over_two_lines(write):
    path = write("rows.csv", 'a,b,y\n"x\ny",2,0\nx,3,1\nx,z,1\n')
    assert "row 5, column 'b': 'z'" in refused(Csv(train=path, label="y"))


def test_a_word_far_down_is_found(write, monkeypatch):
    monkeypatch.setattr(delimited, "_BLOCK", 1000)
    path = write("rows.csv", "a,y\n" + "1,0\n" * 5000 + "oops,1\n")
    assert "row 5002, column 'a': 'oops'" in refused(Csv(train=path, label="y"))


def test_an_infinite_cell_is_refused(write):
    assert "row 3, column 'a': 'inf' is not a finite number" in refused(
        Csv(train=write("rows.csv", "a,y\n1,0\ninf,1\n"), label="y")
    )


def test_a_row_with_too_many_cells_is_named(write):
    path = write("rows.csv", "a,b,y\n1,2,0\n1,2,3,0\n")
    assert f"{path}, row 3: 4 cells where the first row has 3" in refused(Csv(train=path, label="y"))


def test_a_missing_label_is_named(write):
    path = write("rows.csv", "a,y\n1,0\n2,\n")
    assert f"{path}, row 3, column 'y': the label is missing" in refused(Csv(train=path, label="y"))
    path = write("words.csv", "a,y\n1,yes\n2,no\n2,\n")
    assert f"{path}, row 4, column 'y': the label is missing" in refused(Csv(train=path, label="y"))


def test_bytes_that_are_not_utf8_are_named(write):
    path = write("rows.csv", b"a,y\n" + b"x,1\n" * 30_000 + b"\xff,1\n")
    assert f"{path}, byte 120004: 0xff is not UTF-8" in refused(Csv(train=path, label="y"))


def test_a_header_without_rows_is_refused(write):
    assert "no rows" in refused(Csv(train=write("rows.csv", "a,y\n"), label="y"))


def test_two_columns_of_one_name_are_refused(write):
    assert "two columns are called 'a'" in refused(Csv(train=write("rows.csv", "a,a,y\n1,2,3\n"), label="y"))


def test_files_with_different_columns_are_refused(write):
    write("set/1.csv", "alpha,y\n1,0\n")
    second = write("set/2.csv", "alpho,y\n1,0\n")
    message = refused(Csv(train=second.replace("2.csv", ""), label="y"))
    assert f"{second} has no column 'alpha', which 1.csv has: did you mean 'alpho'?" in message


def test_columns_in_another_order_in_the_next_file_are_told_by_name(write):
    write("set/1.csv", "a,b,y\n1,2,0\n")
    second = write("set/2.csv", "y,b,a\n1,4,3\n")
    found = table(Csv(train=second.replace("2.csv", ""), label="y"))
    assert found.block(0).x.tolist() == [[1, 2], [3, 4]]
    assert found.block(0).y.tolist() == [0, 1]


def test_json_lines_that_are_none_or_change_type_name_the_row(write):
    path = write("rows.jsonl", '{"a": 1, "y": 0}\n{"a": "x", "y": 1}\n')
    assert "row 2, column 'a': 'x' is not a number as in the rows above" in refused(Jsonl(train=path, label="y"))
    path = write("broken.jsonl", '{"a": 1, "y": 0}\n{"a": 1,\n')
    assert "row 2" in refused(Jsonl(train=path, label="y"))


def test_a_set_is_parsed_once_and_again_only_when_a_file_or_the_reading_of_it_changes(write, monkeypatch):
    path = write("rows.csv", "a,y\n1,0\n2,1\n")
    reads = []
    read = Csv.batches
    monkeypatch.setattr(Csv, "batches", lambda *a, **k: reads.append(1) or read(*a, **k))
    source = Csv(train=path, label="y")
    table(source)
    table(Csv(train=path, label="y", validation=0.3, missing="mean"))
    assert len(reads) == 1
    table(Csv(train=path, label="y", categorical=["a"]))
    assert len(reads) == 2
    write("rows.csv", "a,y\n1,0\n2,1\n3,1\n")
    assert table(source).rows == 3
    assert len(reads) == 3


@pytest.mark.parametrize("damage", ["cut", "garbled", "gone"])
def test_a_damaged_cache_is_made_again(write, cache_folder, damage):
    source = Csv(train=write("rows.csv", "a,y\n1,0\n2,1\n"), label="y")
    data = table(source).entry / "data.arrow"
    if damage == "cut":
        data.write_bytes(data.read_bytes()[:100])
    elif damage == "garbled":
        data.write_bytes(b"x" * data.stat().st_size)
    else:
        data.unlink()
    assert table(source).block(0).x.tolist() == [[1], [2]]
    assert [p.name for p in cache_folder.iterdir()] == [data.parent.name]


def test_nothing_is_left_of_a_parse_that_failed(write, cache_folder):
    refused(Csv(train=write("rows.csv", "a,y\n1,0\n2,\n"), label="y"))
    assert list(cache_folder.iterdir()) == []


def test_a_cache_that_can_not_be_written_names_folder_and_variable(write, monkeypatch):
    monkeypatch.setenv("HEADWAY_CACHE", "/proc/none")
    source = Csv(train=write("rows.csv", "a,y\n1,0\n2,1\n"), label="y")
    with pytest.raises(HeadwayError, match=r"/proc/none: can't keep the encoded data here.*HEADWAY_CACHE"):
        table(source)


def test_a_full_disk_names_folder_and_variable(cache_folder):
    def make(folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(HeadwayError, match=r"No space left on device; make room, or set HEADWAY_CACHE"):
        cache.kept("entry", make, lambda folder: folder)
    assert list(cache_folder.iterdir()) == []


def test_a_reader_goes_on_where_the_cache_is_cleared_under_its_hands(cache_folder):
    cleared = []

    def make(folder):
        (folder / "data").write_text("mine")
        if len(cleared) == 0:  # while it is made
            shutil.rmtree(cache_folder)
        cleared.append(folder)

    def read(folder):
        if len(cleared) == 2:  # and before it is read
            shutil.rmtree(cache_folder)
            cleared.append(folder)
        return (folder / "data").read_text()

    assert cache.kept("entry", make, read) == "mine"
    assert [p.name for p in cache_folder.iterdir()] == ["entry"]


def test_what_a_killed_job_left_half_made_is_deleted_and_what_a_living_one_makes_is_not(cache_folder):
    killed = (
        "from trainer.data.files import cache; import os; cache.kept('entry', lambda f: os.kill(os.getpid(), 9), str)"
    )
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == -9
    [half] = cache_folder.iterdir()

    def make(folder):
        assert not half.exists()
        if (folder.parent / "other").exists():
            return
        (folder.parent / "other").mkdir()
        cache.kept("entry", lambda f: None, lambda f: None)
        assert folder.exists()

    cache.kept("entry", make, lambda folder: None)
    assert {p.name for p in cache_folder.iterdir()} == {"entry", "other"}


def test_a_file_that_is_written_while_it_is_read_is_refused_and_not_kept(write, cache_folder, monkeypatch):
    path = write("rows.csv", "a,y\n1,0\n2,1\n")
    real = module._dense

    def slowly(*arguments):
        real(*arguments)
        write("rows.csv", "a,y\n1,0\n2,1\n3,1\n")

    monkeypatch.setattr(module, "_dense", slowly)
    with pytest.raises(UserError, match=r"rows.csv: the file changed while it was read"):
        table(Csv(train=path, label="y"))
    assert list(cache_folder.iterdir()) == []
    monkeypatch.undo()


def test_of_two_writers_the_later_one_uses_what_is_there(cache_folder):
    def make(folder):
        (folder / "data").write_text("mine")
        if not (cache_folder / "entry").exists():
            cache.kept("entry", lambda f: (f / "data").write_text("other"), lambda f: None)

    assert cache.kept("entry", make, lambda f: (f / "data").read_text()) == "other"
