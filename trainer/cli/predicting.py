"""`headway predict`: rows of a source through a trained model into a file, or a prompt continued."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import UserError, did_you_mean
from trainer.job.view.summary import make_console
from trainer.process.escape import visible

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

PREVIEW = 10
FORMATS = (".parquet", ".csv", ".jsonl")


def predict(config: dict[str, Any]) -> int:
    """Predicts as the config of conf/predict.yaml says. Returns the exit code."""
    from trainer.job.model import artifact

    if ("data" in config) == (config["prompt"] is not None):
        raise UserError("predict: give either data=NAME data.test=FILE or prompt=TEXT")
    _refuse_unused(config)
    output = Path(config["output"]) if config["output"] else None
    if output is not None and output.suffix not in FORMATS:
        raise UserError(f"output: {output} has none of the known endings; {did_you_mean(output.suffix, FORMATS)}")
    source = source_of(config["data"]) if "data" in config else None
    model = artifact.load(config["model"]["path"], trust_code=bool(config["model"]["trust_code"]))
    if source is None:
        text = config["prompt"] + _continue(model, config["prompt"], config["generate"])
        print(visible(text, lines=True) if sys.stdout.isatty() else text)
        return 0
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"note: {message}", file=sys.stderr)
        names = model.schema.label.classes if model.target == "class" and model.schema.label else ()
        flat = names if output is not None and output.suffix == ".csv" else None  # whose cells hold no lists
        tables: Iterator[pa.Table] = (_table(columns, flat) for columns in model.predict_batches(source))
        if config["predict"]["keep"]:
            tables = _beside(_kept(source, config["predict"]["keep"]), tables)
        if output is None:
            _preview(tables)
        else:
            rows = write(tables, output)
            print(f"{rows:,} predictions in {output}")
    return 0


def _refuse_unused(config: Mapping[str, Any]) -> None:
    """Raises UserError for what is set and would do nothing."""
    from trainer.config.unused import refuse_of_source

    if "data" not in config:
        for key, value in (("output", config["output"]), ("predict.keep", config["predict"]["keep"])):
            if value:
                raise UserError(f"{key} is for rows of data=NAME; a prompt's continuation is printed: leave it out")
        return
    if config["generate"]:
        raise UserError(f"generate.{next(iter(config['generate']))} is for prompt=TEXT; leave it out")
    if config["data"].get("train") is not None:
        raise UserError("data.train: rows to predict are those of data.test; set that, and leave data.train out")
    refuse_of_source(config["data"])


def _kept(source: Any, keep: Sequence[str | int]) -> Iterator[pa.Table]:
    """The columns of data.test that go with the predictions, as they are in the file."""
    import pyarrow as pa

    from trainer.data.files.naming import column
    from trainer.data.formats import partitions

    files = source.files("test")
    if source.sparse or source.name == "text" or not files:
        raise UserError(f"predict.keep: data={source.name} has no columns to keep")
    chosen = {path: [column(c, partitions.names(source, path), path, "predict.keep") for c in keep] for path in files}
    for path, names in chosen.items():
        for piece in partitions.batches(source, [path], names):
            yield pa.Table.from_batches([piece.batch]).rename_columns(chosen[files[0]])


def _beside(kept: Iterator[pa.Table], predicted: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Each row's kept columns before its predictions. Raises UserError where both have a column of one name."""
    import pyarrow as pa

    waiting = None
    for table in predicted:
        parts: list[pa.Table] = [] if waiting is None else [waiting]
        while sum(part.num_rows for part in parts) < table.num_rows:
            parts.append(next(kept))
        whole = pa.concat_tables(parts)
        now, waiting = whole.slice(0, table.num_rows), whole.slice(table.num_rows)
        for name in now.column_names:
            if name in table.column_names:
                raise UserError(f"predict.keep: {name!r} is a column of the predictions too; rename it in the file")
        yield pa.table([*now.columns, *table.columns], names=[*now.column_names, *table.column_names])


def source_of(node: Mapping[str, Any]) -> Any:
    """The source of a config's `data`, whose `test` is to be read. Raises UserError."""
    from trainer.config.code.signature import check
    from trainer.config.instantiate import build

    source = build(check(node, str(node["_target_"]), "data"), "data")
    source.check("test")
    return source


def _continue(model: Any, prompt: str, options: Mapping[str, Any]) -> str:
    try:
        return str(model.generate(prompt, **options))
    except TypeError as error:
        raise UserError(f"generate: {error}") from None


def _table(columns: Mapping[str, np.ndarray], flat: Sequence[str | int] | None) -> pa.Table:
    """Columns of predictions as a table. One that holds a vector a row becomes a column of lists, or, with `flat`, a column for
    each of its numbers: of the classes in `flat` by their names, else by position."""
    import pyarrow as pa

    arrays = {}
    for name, values in columns.items():
        if values.ndim == 1:
            arrays[name] = pa.array(values)
            continue
        vectors = values.reshape(len(values), -1)
        if flat is None:
            arrays[name] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        elif name == "probabilities" and vectors.shape[1] == len(flat):
            arrays |= {f"probability_{one}": pa.array(vectors[:, i]) for i, one in enumerate(flat)}
        else:
            arrays |= {f"{name}_{i}": pa.array(vectors[:, i]) for i in range(vectors.shape[1])}
    return pa.table(arrays)


def _preview(tables: Iterator[pa.Table]) -> None:
    from rich.table import Table

    first = next(tables, None)
    if first is None:
        print("no rows")
        return
    shown = Table()
    for name in first.column_names:
        shown.add_column(visible(name))
    for row in first.slice(0, PREVIEW).to_pylist():
        shown.add_row(*(_cell(value) for value in row.values()))
    rest = first.num_rows + sum(t.num_rows for t in tables) - min(PREVIEW, first.num_rows)
    console = make_console()
    console.print(shown)
    console.print(
        f"and {rest:,} more; output=FILE.parquet keeps them all" if rest else "output=FILE.parquet keeps them"
    )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 1 else f"{value:.5g}"
    if isinstance(value, list):
        return " ".join(_cell(v) for v in value)
    return visible(str(value))


def write(tables: Iterator[pa.Table], output: Path) -> int:
    """Writes the tables to one file in the format of its ending, beside first. Returns the number of rows."""
    beside = output.with_name(f".{output.name}.{os.getpid()}")
    rows = 0
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_one: Callable[[Any], None] | None = None
        for table in tables:
            if write_one is None:
                write_one, close = _writer(beside, output.suffix, table.schema)
            write_one(table)
            rows += table.num_rows
        if write_one is None:
            raise UserError("data: there are no rows to predict")
        close()
        os.replace(beside, output)
    except OSError as error:
        raise UserError(f"output: {output} can't be written: {error.strerror or error}") from None
    finally:
        beside.unlink(missing_ok=True)
    return rows


def _writer(path: Path, suffix: str, schema: pa.Schema) -> tuple[Callable[[Any], None], Callable[[], None]]:
    if suffix == ".parquet":
        from pyarrow.parquet import ParquetWriter

        parquet = ParquetWriter(path, schema)
        return parquet.write_table, parquet.close
    if suffix == ".csv":
        from pyarrow.csv import CSVWriter

        csv = CSVWriter(path, schema)
        return csv.write_table, csv.close
    import json

    file = open(path, "w", encoding="utf-8")  # noqa: SIM115 - closed by the caller
    return (lambda table: file.writelines(json.dumps(row) + "\n" for row in table.to_pylist())), file.close
