"""Trackers: where a job's figures go besides its own files. One runs on rank 0, beside the steps.

`log` only puts figures in a queue; a thread imports what the tracker needs, writes them down, and says so once and
does no more if that fails: a job never ends because of its tracker.

Each is given what metrics.jsonl is given, numbers in double precision, nan and infinities among them; what it makes of those
is its own: TensorBoard's files hold single precision.
"""

from __future__ import annotations

import fcntl
import importlib.util
import logging
import os
import queue
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import UserError, pip_install
from trainer.job.directory import Job, State, read_hint, write_json
from trainer.worker.monitoring import hparams

if TYPE_CHECKING:
    from io import BufferedWriter

logger = logging.getLogger(__name__)
GROUPS = ("train", "validation", "test")
FINISH_SECONDS = 60.0  # how long the end of a job waits for a tracker that doesn't answer


@dataclass
class NoTracker:
    """Keeps nothing: metrics.jsonl has it all anyway."""

    def start(self, job_dir: Path, config: dict[str, Any]) -> None:
        """Called once, before the first figures."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Figures of a step."""

    def finish(self, result: dict[str, Any]) -> None:
        """Called once, after the last figures, with how the job ended."""


@dataclass
class Tracker(NoTracker):
    """What trackers share: a queue and the thread that empties it. A new tracker writes the three hooks.

    tell: hears, in one line, that it has stopped tracking, and why.
    """

    _queue: queue.SimpleQueue[tuple[float, int, dict[str, float]] | dict[str, Any]] = field(
        default_factory=queue.SimpleQueue, init=False, repr=False
    )
    _thread: threading.Thread | None = field(default=None, init=False, repr=False)
    tell: Callable[[str], object] = field(default_factory=lambda: str, init=False, repr=False)

    @property
    def name(self) -> str:
        return type(self).__name__

    def start(self, job_dir: Path, config: dict[str, Any]) -> None:
        self._thread = threading.Thread(target=self._work, args=(job_dir, config), daemon=True, name=self.name)
        self._thread.start()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._queue.put((time.time(), step, dict(values)))

    def finish(self, result: dict[str, Any]) -> None:
        """Waits until all figures are written, a minute at most."""
        if self._thread is None:
            return
        self._queue.put(result)
        self._thread.join(FINISH_SECONDS)
        if self._thread.is_alive():
            self._say(f"{self.name} did not finish within {FINISH_SECONDS:.0f} s; its last figures may be missing")

    def _say(self, words: str) -> None:
        logger.warning("%s", words)
        self.tell(words)

    def _work(self, job_dir: Path, config: dict[str, Any]) -> None:
        try:
            self._open(job_dir, config)
            while True:
                item = self._queue.get()
                if isinstance(item, dict):
                    self._close(item)
                    return
                self._write(*item)
                if self._queue.empty():
                    self._flush()
        except Exception as error:  # whatever a tracker's library raises, the training goes on
            said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
            self._say(f"{self.name} stopped tracking; the training goes on: {type(error).__name__}: {said}")

    def _open(self, job_dir: Path, config: dict[str, Any]) -> None:
        """Imports what it needs and opens its store."""
        raise NotImplementedError

    def _write(self, when: float, step: int, values: dict[str, float]) -> None:
        """Writes figures of a step; `when` is in seconds since 1970."""
        raise NotImplementedError

    def _flush(self) -> None:
        """Called when there is nothing more to write for now."""

    def _close(self, result: dict[str, Any]) -> None:
        """Writes how the job ended and closes the store."""


@dataclass
class TensorBoard(Tracker):
    """TensorBoard's event files in the job's directory: `train_loss` as the tag `train/loss`, and the config's
    hyperparameters for the HParams tab.

    Only the protocol buffers are tensorboard's: its own writer takes 0.25 s to import, ten times as long. A
    record is its length, the length's checksum, the bytes, and theirs.
    """

    _file: BufferedWriter | None = field(default=None, init=False, repr=False)
    _resumed: bool = field(default=False, init=False, repr=False)

    def _open(self, job_dir: Path, config: dict[str, Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._resumed = bool(Job(job_dir).event_files)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file = (job_dir / name).open("wb")
        self._add(Event(wall_time=time.time(), file_version="brain.Event:2"))
        self._add(Event(wall_time=time.time(), summary=hparams.started(config, job_dir.name, time.time())))
        self._flush()

    def _write(self, when: float, step: int, values: dict[str, float]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary

        if self._resumed:  # what an earlier attempt wrote of steps from here on is done again: it is dropped
            self._add(Event(wall_time=when, step=step, session_log=SessionLog(status=SessionLog.START)))
            self._resumed = False
        scalars = [Summary.Value(tag=_tag(name), simple_value=value) for name, value in values.items()]
        self._add(Event(wall_time=when, step=step, summary=Summary(value=scalars)))

    def _add(self, event: Any) -> None:
        assert self._file is not None
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        self._file.write(length + _checksum(length) + data + _checksum(data))

    def _flush(self) -> None:
        assert self._file is not None
        self._file.flush()

    def _close(self, result: dict[str, Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        assert self._file is not None
        completed = (result.get("status") or result.get("state")) == State.COMPLETED.value
        self._add(Event(wall_time=time.time(), summary=hparams.ended(completed, time.time())))
        self._file.close()


def _tag(name: str) -> str:
    """TensorBoard shows tags of one group, such as `validation/…`, together."""
    group, _, rest = name.partition("_")
    return f"{group}/{rest}" if group in GROUPS and rest else name


@dataclass
class MLflow(Tracker):
    """A run in an MLflow store: the config as parameters, the figures, how it ended as tags.

    A resumed job goes on with its run. Needs the package mlflow-skinny and a database's.
    """

    # a database or server, such as http://host:5000; null for mlflow.db in the folder mlruns beside the job
    uri: str | None = None
    # the experiment that the runs belong to
    experiment: str = "headway"
    _client: Any = field(default=None, init=False, repr=False)
    _run: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        missing = [name for name in ("mlflow", "sqlalchemy", "alembic") if importlib.util.find_spec(name) is None]
        if missing:
            raise UserError(f"tracking=mlflow needs {missing[0]}: {pip_install('mlflow')}, or choose another")

    def _open(self, job_dir: Path, config: dict[str, Any]) -> None:
        if self.uri is not None:
            self._open_run(job_dir, config, self.uri)
            return
        store = job_dir.parent / "mlruns"
        store.mkdir(parents=True, exist_ok=True)
        with (store / "lock").open("w") as lock:  # two jobs that make the database at once would spoil it
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._open_run(job_dir, config, f"sqlite:///{store / 'mlflow.db'}")

    def _open_run(self, job_dir: Path, config: dict[str, Any], uri: str) -> None:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=uri)
        noted = job_dir / "logs" / "mlflow.json"
        known = read_hint(noted)
        if known.get("uri") == uri and isinstance(known.get("run"), str):
            self._run = known["run"]
            self._client.update_run(self._run, status="RUNNING")
            return
        self._run = self._client.create_run(self._experiment(job_dir), run_name=job_dir.name).info.run_id
        write_json(noted, {"uri": uri, "run": self._run})
        params = [Param(key, value) for key, value in _flat(config)]
        for first in range(0, len(params), 100):  # as many as a call may have
            self._client.log_batch(self._run, params=params[first : first + 100])

    def _experiment(self, job_dir: Path) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(self.experiment)
        if found is None:
            try:
                artifacts = None if self.uri else str(job_dir.parent / "mlruns")
                return str(self._client.create_experiment(self.experiment, artifact_location=artifacts))
            except MlflowException:  # another job made it meanwhile
                found = self._client.get_experiment_by_name(self.experiment)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _write(self, when: float, step: int, values: dict[str, float]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(name, value, int(when * 1000), step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def _close(self, result: dict[str, Any]) -> None:
        for key, value in result.items():
            if isinstance(value, str | int | float):
                self._client.set_tag(self._run, f"headway.{key}", str(value))
        status = result.get("status") or result.get("state")
        ends = {State.COMPLETED.value: "FINISHED", State.FAILED.value: "FAILED"}
        self._client.set_terminated(self._run, ends.get(str(status), "KILLED"))


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A config's leaves as dotted keys and text."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)[:6000]  # what MLflow takes


def _checksum(data: bytes) -> bytes:
    """The masked CRC-32C that TFRecord files use."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _crc_table() -> list[int]:
    table = []
    for entry in range(256):
        for _ in range(8):
            entry = (entry >> 1) ^ (0x82F63B78 if entry & 1 else 0)
        table.append(entry)
    return table


_CRC = _crc_table()
