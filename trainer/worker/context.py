"""What an `Estimator` sees of its job: data, the other workers, reports, and whether it should stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.worker.session import Session


class JobContext:
    """The context of a job's worker; see `trainer.algorithm.Context`."""

    def __init__(self, session: Session, threads: int) -> None:
        self.rank, self.world_size = session.ranks.rank, session.ranks.world_size
        self.seed: int = session.config["job"]["seed"]
        self.threads = threads
        self.schema, self.train, self.validation = (
            session.opened.schema,
            session.opened.train,
            session.opened.validation,
        )
        self.stopped = False
        self._ranks = session.ranks
        self._reporter = session.reporter
        self._interruption = session.interruption

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
        progress.step, progress.total, progress.epoch, progress.samples = step, total, epoch, samples
        progress.unit = "round"
        losses = [value for name, value in values.items() if name.startswith("train_")]
        progress.loss = losses[0] if losses else None
        self._reporter.report(step, values, epoch=epoch, samples=samples)

    def should_stop(self) -> bool:
        self._interruption.check_clock()
        self.stopped = any(self._ranks.gather(self._interruption.noticed))
        return self.stopped

    def broadcast(self, value: Any) -> Any:
        return self._ranks.broadcast(value)

    def gather(self, value: Any) -> list[Any]:
        return self._ranks.gather(value)

    def barrier(self) -> None:
        self._ranks.barrier()
