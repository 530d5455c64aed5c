"""Checkpoints beside the steps: a step pays for the copy of the state, a thread writes it.

Each worker copies and writes its share of the tensors. Rank 0 waits, in its thread, until all have written theirs, then
commits. At most one checkpoint is in flight.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.errors import HeadwayError
from trainer.job import checkpoint
from trainer.worker.checkpointing import shards
from trainer.worker.checkpointing.shards import Held, Part, data_of
from trainer.worker.distributed.ranks import Ranks

ESTIMATOR = "estimator"


@dataclass
class Snapshot:
    """A state that waits to be written: this worker's share of it."""

    step: int
    tensors: dict[str, Held] = field(default_factory=dict)
    small: dict[str, bytes] = field(default_factory=dict)
    folder: Path | None = None  # files that an estimator has saved
    details: dict[str, Any] = field(default_factory=dict)


class Saver:
    """Takes snapshots and writes them. `tag` names the attempt.

    journal: a file that must be on the disk, as far as it is written, before a checkpoint counts (the metrics).
    apart: nodes share no folder: each keeps what its workers wrote, and S3 brings it together.

    stall, writing: seconds that the last save kept a step waiting, and that its writing took. failed: why the last
    one failed, or None. saved: the step of the newest that was committed (rank 0).
    """

    def __init__(
        self,
        root: Path,
        ranks: Ranks,
        tag: str,
        retention: checkpoint.Retention,
        told: Callable[[], None],
        journal: Path | None = None,
        apart: bool = False,
        job: str | None = None,
    ) -> None:
        self.stall = self.writing = 0.0
        self.failed: Exception | None = None
        self.saved: int | None = None
        self.count = self.failures = 0
        self.retention = retention
        self.spread = False  # whether the model is, over the workers
        self.first: frozenset[str] = (
            frozenset()
        )  # whole tensors of which each worker has its own: the first one's count
        self._root, self._ranks, self._tag, self._told, self._journal = root, ranks, tag, told, journal
        self._signed = {checkpoint.JOB: job} if job else {}
        self._apart = apart and ranks.world_size > ranks.local_world_size
        self._staging: dict[str, Tensor] = {}
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def seconds(self) -> float:
        """How long a whole save takes, as far as is known."""
        return self.stall + self.writing

    def share(self, tensors: Mapping[str, Held]) -> list[str]:
        """The names of those that this worker writes: the parts that it alone holds, and its share of the whole ones.

        Where a model is spread over the workers, rank 0 writes what is whole: it is little, and each then reads
        its own parts and one file more.
        """
        parts = [name for name, held in tensors.items() if isinstance(held, Part)]
        sizes = {
            n: t.numel() * t.element_size()
            for n, t in tensors.items()
            if not isinstance(t, Part) and n not in self.first
        }
        shares = shards.spread(sizes, 1 if self.spread else self._ranks.world_size)
        firsts = [name for name in tensors if name in self.first] if self._ranks.rank == 0 else []
        return [*parts, *firsts, *(shares[self._ranks.rank] if self._ranks.rank < len(shares) else [])]

    def prepare(self, tensors: Mapping[str, Held]) -> None:
        """Makes the memory that copies go to, beside the steps, and touches it: fresh pages cost more than the copy."""
        mine = {name: tensors[name] for name in self.share(tensors)}
        self._begin(lambda: self._stage(mine))

    def take(self, step: int, tensors: Mapping[str, Held], small: Mapping[str, bytes], details: dict[str, Any]) -> None:
        """Copies the state and begins to write it. Waits for the one before, if it isn't written yet."""
        self.wait()
        began = time.perf_counter()
        mine = {name: tensors[name] for name in self.share(tensors)}
        self._stage(mine)
        with torch.no_grad():
            for name, held in mine.items():
                self._staging[name].copy_(data_of(held), non_blocking=True)
        if self._ranks.device.type == "cuda":
            torch.cuda.current_stream().synchronize()
        self.stall = time.perf_counter() - began
        staged: dict[str, Held] = {
            name: Part(held.shape, held.start, self._staging[name]) if isinstance(held, Part) else self._staging[name]
            for name, held in mine.items()
        }
        self.write(Snapshot(step, staged, dict(small), details=details))

    def write(self, snapshot: Snapshot) -> None:
        """Begins to write a snapshot."""
        self._begin(lambda: self._write(snapshot))

    def wait(self) -> None:
        """Waits until this worker's part of the one in flight is written; rank 0's is the commit too."""
        if self._thread is not None:
            self._thread.join()

    def finish(self) -> None:
        """Waits until all is written, with all workers. Raises the error of a save that failed, HeadwayError on the others."""
        self.wait()
        failures = [why for why in self._ranks.gather(str(self.failed) if self.failed else None) if why]
        if self.failed:
            raise self.failed
        if failures:
            raise HeadwayError(f"the state could not be saved: {failures[0]}")

    def _begin(self, work: Callable[[], None]) -> None:
        self.wait()
        self._thread = threading.Thread(target=work, daemon=True, name="checkpoint")
        self._thread.start()

    def _stage(self, mine: Mapping[str, Held]) -> None:
        pin = self._ranks.device.type == "cuda"
        for name, held in mine.items():
            tensor = data_of(held)
            staged = self._staging.get(name)
            if staged is None or staged.shape != tensor.shape or staged.dtype != tensor.dtype:
                self._staging[name] = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pin)
                self._staging[name].zero_()

    def _write(self, snapshot: Snapshot) -> None:
        """Writes this worker's files; rank 0 then waits for all and commits. Whatever fails, nobody waits for ever."""
        began = time.perf_counter()
        ranks, step = self._ranks, snapshot.step
        files, failure = self._try_files(snapshot)
        if ranks.rank:
            ranks.tell(f"saved/{step}/{ranks.rank}", json.dumps({"error": str(failure)} if failure else files))
        for rank in range(1, ranks.world_size) if ranks.rank == 0 else ():  # before what they write to is deleted
            answer = json.loads(ranks.hear(f"saved/{step}/{rank}"))
            if "error" in answer:
                failure = failure or OSError(f"worker {rank}: {answer['error']}")
            files |= answer
        target, details = None, {"workers": ranks.world_size, **self._signed, **snapshot.details}
        if self._apart:
            files, details, failure = self._agree(step, files, details, failure)
        if self._commits and failure is None:
            target, failure = self._try_commit(step, files, details)
        if failure is not None:
            self.fail(step, failure)
            return
        self._done(began)
        if target is not None:
            self.saved = step
            try:
                checkpoint.retain(self._root, self.retention, target, apart=self._apart)
            except OSError as error:
                print(f"older checkpoints could not be deleted: {error}")

    @property
    def _commits(self) -> bool:
        return self._ranks.rank == 0 or (self._apart and self._ranks.local_rank == 0)

    def _agree(
        self, step: int, files: dict[str, Any], details: dict[str, Any], failure: Exception | None
    ) -> tuple[dict[str, Any], dict[str, Any], Exception | None]:
        """Rank 0's account of all files, on each node; and whether all were written."""
        ranks = self._ranks
        if ranks.rank == 0:
            details = {**details, checkpoint.PARTS: f"attempt-{self._tag}"}
            for first in range(ranks.local_world_size, ranks.world_size, ranks.local_world_size):
                said = {"error": str(failure)} if failure else {"files": files, "details": details}
                ranks.tell(f"all/{step}/{first}", json.dumps(said))
        elif ranks.local_rank == 0:
            said = json.loads(ranks.hear(f"all/{step}/{ranks.rank}"))
            failure = failure or (OSError(said["error"]) if "error" in said else None)
            return said.get("files", {}), said.get("details", {}), failure
        return files, details, failure

    def _try_files(self, snapshot: Snapshot) -> tuple[dict[str, Any], Exception | None]:
        try:
            return self._write_files(snapshot), None
        except Exception as error:  # of any kind: it is said, and the checkpoint does not exist
            return {}, error

    def _try_commit(
        self, step: int, files: dict[str, Any], details: Mapping[str, Any]
    ) -> tuple[Path | None, Exception | None]:
        try:
            if self._journal is not None and self._journal.exists():
                checkpoint.sync(self._journal)
            return checkpoint.commit(self._root, step, self._tag, files, details), None
        except Exception as error:  # as above
            return None, error

    def _write_files(self, snapshot: Snapshot) -> dict[str, Any]:
        """Writes this worker's files durably; their lines in the manifest."""
        rank, world = self._ranks.rank, self._ranks.world_size
        place = checkpoint.begin(self._root, snapshot.step, self._tag)
        files: dict[str, Any] = {}
        if snapshot.tensors:
            name = f"shard-{rank:05d}-of-{world:05d}.safetensors"
            files[name] = shards.write(place / name, snapshot.tensors, self._told)
        for name, data in snapshot.small.items():
            (place / name).write_bytes(data)
            files[name] = checkpoint.entry(place / name)
        if snapshot.folder is not None:
            target = place / ESTIMATOR
            shutil.rmtree(target, ignore_errors=True)
            os.replace(snapshot.folder, target)
            for path in sorted(p for p in target.rglob("*") if p.is_file()):
                files[str(path.relative_to(place))] = checkpoint.entry(path)
        return files

    def _done(self, began: float) -> None:
        self.writing = time.perf_counter() - began
        self.failed = None
        self.count += 1
        self._told()

    def fail(self, step: int, error: Exception) -> None:
        """A checkpoint that can't be written does not exist; the one before stands, and the training goes on."""
        self.failed = error
        self.failures += 1
        print(f"the checkpoint of step {step} could not be written: {error}; the one before it stands")
        if self._commits:
            shutil.rmtree(checkpoint.partial(self._root, step, self._tag), ignore_errors=True)
