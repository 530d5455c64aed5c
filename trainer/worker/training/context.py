"""What an `Estimator` sees of its job: data, the other workers, reports, checkpoints, and whether it should stop."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from trainer.data.schema import Schema
from trainer.data.tables.samples import Samples
from trainer.job import code_path, node_state
from trainer.job.busy import busy
from trainer.job.directory import Job
from trainer.worker.checkpointing.saver import ESTIMATOR, Snapshot
from trainer.worker.checkpointing.state import as_bytes, rank_state
from trainer.worker.checkpointing.uploading import Uploading
from trainer.worker.distributed.exchange import bring
from trainer.worker.training.interruption import LEAVE, OUT_OF_TIME, STOP, Verdict
from trainer.worker.training.session import Session

CONTEXT = "context.pt"


class JobContext:
    """The context of a job's worker; see `trainer.algorithm.Context`.

    resumed: the folder of what an earlier `checkpoint` saved, or None. verdict: why it was stopped, once it was.
    stopped_early: whether the metric of train.early_stopping has not improved for too long. notes: what `note` was told.
    """

    def __init__(self, session: Session, threads: int, resumed: Path | None) -> None:
        self.rank, self.world_size = session.ranks.rank, session.ranks.world_size
        self.seed: int = session.config["job"]["seed"]
        self.threads = threads
        self.verdict: Verdict | None = None
        self.job, self.step = session.job.dir, session.reporter.progress.step
        self.stopped_early, self.notes = False, list[str]()
        self._watched: float | None = None
        self._stale = 0
        self._session, self._resumed = session, resumed
        self._reporter, self._ranks, self._interruption = session.reporter, session.ranks, session.interruption
        self._offered = self._saves = False
        self._saves_each = session.config["checkpoint"]["every"] == "validation"

    @property
    def schema(self) -> Schema:
        return self._session.opened.schema

    @property
    def train(self) -> Samples:
        return self._session.opened.train

    @property
    def validation(self) -> Samples | None:
        return self._session.opened.validation

    @property
    def test(self) -> Samples | None:
        return self._session.opened.test

    def report(
        self,
        step: int,
        values: Mapping[str, float],
        *,
        total: int | None = None,
        epoch: float = 0.0,
        samples: int = 0,
    ) -> None:
        progress = self._reporter.progress
        progress.step = max(progress.step, step)  # figures of an earlier one may come late
        progress.total, progress.epoch, progress.samples = total, epoch, samples
        progress.unit = "round"
        losses = [value for name, value in values.items() if name.startswith("train_")]
        progress.loss = losses[0] if losses else None
        self._reporter.report(step, values, epoch=epoch, samples=samples)
        self._session.beat[0] = progress.step
        self._watch(values)

    def resume(self) -> Path | None:
        return self._resumed

    def checkpoint(self, step: int, save: Callable[[Path], None], *, last: bool = False) -> None:
        session = self._session
        self._offered = True
        self._session.beat[0] = step
        self._agree()
        asked = self.verdict is not None and self.verdict.what in (LEAVE, STOP, OUT_OF_TIME)
        due = step >= session.cadence.look_at and session.cadence.due(step, session.saver.busy)
        if asked or due or last or ((self._saves or self._saves_each) and not self.verdict):
            self._save(step, save)
        if self.verdict is not None:
            session.saver.finish()

    def should_stop(self) -> bool:
        if not self._offered:
            self._agree()
        self._offered = False
        self._beat()
        if self._session.config["train"]["early_stopping"]["patience"] is not None:
            self.stopped_early = self.broadcast(self.stopped_early)
        return self.verdict is not None or self.stopped_early

    def seconds_left(self) -> float | None:
        return self._interruption.seconds_left()

    def note(self, text: str) -> None:
        print(text)
        self.notes.append(text)

    def busy(self, what: str) -> AbstractContextManager[None]:
        return busy(self._session.job, lambda: f"worker 0 is {what}") if self.rank == 0 else nullcontext()

    def bring(self, names: Sequence[str]) -> None:
        if url := os.environ.get(node_state.APART):
            bring(names, Job(self.job, url), self._ranks, self._beat)

    def upload(self, folder: Path, url: str, *, fetch: bool = False, exact: bool = False) -> Uploading:
        return Uploading(folder, url, fetch=fetch, exact=exact)

    def code(self, folder: Path) -> Path:
        return code_path.copy_of(self.job, folder) or folder

    def broadcast(self, value: Any) -> Any:
        return self._ranks.broadcast(value)

    def gather(self, value: Any) -> list[Any]:
        return self._ranks.gather(value)

    def barrier(self) -> None:
        self._ranks.barrier()

    def _beat(self) -> None:
        self._session.beat[1] += 1

    def _watch(self, values: Mapping[str, float]) -> None:
        """Whether the metric of train.early_stopping still improves. A report without it says nothing."""
        options = self._session.config["train"]["early_stopping"]
        value = values.get(options["metric"])
        if options["patience"] is None or value is None:
            return
        better = self._reporter.is_better
        if self._watched is None or better(options["metric"], value, self._watched, options["min_delta"]):
            self._watched, self._stale = value, 0
        else:
            self._stale += 1
        self.stopped_early = self.stopped_early or self._stale >= options["patience"]

    def _agree(self) -> None:
        """Takes notice of what was asked once all workers have heard of it. One exchange a step."""
        self._saves = False
        self._interruption.check_clock()
        if not all(self._ranks.gather(self._interruption.noticed)):
            return
        verdict = self._interruption.at_once()
        if verdict is None:
            return
        if verdict.leaves:
            self.verdict = verdict
        else:
            self._saves = True

    def _save(self, step: int, save: Callable[[Path], None]) -> None:
        session, ranks, progress = self._session, self._ranks, self._reporter.progress
        if progress.saved_step == step:
            return
        session.saver.wait()  # the one before: what is saved here must not be moved away under it
        small = {f"rank-{ranks.rank}.pt": as_bytes(rank_state(ranks))}
        folder = None
        if ranks.rank == 0:
            seconds = progress.snapshot()["training_seconds"]
            state = {"step": step, "samples": progress.samples, "epoch": progress.epoch, "seconds": seconds}
            small[CONTEXT] = as_bytes(state | {"best": dict(self._reporter.best)})
            folder = session.job.checkpoints / f".{ESTIMATOR}"
            shutil.rmtree(folder, ignore_errors=True)
            try:
                folder.mkdir(parents=True)
                save(folder)
            except OSError as error:
                session.saver.fail(step, error)
                return
        session.saver.write(Snapshot(step, small=small, folder=folder, details={"samples": progress.samples}))
        progress.saved_step = step
        session.adjust_cadence()
