"""A trained model scored on rows whose label is known."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Any

from trainer.api.overrides import plain, settings, written
from trainer.api.result import Result
from trainer.api.tables import pair_of, table_of
from trainer.errors import UserError
from trainer.job.model.artifact import PREDICT_BATCH, PREDICT_TEXTS, Model, load

ENDINGS = {
    **{".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".npy": "npy"},
    **{".libsvm": "libsvm", ".svm": "libsvm", ".svmlight": "libsvm", ".txt": "text"},
}
PACKED = (".gz", ".bz2", ".zst")


def evaluate(model: Model | Result | str | Path, rows: Any = None, /, **keywords: Any) -> dict[str, float]:
    """The metrics of a model on labelled rows, by the names of the training's validation: {"loss": …, "accuracy": …}.

        evaluate(model, frame)                     with the label's column
        evaluate(model, (X, y))
        evaluate("runs/prices/model", "new.csv", **{"data.delimiter": ";"})
        evaluate(result, data="digits")

    model: a loaded model, its folder, or the result of its job. rows: a DataFrame, a 2-D array, a pyarrow Table, a dict of
    columns or a pair (X, y), as `train` takes them; or a path, of which keywords say how it is read, as in `train`: its ending
    tells the format unless `data` does. All rows are in memory at once. Raises UserError for rows that don't fit the model, and
    for a model that can't be scored, such as that of a loop of one's own.
    """
    from trainer.config.code.function import Function
    from trainer.data.encoding.labelled import labelled
    from trainer.job.model.scoring import scores, scores_of_module

    if isinstance(model, Result):
        if model.model is None:
            raise UserError(f"{model.dir}: the job left no model to evaluate")
        model = model.model
    model = model if isinstance(model, Model) else load(model)
    algorithm, schema = model.algorithm, model.schema
    name = algorithm.name if isinstance(algorithm, Function) else type(algorithm).__name__
    if isinstance(algorithm, Function) or not (schema.columns or schema.text):
        raise UserError(
            f"{name} reads its data by itself, so no rows can be scored here; predict, and compare with the labels"
        )
    samples = labelled(_rows(model, rows, settings((), keywords)), schema, algorithm, model.target)
    if model.network is not None:
        size = PREDICT_TEXTS if schema.text else PREDICT_BATCH
        return scores_of_module(algorithm, model.network, samples, size)
    found = scores(algorithm, samples, schema)
    if not found:
        raise UserError(f"{name} has no figures to be scored by: it learns without a label, and has no `evaluate`")
    return {metric: float(value) for metric, value in found.items()}


def _rows(model: Model, rows: Any, found: dict[str, Any]) -> Any:
    """A source, a table with the label's column, or a sparse pair."""
    for key in ("data", "data.test"):
        if rows is None and not isinstance(found.get(key), (str, os.PathLike, NoneType)):
            rows = found.pop(key)
    if rows is None or isinstance(rows, (str, os.PathLike)):
        return _source(model, rows, found)
    if found:
        raise UserError(f"{next(iter(found))}: it says how a file is read, and rows are given; leave it out")
    label = model.schema.label.name if model.schema.label else None
    if not isinstance(rows, tuple):
        return table_of(rows, "the rows")
    if len(rows) != 2:
        raise UserError(f"the rows: {len(rows)} things are no pair (X, y)")
    if hasattr(rows[0], "tocsr") and model.schema.sparse:
        if rows[0].shape[0] != len(rows[1]):
            raise UserError(
                f"the rows: X has {rows[0].shape[0]:,} rows and y {len(rows[1]):,}; give a label for each row"
            )
        return rows
    return pair_of(*rows, "the rows", label)[0]


def _source(model: Model, path: str | os.PathLike[str] | None, found: dict[str, Any]) -> Any:
    from trainer.cli.predicting import source_of
    from trainer.config.compose import compose
    from trainer.config.unused import refuse_of_source
    from trainer.data.source import Source

    if path is not None and "data.test" in found:
        raise UserError("data.test: the rows are given already; leave it out")
    if path is not None:
        found["data.test"] = plain(path, "data.test")
    if "data" not in found and "data.test" not in found:
        raise UserError("the rows: give a DataFrame, an array, a pair (X, y), the path of a file, or data=NAME")
    if "data" not in found:
        found = {**_format(found["data.test"], model), **found}
    for key in found:
        if key.partition(".")[0] != "data":
            raise UserError(f"{key}: how a model is scored has no such setting; those of `data` say how rows are read")
        if key.partition("=")[0].removeprefix("data.") in {one.name for one in fields(Source)} - {"test"}:
            raise UserError(f"{key}: the model is scored as it has learned, on data.test; leave it out")
    node: Mapping[str, Any] = compose(["model.path=given", *written(found)], name="predict")["data"]
    refuse_of_source(node)
    return source_of(node)


def _format(path: Any, model: Model) -> dict[str, str]:
    """How a path's files are read, as the ending of the first one tells. Raises UserError."""
    from trainer.data.files.paths import resolve

    first = Path(resolve(plain(path, "data.test"))[0])
    ending = first.with_suffix("").suffix if first.suffix in PACKED else first.suffix
    if (name := "text" if model.schema.text else ENDINGS.get(ending.lower())) is None:
        raise UserError(f"{path}: its ending tells no format; say it: data='csv', parquet, jsonl, libsvm or npy")
    return {"data": name, **({"data.delimiter": "\t"} if ending == ".tsv" else {})}
