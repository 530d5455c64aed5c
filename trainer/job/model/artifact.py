"""The trained model as a folder: written at the end of a job, loaded without it.

    artifact.json        format, the algorithm's `_target_` and hyperparameters, the schema, the metrics, versions; it is
                         headway-artifact.json where the algorithm's own files have one of that name
    model.safetensors    a Module's weights; above 5 GB several files, model-00001-of-00002.safetensors, and
                         model.safetensors.index.json that says which holds what
    …                    what the algorithm's own `save` adds (a tokenizer, a library's model file)

torch is imported only by what needs a Module's weights.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.algorithm import Algorithm, Estimator, Module
from trainer.data.schema import Schema
from trainer.errors import DamagedFile, UserError
from trainer.job import code_path
from trainer.job.directory import read_json, write_json
from trainer.job.model_description import DESCRIPTION, described, place
from trainer.job.submitted import is_own

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1
PREDICT_BATCH, PREDICT_TEXTS = 4096, 16
REPR_METRICS = 4


def write_module(
    folder: Path,
    algorithm: Module,
    weights: Mapping[str, Any],
    schema: Schema,
    config: Mapping[str, Any],
    metrics: Mapping[str, float],
) -> None:
    """Writes a Module's artifact, its weights by name: a new folder, renamed into place when whole."""
    from trainer.job.model.weights import save_tensors

    beside = _begin(folder)
    save_tensors(weights, beside)
    _finish(beside, folder, algorithm, schema, config, metrics)


def write_estimator(
    folder: Path,
    algorithm: Estimator,
    schema: Schema,
    config: Mapping[str, Any],
    metrics: Mapping[str, float],
) -> None:
    """Writes an Estimator's artifact."""
    _finish(_begin(folder), folder, algorithm, schema, config, metrics)


def _begin(folder: Path) -> Path:
    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    return beside


def _finish(
    beside: Path,
    folder: Path,
    algorithm: Algorithm,
    schema: Schema,
    config: Mapping[str, Any],
    metrics: Mapping[str, float],
) -> None:
    algorithm.save(beside)
    description = {
        "format": FORMAT,
        "algorithm": config["algorithm"],
        "target": algorithm.target(schema),
        "schema": schema.to_dict(),
        "metrics": dict(metrics),
    }
    write_json(place(beside), description, durable=True)
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


@dataclass(repr=False)
class Model:
    """A trained model. `predict` takes a table or arrays, as they were trained on."""

    algorithm: Any
    schema: Schema
    target: str | None
    metrics: dict[str, float]
    network: Any = None

    def __repr__(self) -> str:
        from trainer.process.format import figure, plural, prominence

        schema, learned = self.schema, ""
        if label := schema.label:
            learned = f" to {label.name}, " + (
                f"{len(label.classes)} classes" if self.target == "class" else "a number"
            )
        of = "text" if schema.text else plural(schema.columns, "column") if schema.columns else "data of its own"
        lines = [f"{type(self.algorithm).__name__} model, from {of}{learned}"]
        if self.network is not None:
            lines.append(plural(sum(weights.numel() for weights in self.network.parameters()), "parameter"))
        best = sorted(self.metrics, key=prominence)[:REPR_METRICS]
        return "\n".join(
            [*lines, *([f"best  {', '.join(f'{m} {figure(self.metrics[m])}' for m in best)}"] if best else [])]
        )

    def predict(self, rows: Any) -> dict[str, np.ndarray]:
        """Predictions, a column each: `prediction`, and what else the algorithm gives.

        rows: a pyarrow Table, a pandas DataFrame, a dict of columns, a numpy array [n, columns], a scipy CSR matrix,
        or a data source. Raises UserError if they don't fit what the model was trained on, saying how.
        """
        import numpy as np

        parts: dict[str, list[Any]] = {}
        for columns in self.predict_batches(rows):
            for name, values in columns.items():
                parts.setdefault(name, []).append(values)
        return {name: np.concatenate(values) for name, values in parts.items()} or {"prediction": np.empty(0)}

    def predict_batches(self, rows: Any) -> Iterator[dict[str, np.ndarray]]:
        """As `predict`, in parts of bounded size."""
        import numpy as np

        from trainer.data.opening import encode

        samples = encode(rows, self.schema, self.algorithm)
        if isinstance(self.algorithm, Estimator):
            from trainer.algorithm import Batch

            batches: Iterator[Batch] = (
                Batch(x, None, x.shape[0], x.shape[0]) for x, _ in samples.chunks(rows=PREDICT_BATCH)
            )
            for batch in batches:
                yield self._in_label_terms({k: np.asarray(v) for k, v in self.algorithm.predict(batch).items()})
            return
        import torch

        size = PREDICT_BATCH if not self.schema.text else PREDICT_TEXTS
        with torch.no_grad():
            for batch in samples.sequential(batch_size=size):
                columns = self.algorithm.predict(self.network, batch)
                yield self._in_label_terms({k: torch.as_tensor(v).cpu().numpy() for k, v in columns.items()})

    def generate(self, prompt: str, **options: Any) -> str:
        """Continues a prompt, if the algorithm can. Options are those of its `generate`."""
        if not isinstance(self.algorithm, Module):
            raise UserError(f"{type(self.algorithm).__name__} does not continue a prompt; give it data")
        return self.algorithm.generate(self.network, prompt, **options)

    def _in_label_terms(self, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Class numbers as classes, and numbers from the label's origin as the label has them."""
        import numpy as np

        label = self.schema.label
        if label is None or "prediction" not in columns:
            return columns
        if self.target == "class":
            names = np.array(label.classes)
            columns["prediction"] = names[columns["prediction"].astype(np.int64)]
        elif self.target == "number" and label.origin:
            columns["prediction"] = columns["prediction"].astype(np.float64) + label.origin
        return columns


def _fetched(url: str, code: bool) -> Path:
    """A model on S3, brought here, and with it, if asked for, the code of the job that it lies in."""
    from trainer.job.remote.download import pull_submission
    from trainer.storage.objects import S3, SCHEME, staging

    storage, folder = S3(url), staging(url)
    for name in storage.list():
        storage.bring(name, folder)
    job = url.rstrip("/").rpartition("/")[0]
    if code and "/" in job.removeprefix(SCHEME):  # else it lies in no folder
        pull_submission(S3(job), staging(job))
    return folder


def _read(path: Path) -> dict[str, Any] | None:
    """A description, if the file is one: others have files of that name too."""
    try:
        found = read_json(path)
    except ValueError:
        return None
    return found if isinstance(found, dict) and {"format", "algorithm", "schema"} <= found.keys() else None


def _refuse_strangers(folder: Path, node: Mapping[str, Any]) -> None:
    """Raises UserError for an algorithm that is not installed here, or that would build what its settings name."""
    from trainer.config import known

    target = str(node.get("_target_"))
    if target not in known.targets("algorithm"):
        beside = " lies beside it and" if (folder.absolute().parent / code_path.CODE).is_dir() else ""
        raise UserError(
            f"{folder}: its algorithm {target} is not installed here, and is code that{beside} may do anything; if you trust who "
            f"made the model, say model.trust_code=true, in Python trainer.load(folder, trust_code=True)"
        )
    special = next((key for key in node if key.startswith("_") and key != "_target_"), None)
    inner = next(iter(known.inner_targets(dict(node))), special)
    if inner is not None and inner not in known.nested("algorithm", target):
        raise UserError(
            f"{folder}: its algorithm's settings name {inner}, which a model calls only with model.trust_code=true"
        )


def load(folder: str | Path, *, trust_code: bool = False) -> Model:
    """Loads a model folder, local or `s3://`. Raises UserError if there is none, or one of a newer format.

    trust_code: whatever class the model names is taken, also from the code that lies beside it. Without it, and unless this
    process has submitted the model's job itself, only algorithms that are installed are, and nothing else that the model
    names is called; any other raises UserError.
    """
    if not isinstance(folder, str | os.PathLike):
        raise UserError(f"a model is loaded from its folder, such as result.model, not from a {type(folder).__name__}")
    folder = _fetched(str(folder), trust_code) if "://" in str(folder) else Path(folder)
    description = _read(described(folder))
    if description is None:
        hint = (
            "it names the job, and the model is in its folder `model`" if (folder / "model").is_dir() else "train first"
        )
        raise UserError(f"{folder}: there is no model here ({DESCRIPTION} is missing, or another's); {hint}")
    if description["format"] > FORMAT:
        raise UserError(f"{folder}: format {description['format']} is newer than this Headway; update it")
    from trainer.config.instantiate import build_algorithm

    if trust_code or is_own(folder.absolute().parent):
        code_path.last(folder.absolute().parent)
    else:
        _refuse_strangers(folder, description["algorithm"])
    algorithm = build_algorithm(description["algorithm"], fill=trust_code)
    algorithm.load(folder)
    schema = Schema.from_dict(description["schema"])
    network = None
    if isinstance(algorithm, Module):
        from trainer.job.model.weights import load_tensors

        network = algorithm.build(schema)
        try:
            load_tensors(network, folder)
        except (RuntimeError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise DamagedFile(folder, " ".join(str(error).split())) from None
        network.eval()
    return Model(algorithm, schema, description["target"], description["metrics"], network)
