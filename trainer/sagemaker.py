"""`headway train` as the entry of a container that SageMaker starts: its files become overrides, its folders the job's.

    input/config/hyperparameters.json   dotted keys and groups are overrides as they are, others `algorithm.KEY`
    input/data/CHANNEL                  data.train, data.validation, data.test; of a script, its channels
    checkpoints                         holds the job's directory, so that an interrupted job goes on
    model, output/data, output/failure  the trained model, the figures, and why it failed

The opposite way, a script in a container of ours, is `algorithms.script`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.errors import HeadwayError, UserError
from trainer.help import choices, groups
from trainer.job import Job
from trainer.storage import is_remote, staging

BASE = "SAGEMAKER_BASE_DIR"
PREFIX, HIDDEN = "sagemaker_", ("_tuning_objective_metric", "default_user_module_name")
ROLES = {"train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation"}
ROLES |= {"eval": "validation", "evaluation": "validation", "test": "test", "testing": "test"}
FORMATS = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".libsvm": "libsvm", ".svm": "libsvm"}
FORMATS |= {".npy": "npy", ".npz": "npy", ".txt": "text"}
FAILURE_CHARACTERS = 1024


@dataclass(frozen=True)
class Container:
    """A container's folders, and what its files say."""

    base: Path
    hyperparameters: Mapping[str, Any]
    channels: tuple[str, ...]
    hosts: tuple[str, ...]

    @property
    def job(self) -> Job:
        """Where the job's directory is, unless a hyperparameter puts it elsewhere."""
        given = self.hyperparameters.get("job.dir")
        if given and is_remote(str(given)):
            return Job(staging(str(given)))
        return Job(Path(str(given)) if given else self.base / "checkpoints" / "job")

    def overrides(self) -> list[str]:
        """What a person would type. Raises UserError for what can't be had."""
        if len(self.hosts) > 1:
            raise UserError(
                f"{len(self.hosts)} hosts: in a container of SageMaker's a job has one, with all its GPUs; "
                f"set instance_count=1"
            )
        own = {k: v for k, v in self.hyperparameters.items() if not (k.startswith(PREFIX) or k in HIDDEN)}
        found = [_override(key, value) for key, value in own.items()]
        if "job.dir" not in own:
            found.append(f"job.dir={_text(str(self.job.dir))}")
        return [*self._data(own), *found]

    def _data(self, own: Mapping[str, Any]) -> list[str]:
        folders = {name: self.base / "input" / "data" / name for name in self.channels}
        if own.get("algorithm") == "script":
            return [f"++data.channels.{name}={_text(str(path))}" for name, path in folders.items()]
        roles = {ROLES[name.lower()]: path for name, path in folders.items() if name.lower() in ROLES}
        found = [f"++data.{role}={_text(str(path))}" for role, path in roles.items()]
        if roles and "data" not in own:
            found.insert(0, f"data={_format(next(iter(roles.values())))}")
        return found

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Meanwhile SIGTERM, by which SageMaker stops a job, stops it in order. A failure leaves its reason."""

        def stop(number: int, frame: object) -> None:
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGTERM, stop)
        try:
            yield
        except Exception as error:
            self._fail(str(error) if isinstance(error, HeadwayError) else traceback.format_exc())
            raise
        finally:
            signal.signal(signal.SIGTERM, before)

    def finish(self) -> None:
        """Leaves the model and the figures where SageMaker takes them from."""
        job = self.job
        result = job.result() or {}
        if job.model.is_dir():
            shutil.copytree(job.model, self.base / "model", dirs_exist_ok=True)
        kept = self.base / "output" / "data"
        kept.mkdir(parents=True, exist_ok=True)
        for path in (job.result_path, job.metrics_path, job.config_path):
            if path.is_file():
                shutil.copy2(path, kept)
        if error := result.get("error"):
            self._fail(str(error.get("message", "the job failed")))

    def _fail(self, reason: str) -> None:
        path = self.base / "output" / "failure"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(reason[:FAILURE_CHARACTERS], encoding="utf-8")


def found(environment: Mapping[str, str] = os.environ) -> Container | None:
    """The container that this process is the entry of, if it is in one."""
    base = Path(environment.get(BASE, "/opt/ml"))
    config = base / "input" / "config"
    if not (config / "resourceconfig.json").is_file() or not (config / "hyperparameters.json").is_file():
        return None
    resources, inputs = _read(config / "resourceconfig.json"), _read(config / "inputdataconfig.json")
    hyperparameters = {key: _value(value) for key, value in _read(config / "hyperparameters.json").items()}
    return Container(base, hyperparameters, tuple(sorted(inputs)), tuple(resources.get("hosts", ())))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}") from None
    return content if isinstance(content, dict) else {}


def _value(text: Any) -> Any:
    """A hyperparameter as it was before it was written down."""
    try:
        return json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return text


def _override(key: str, value: Any) -> str:
    """A group's choice, a key of the whole config, or one of the algorithm's."""
    if key in groups() and isinstance(value, str):
        return f"{key}={value}"
    group = key.partition(".")[0]
    return f"++{key if '.' in key and group in groups() else f'algorithm.{key}'}={_text(value)}"


def _text(value: Any) -> str:
    """A value in Hydra's grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_text(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_text(one) for one in value) + "]"
    if isinstance(value, str):
        return "'" + re.sub(r"(\\*)'", lambda match: match.group(1) * 2 + "\\'", value) + "'"
    return repr(value)


def _format(folder: Path) -> str:
    """The choice of `data` that reads a channel, by its files' endings. Raises UserError."""
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else [folder]
    known = [FORMATS[path.suffix.lower()] for path in files if path.suffix.lower() in FORMATS]
    if not known:
        raise UserError(
            f"{folder}: none of its files has a known ending; set the hyperparameter data to one of: "
            + ", ".join(choices("data"))
        )
    return known[0]
