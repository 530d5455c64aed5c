"""`headway train` as the entry of a container that SageMaker starts: its files become overrides, its folders the job's.

    input/config/hyperparameters.json   dotted keys and groups are overrides as they are, others `algorithm.KEY`
    input/data/CHANNEL                  data.train, data.validation, data.test; of a script, its channels
    checkpoints                         holds the job's directory, so that an interrupted job goes on
    model, output/data, output/failure  the trained model, the figures, and why it failed
    input/config/checkpointconfig.json  where the checkpoints lie on S3: there several hosts meet, and the job is beside them

The opposite way, a script in a container of ours, is `algorithms.script`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from trainer.cli.help import choices, groups
from trainer.config import secret
from trainer.config.instantiate import build
from trainer.errors import HeadwayError, UserError
from trainer.job.directory import Job
from trainer.job.remote.download import storage_of
from trainer.process import signals
from trainer.storage.objects import S3, is_remote, staging
from trainer.submission.interrupts import Heeding
from trainer.submission.settle import exit_code

BASE = "SAGEMAKER_BASE_DIR"
PREFIX, HIDDEN = "sagemaker_", ("_tuning_objective_metric", "default_user_module_name")
ROLES = {"train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation"}
ROLES |= {"eval": "validation", "evaluation": "validation", "test": "test", "testing": "test"}
FORMATS = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".libsvm": "libsvm", ".svm": "libsvm"}
FORMATS |= {".npy": "npy", ".npz": "npy", ".txt": "text"}
CONTENTS = {
    "text/csv": "csv",
    "application/x-parquet": "parquet",
    "application/parquet": "parquet",
    "text/plain": "text",
}
CONTENTS |= {
    "application/jsonlines": "jsonl",
    "text/libsvm": "libsvm",
    "text/x-libsvm": "libsvm",
    "application/x-npy": "npy",
}
FAILURE_CHARACTERS = 1024
HOSTS = "launchers.hosts.Hosts"
PATIENCE_SECONDS = 900.0
LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Container:
    """A container's folders, and what its files say. channels: what inputdataconfig.json says of each."""

    base: Path
    hyperparameters: Mapping[str, Any]
    channels: Mapping[str, Mapping[str, Any]]
    hosts: tuple[str, ...]
    host: str = ""
    checkpoints: str = ""  # on S3

    @property
    def number(self) -> int:
        """This host's, from 0."""
        return self.hosts.index(self.host) if self.host in self.hosts else 0

    @property
    def job(self) -> Job:
        """Where the job's directory is: one host keeps it with its checkpoints, several beside them on S3. A hyperparameter
        may put it elsewhere. Raises UserError."""
        given = str(self.hyperparameters.get("job.dir") or "")
        if len(self.hosts) > 1 and not given and self.checkpoints:
            given = f"{self.checkpoints.rstrip('/')}.headway"
        if is_remote(given):
            return Job(staging(given), given)
        if len(self.hosts) > 1:
            raise UserError(
                f"{len(self.hosts)} hosts have no folder in common: give the job a checkpoint location on S3, "
                f"or the hyperparameter job.dir=s3://BUCKET/FOLDER"
            )
        return Job(Path(given) if given else self.base / "checkpoints" / "job")

    def overrides(self) -> list[str]:
        """What a person would type. Raises UserError for what can't be had."""
        own = {k: v for k, v in self.hyperparameters.items() if not (k.startswith(PREFIX) or k in HIDDEN)}
        found = [_override(key, value) for key, value in own.items()]
        if "job.dir" not in own:
            found.append(f"job.dir={_text(self.job.url or str(self.job.dir))}")
        return [*self._data(own), *self._launcher(), *found]

    def _launcher(self) -> list[str]:
        if len(self.hosts) == 1:
            return []
        return [f"launcher._target_={HOSTS}", *(f"++launcher.{k}={_text(v)}" for k, v in self._place().items())]

    def _place(self) -> dict[str, Any]:
        other = next(host for host in self.hosts if host != self.host)
        return {"nodes": len(self.hosts), "node": self.number, "other": other}

    def join(self) -> int:
        """What another host than the first one does: its part in the job that the first writes down. Returns how it ended."""
        secret.taken(dict(self.hyperparameters))  # the first host's config refers to them
        job, storage = self.job, S3(str(self.job.url))
        workers = self.hyperparameters.get("launcher.workers", "auto")
        launcher = build({"_target_": HOSTS, **self._place(), "workers": workers}, "launcher")
        self.wait_for(lambda: storage.read("config.yaml") is not None, "the first host has not written the job down")
        with signals.held() as asks:
            launcher.submit(job, launcher.plan(job))
            look = Heeding(job, launcher, asks, print).look
            while look().alive:
                time.sleep(LOOK_SECONDS)
        return exit_code(job)

    def wait_for_others(self) -> None:
        """Until the hosts' names lead somewhere, which takes the platform a while."""
        for host in self.hosts:
            self.wait_for(partial(_resolves, host), f"the name {host} leads nowhere")

    def wait_for(self, condition: Callable[[], bool], problem: str) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            if time.monotonic() > end:
                raise HeadwayError(f"{problem} after {PATIENCE_SECONDS / 60:.0f} minutes")
            time.sleep(LOOK_SECONDS)

    def _data(self, own: Mapping[str, Any]) -> list[str]:
        is_script = own.get("algorithm") == "script"
        for name, told in self.channels.items():
            self._check_channel(name, told, is_script=is_script)
        folders = {name: self.base / "input" / "data" / name for name in sorted(self.channels)}
        if is_script:
            return [f"++data.channels.{name}={_text(self._channel(name, path))}" for name, path in folders.items()]
        roles = {ROLES[name.lower()]: name for name in folders if name.lower() in ROLES}
        found = [f"++data.{role}={_text(str(folders[name]))}" for role, name in roles.items()]
        if roles and "data" not in own:
            first = next(iter(roles.values()))
            found.insert(0, f"data={_format(folders[first], str(self.channels[first].get('ContentType') or ''))}")
        return found

    def _channel(self, name: str, path: Path) -> Any:
        """A script's channel, which lies in a folder already."""
        content = self.channels[name].get("ContentType")
        return {"s3_data": str(path), "content_type": str(content)} if content else str(path)

    def _check_channel(self, name: str, told: Mapping[str, Any], *, is_script: bool) -> None:
        """Raises UserError for what only SageMaker's own algorithms could read."""
        if told.get("TrainingInputMode") == "Pipe":
            raise UserError(f"channel {name}: its input mode is Pipe, and here files are read; choose File or FastFile")
        shared = told.get("S3DistributionType") == "ShardedByS3Key"
        if shared and len(self.hosts) > 1 and not is_script:
            raise UserError(
                f"channel {name}: it is ShardedByS3Key, and every host needs all of the data, of which each takes its part; "
                f"choose FullyReplicated"
            )

    @contextmanager
    def entered(self) -> Iterator[None]:
        """A failure meanwhile leaves its reason."""
        try:
            yield
        except Exception as error:  # the platform wants a reason for whatever it is
            self._fail(str(error) if isinstance(error, HeadwayError) else traceback.format_exc())
            raise

    def finish(self) -> None:
        """Leaves the model and the figures where SageMaker takes them from."""
        job = self.job
        result = job.result() or {}
        if self.number:  # the first has it all
            return
        if job.url:
            _fetch_model(job)
        if job.model.is_dir():
            shutil.copytree(job.model, self.base / "model", dirs_exist_ok=True)
        kept = self.base / "output" / "data"
        kept.mkdir(parents=True, exist_ok=True)
        for path in (job.result_path, job.metrics_path, job.config_path):
            if path.is_file():
                shutil.copy2(path, kept)
        if error := result.get("error"):
            self._fail(str(error.get("message", "the job failed")))
        elif job.out_of_time:
            self._fail(str(job.last_event().get("reason")))

    def _fail(self, reason: str) -> None:
        path = self.base / "output" / "failure"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(reason[:FAILURE_CHARACTERS], encoding="utf-8")


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except socket.gaierror:
        return False
    return True


def _fetch_model(job: Job) -> None:
    """The leading host's artifact, which may be another's."""
    storage = storage_of(job)
    for name in storage.list("model/"):
        storage.bring(name, job.dir)


def found(environment: Mapping[str, str] = os.environ) -> Container | None:
    """The container that this process is the entry of, if it is in one."""
    base = Path(environment.get(BASE, "/opt/ml"))
    config = base / "input" / "config"
    if not (config / "resourceconfig.json").is_file() or not (config / "hyperparameters.json").is_file():
        return None
    resources, inputs = _read(config / "resourceconfig.json"), _read(config / "inputdataconfig.json")
    hyperparameters = {key: _value(value) for key, value in _read(config / "hyperparameters.json").items()}
    return Container(
        base,
        hyperparameters,
        {name: told if isinstance(told, dict) else {} for name, told in inputs.items()},
        tuple(resources.get("hosts", ())) or ("algo-1",),
        str(resources.get("current_host", "")),
        str(_read(config / "checkpointconfig.json").get("S3Uri") or ""),
    )


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


def _format(folder: Path, content: str) -> str:
    """The choice of `data` that reads a channel, by its content type, else by its files' endings. Raises UserError."""
    if named := CONTENTS.get(content.partition(";")[0].strip().lower()):
        return named
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else [folder]
    known = [FORMATS[path.suffix.lower()] for path in files if path.suffix.lower() in FORMATS]
    if not known:
        what = f"content type {content} and none" if content else "none"
        raise UserError(
            f"{folder}: {what} of its files has a known ending; set the hyperparameter data to one of: "
            + ", ".join(choices("data"))
        )
    return known[0]
