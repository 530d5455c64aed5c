"""Groups of rows: whichever way a file names them, none is cut, by the split or between workers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.data.conftest import Everything
from trainer.data.encoding.opened import Opened
from trainer.data.opening import open_data
from trainer.data.source import Source
from trainer.data.sources import Csv, Jsonl, Libsvm, Npy, Parquet
from trainer.data.tables import order, streaming
from trainer.data.tables.order import BLOCK
from trainer.data.tables.part import GroupPart
from trainer.errors import UserError

Write = Callable[[str, str], str]


class Ranker(Everything):
    roles = frozenset({"group"})


def opened(source: Source, seed: int = 1) -> Opened:
    return open_data(source, Ranker(), seed=seed)


def held(samples: Any, rank: int = 0, world: int = 1, rows: int = 65536) -> list[list[tuple[int, int]]]:
    """The groups of a worker's chunks: of each row (its group's number, its first cell)."""
    found: dict[int, list[tuple[int, int]]] = {}
    for x, _, groups in samples.grouped_chunks(rank=rank, world=world, rows=rows):
        first = x.toarray()[:, 0] if hasattr(x, "toarray") else x[:, 0]
        assert (np.diff(groups) >= 0).all()
        assert not set(groups.tolist()) & found.keys()  # a group comes in one chunk
        for number, value in zip(groups.tolist(), first.tolist(), strict=True):
            found.setdefault(number, []).append((number, int(value)))
    return list(found.values())


def mixed(write: Write, groups: int = 30, rows: int = 200) -> tuple[str, np.ndarray]:
    """A table whose rows of one group aren't adjacent. Its first feature is the row's number."""
    of = np.random.default_rng(0).integers(0, groups, rows)
    lines = [f"{group + 5},{row},{row % 3}" for row, group in enumerate(of)]
    return write("mixed.csv", "\n".join(["query,row,grade", *lines])), of


def test_rows_of_a_group_are_brought_together_in_the_order_of_the_file(write: Write) -> None:
    path, of = mixed(write)
    found = held(opened(Csv(train=path, validation=None, label="grade", group="query")).train)
    firsts = list(dict.fromkeys(of.tolist()))
    assert [[row for _, row in group] for group in found] == [np.flatnonzero(of == one).tolist() for one in firsts]


@pytest.mark.parametrize("world", [1, 2, 3, 7, 30])
def test_no_worker_has_a_part_of_a_group_and_none_is_without(write: Write, world: int) -> None:
    path, of = mixed(write)
    train = opened(Csv(train=path, validation=None, label="grade", group="query")).train
    shares = [held(train, rank, world, rows=20) for rank in range(world)]
    assert [group for share in shares for group in share] == held(train)
    assert all(shares)
    sizes = [sum(len(group) for group in share) for share in shares]
    if world < 5:
        assert max(sizes) - min(sizes) <= 2 * np.bincount(of).max()
    assert sum(len(y) for rank in range(world) for _, y in train.chunks(rank=rank, world=world)) == 200


def test_the_split_is_of_whole_groups_and_depends_on_the_seed_alone(write: Write) -> None:
    path, of = mixed(write)
    source = Csv(train=path, validation=0.2, label="grade", group="query")
    one, again, other = opened(source), opened(source), opened(source, seed=2)
    assert (one.train.groups, one.validation.groups) == (24, 6)
    rows = lambda opened: {row for group in held(opened.validation) for _, row in group}  # noqa: E731
    assert rows(one) == rows(again) != rows(other)
    assert {row for group in held(one.train) for _, row in group} == set(range(200)) - rows(one)
    assert not {of[row] for row in rows(one)} & {of[row] for group in held(one.train) for _, row in group}
    assert one.schema.rows == one.train.rows == 200 - one.validation.rows
    assert one.label == "grade, ranked within 24 groups by query, 6 to validate"


@pytest.mark.parametrize("groups", [2, 3, 10, 1000])
@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_neither_side_of_a_split_is_without_a_group(groups: int, fraction: float) -> None:
    of = np.repeat(np.arange(groups), 9)
    sides = [GroupPart(of, 3, fraction, held_out=side) for side in (False, True)]
    local = [np.concatenate([block * BLOCK + part.local(block) for block in range(part.blocks)]) for part in sides]
    assert sorted(np.concatenate(local)) == list(range(len(of)))
    assert [len(rows) for rows in local] == [part.rows for part in sides]
    counts = [len(part.by_group()[1]) - 1 for part in sides]
    assert min(counts) >= 1
    assert counts[1] == min(max(1, round(groups * fraction)), groups - 1)


def test_the_group_is_no_feature_and_is_named_or_placed(write: Write, tmp_path: Path) -> None:
    path, _ = mixed(write)
    for group in ("query", 0):
        found = opened(Csv(train=path, label="grade", group=group))
        assert [column.name for column in found.schema.features] == ["row"]
        assert found.left_out == ()
        assert found.schema.names == ("query", "row", "grade")
    np.save(tmp_path / "rows.npy", np.array([[0, 1, 5], [1, 2, 5], [0, 3, 6], [1, 4, 6]]))
    found = opened(Npy(train=str(tmp_path / "rows.npy"), validation=None, label=0, group=-1))
    assert (found.train.groups, found.train.columns) == (2, 1)


IDS: dict[str, list[Any]] = {
    "words": ["b", "a", "b", " a"],
    "beyond 2^53": [2**60 + 1, 2**60, 2**60 + 1, 2**60],
    "one with a cell that was missing once": [7.0, 3.0, 7.0, 3.0],
}


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_ids_are_compared_by_value(kind: str, form: str, write: Write, tmp_path: Path) -> None:
    import json

    ids = IDS[kind]
    if form == "csv":
        path = write("x.csv", "q,a,y\n" + "".join(f"{one},{i},{i}\n" for i, one in enumerate(ids)))
    elif form == "jsonl":
        path = write("x.jsonl", "".join(json.dumps({"q": one, "a": i, "y": i}) + "\n" for i, one in enumerate(ids)))
    else:
        path = str(tmp_path / "x.parquet")
        parquet.write_table(pa.table({"q": ids, "a": range(4), "y": range(4)}), path)
    source = {"csv": Csv, "parquet": Parquet, "jsonl": Jsonl}[form](train=path, validation=None, label="y", group="q")
    assert held(opened(source).train) == [[(0, 0), (0, 2)], [(1, 1), (1, 3)]]


def test_a_decimal_is_its_digits_and_a_float_in_another_file_its_whole_number(tmp_path: Path) -> None:
    from decimal import Decimal

    ids = [Decimal(2**60 + 1), Decimal(2**60), Decimal(2**60 + 1)]
    parquet.write_table(pa.table({"q": ids, "a": range(3), "y": range(3)}), tmp_path / "x.parquet")
    source = Parquet(train=str(tmp_path / "x.parquet"), validation=None, label="y", group="q")
    assert held(opened(source).train) == [[(0, 0), (0, 2)], [(1, 1)]]
    (tmp_path / "two").mkdir()
    for name, ids in (("a", [1, 2]), ("b", [2.0, 1.0])):
        parquet.write_table(pa.table({"q": ids, "a": [0, 1], "y": [0, 1]}), tmp_path / "two" / f"{name}.parquet")
    assert opened(Parquet(train=str(tmp_path / "two"), validation=None, label="y", group="q")).train.groups == 2


SVM = "2 qid:9007199254740993 1:0\n0 qid:9007199254740992 1:1\n1 qid:9007199254740993 1:2 # a document\n\n0 qid:9007199254740992 1:3\n"


def test_qid_names_the_groups_of_libsvm(write: Write) -> None:
    train = opened(Libsvm(train=write("x.svm", SVM), validation=None)).train
    assert held(train) == [[(0, 0), (0, 2)], [(1, 1), (1, 3)]]


def test_qid_is_told_and_not_needed_where_nothing_is_ranked(write: Write) -> None:
    source = Libsvm(train=write("x.svm", SVM * 3), validation=None)
    found = open_data(source, Everything(), seed=1)
    assert found.train.groups == 0
    assert found.train.rows == 12
    assert [note for note in found.notes if "qid is not used" in note]
    some = Libsvm(train=write("y.svm", SVM + "1 1:3\n0 1:2\n"), validation=None)
    assert open_data(some, Everything(), seed=1).train.rows == 6


@pytest.mark.parametrize("sparse", [False, True])
def test_a_set_larger_than_a_window_has_the_groups_that_it_has_in_memory(
    sparse: bool, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = np.random.default_rng(0).integers(0, 300, 3 * BLOCK)
    if sparse:
        lines = "".join(f"{i % 2} qid:{q} 1:{i + 1} 2:1\n" for i, q in enumerate(of))
        source: Source = Libsvm(train=write("x.svm", lines), validation=0.1)
    else:
        lines = "".join(f"{i},{q},{i % 2}\n" for i, q in enumerate(of))
        source = Csv(train=write("x.csv", "row,q,y\n" + lines), validation=0.1, label="y", group="q")
    memory = opened(source)
    monkeypatch.setattr(order, "WINDOW", 2 * BLOCK * 12)
    monkeypatch.setattr(streaming, "PIECE", 1000 * 12)
    streamed = opened(source)
    for one, other in ((memory.train, streamed.train), (memory.validation, streamed.validation)):
        assert held(one, rows=500) == held(other)
        for a, b in zip(one.chunks(rank=1, world=2), other.chunks(rank=1, world=2), strict=True):
            np.testing.assert_array_equal(a[1], b[1])


def test_a_validation_file_has_groups_of_its_own(write: Write) -> None:
    path, _ = mixed(write)
    other = write("other.csv", "grade,query,row\n1,x,1\n0,x,2\n1,y,3\n0,y,4\n")
    found = opened(Csv(train=path, validation=other, label="grade", group=0))
    assert (found.train.groups, found.validation.groups) == (30, 2)


TABLES = {
    "unknown column": ("q,a,y\n1,1,1\n", {"group": "qid"}, r"no column 'qid' \(data.group\)"),
    "the label": ("q,a,y\n1,1,1\n2,1,0\n", {"group": "y"}, "data.group and data.label both are 'y'"),
    "dropped": ("q,a,y\n1,1,1\n2,1,0\n", {"drop": ["q"]}, "data.drop holds the group 'q'"),
    "learned from": ("q,a,y\n1,1,1\n2,1,0\n", {"columns": ["a", "q"]}, "data.columns holds the group 'q'"),
    "nothing else": ("q,y\n1,1\n1,0\n", {}, "besides the label 'y' and the group 'q'"),
    "a cell is missing": ("q,a,y\n1,1,1\n1,2,0\n,3,0\n", {}, "x.csv, row 4, column 'q': the group is missing"),
    "all cells are missing": ("q,a,y\n,1,1\n,2,0\n", {}, "x.csv, row 2, column 'q': the group is missing"),
    "each row is one": ("q,a,y\n1,1,1\n2,2,0\n3,2,0\n", {}, "each of the 3 rows is a group of its own by 'q'"),
    "one group": ("q,a,y\n1,1,1\n1,2,0\n1,2,0\n", {}, "split off by whole groups, and all rows are of one"),
}


@pytest.mark.parametrize("case", TABLES)
def test_groups_that_cannot_be_ranked_within_are_told_in_a_line(case: str, write: Write) -> None:
    lines, settings, says = TABLES[case]
    with pytest.raises(UserError, match=says) as refusal:
        opened(Csv(**{"train": write("x.csv", lines), "label": "y", "group": "q", **settings}))
    assert "\n" not in str(refusal.value)


def test_a_validation_file_without_the_group_is_told(write: Write) -> None:
    path, _ = mixed(write)
    other = write("other.csv", "grade,row\n1,1\n0,2\n")
    with pytest.raises(UserError, match=r"other.csv has no column 'query', which the training data has"):
        opened(Csv(train=path, validation=other, label="grade", group="query"))
    with pytest.raises(UserError, match=r"other.csv has no column 'query' \(data.group\)"):
        Csv(train=path, validation=other, label="grade", group="query").check()


@pytest.mark.parametrize(("lines", "row"), [("1 qid:1 1:1\n0 qid:1 1:2\n0 1:3\n", 3), ("1 1:1\n0 1:2\n", 1)])
def test_a_line_without_qid_is_told(lines: str, row: int, write: Write) -> None:
    with pytest.raises(UserError, match=rf"x.svm, row {row}, the line has no qid"):
        opened(Libsvm(train=write("x.svm", lines), validation=None))


def test_groups_are_asked_for_where_they_are_needed_and_refused_where_not(write: Write) -> None:
    path, _ = mixed(write)
    with pytest.raises(UserError, match=r"^Ranker ranks rows within groups: set data\.group"):
        opened(Csv(train=path, label="grade"))
    with pytest.raises(UserError, match=r"^Everything as it is set doesn't use data\.group; algorithm=xgboost"):
        open_data(Csv(train=path, label="grade", group="query"), Everything(), seed=1)
    ungrouped = open_data(Csv(train=path, label="grade"), Everything(), seed=1)
    with pytest.raises(TypeError, match="have no groups"):
        ungrouped.train.grouped_chunks()
