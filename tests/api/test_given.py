"""Rows from Python are kept with the job that learns from them: the same call goes on, other rows are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import trainer
from trainer.api.given import taken
from trainer.api.overrides import settings

X = np.arange(120.0).reshape(60, 2)
FRAME = pd.DataFrame({"a": X[:, 0], "b": X[:, 1] % 7, "price": X[:, 0] + 1})


@pytest.mark.parametrize(
    ("given", "keywords"),
    [
        ({"data": FRAME, "data.label": "price"}, {}),
        ({"data.train": FRAME}, {"data.label": "price"}),
        (["data=parquet", "data.label=price"], {"data": {"train": FRAME}}),
        ((), {"data": {"train": FRAME, "label": "price"}}),
        ((), {"data": (FRAME[["a", "b"]], FRAME["price"])}),
    ],
)
def test_rows_are_told_from_settings(given: Any, keywords: Any) -> None:
    found = settings(given, keywords)
    told = taken(found)
    assert told is not None
    assert told.tables["train"].column_names == ["a", "b", "price"]
    assert found["data"] == "parquet"
    assert "data.label=price" in found or found["data.label"] == "price"
    assert told.paths(Path("/job")) == {"train": "/job/data/train.parquet"}


@pytest.mark.parametrize("value", ["digits", None, ["a.csv", "b.csv"], Path("a.csv")])
def test_paths_and_choices_are_none(value: Any) -> None:
    assert taken(settings((), {"data": value})) is None
    assert taken(settings((), {"data.validation": np.float32(0.2), "data.train": value})) is None


def test_a_second_set_has_the_first_ones_label() -> None:
    found = settings((), {"data": {"train": (X, X[:, 0]), "validation": (X, pd.Series(X[:, 0], name="other"))}})
    told = taken(found)
    assert told is not None
    assert told.tables["validation"].column_names == ["0", "1", "label"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data": 3}, "data.train: a value of type int holds no rows"),
        ({"data": (X, X[:, 0], 1)}, "data.train: 3 things are no pair"),
        ({"data": (X, X[:, 0]), "data.label": 1}, "data.label: of a pair (X, y) y is the label; leave it out"),
        ({"data": "csv", "data.train": FRAME}, "data=csv reads files, and rows are given; leave data=csv out"),
        ({"data": FRAME, "data.train": FRAME}, "data: it is given, and data.train too"),
        ({"data": FRAME, "data.label": "price", "job.dir": "s3://bucket/job"}, "s3://bucket/job can't keep rows"),
        ({"data": FRAME, "data.label": "prise"}, "has no column 'prise' (data.label): did you mean 'price'?"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(folder: Path, given: Any, message: str) -> None:
    with pytest.raises(trainer.UserError) as error:
        trainer.train(given, algorithm="linear")
    assert message in str(error.value)
    assert [*folder.iterdir()] == []


def test_the_same_rows_are_the_same_job_and_others_are_refused(folder: Path) -> None:
    job = {"algorithm": "linear", "train.epochs": 1, "job.name": "prices"}
    first = trainer.train(job, data=(X, FRAME["price"]))
    written = Path(first.dir) / "data" / "train.parquet"
    inode = written.stat().st_ino
    assert trainer.train(job, data=(pd.DataFrame(X.copy()), FRAME["price"])).seconds == first.seconds
    assert written.stat().st_ino == inode
    for changed in ("refuse", "accept"):  # it is completed: nothing would learn from them
        with pytest.raises(
            trainer.UserError, match="the rows are others than when prices began; give those, or choose"
        ):
            trainer.train(job, data=(X + 1, FRAME["price"]), **{"data.changed": changed})
    model = trainer.load(str(first.model))
    assert np.array_equal(model.predict(X)["prediction"], model.predict(pd.DataFrame(X))["prediction"])


def test_an_unfinished_job_takes_other_rows_only_if_it_is_told_to(folder: Path) -> None:
    config = {"job": {"private": False}, "data": {"changed": "refuse", "train": str(folder / "data/train.parquet")}}
    (folder / "config.yaml").write_text(f"data: {{train: {config['data']['train']}}}\n")
    first, other = (taken({"data": frame}) for frame in (FRAME, FRAME + 1))
    assert first is not None
    assert other is not None
    with first.kept(folder, config, "config.yaml"):
        pass
    with (
        pytest.raises(trainer.UserError, match=r"insist with data\.changed=accept"),
        other.kept(folder, config, "config.yaml"),
    ):
        pass
    config["data"]["changed"] = "accept"
    with other.kept(folder, config, "config.yaml"):
        assert pd.read_parquet(folder / "data/train.parquet").equals(FRAME + 1)
