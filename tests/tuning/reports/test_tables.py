from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.tuning.written import big, written
from trainer.tuning.record import read
from trainer.tuning.reports.tables import trials_table, write_tables


def test_a_row_a_trial_in_parquet_and_csv(tmp_path: Path):
    record = read(written(tmp_path / "digits"))
    parquet, text = write_tables(record)
    table = pq.read_table(parquet)
    assert table["number"].to_pylist() == [0, 1, 2, 3, 4, 5]
    assert table["state"].to_pylist()[2:5] == ["stopped_early", "failed", "interrupted"]
    assert table["objective"].to_pylist()[3] is None
    assert table["algorithm.lr"].to_pylist()[:2] == [0.01, 0.1]
    assert table["interruptions"].to_pylist() == [0, 0, 0, 0, 2, 0]
    assert table["prior"].to_pylist()[4:] == [None, "the-first"]
    assert table["seconds"].to_pylist()[0] == 90.5
    rows = list(csv.DictReader(text.open(encoding="utf-8")))
    assert [row["job"] for row in rows][:2] == ["0000-0badcafe", "0001-0badcafe"]
    assert rows[3]["reason"] == "NaN: the loss is not finite"
    assert {path.name for path in tmp_path.joinpath("digits").glob(".*")} == set()


def test_each_parameter_has_a_column_of_its_own_type(tmp_path: Path):
    record = big(tmp_path, 30, objectives=2)
    schema = trials_table(record).schema
    kinds = {"algorithm.lr": pa.float64(), "algorithm.layers": pa.int64(), "algorithm.optimizer": pa.string()}
    assert {key: schema.field(key).type for key in kinds} == kinds
    assert schema.field("objective.size").type == pa.float64()
    assert schema.field("started").type == pa.timestamp("ms", tz="UTC")


def test_choices_of_several_kinds_are_text(tmp_path: Path):
    record = big(tmp_path, 4)
    odd = [[64, 32], None, True, "relu"]
    trials = [replace(t, values={"algorithm.x": v}) for t, v in zip(record.trials, odd, strict=True)]
    column = trials_table(replace(record, trials=trials, space=[]))["algorithm.x"]
    assert column.to_pylist() == ["[64, 32]", None, "true", "relu"]


def test_a_study_without_trials_gives_empty_tables(tmp_path: Path):
    record = big(tmp_path, 0)
    parquet, text = write_tables(record)
    assert pq.read_table(parquet).num_rows == 0
    assert text.read_text().startswith('"number","state"')
