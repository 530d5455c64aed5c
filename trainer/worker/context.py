"""What an `Estimator` sees of its job: data, the other workers, reports, and whether it should stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.data.samples import Samples
from trainer.data.schema import Schema
from trainer.worker.interruption import Interruption
from trainer.worker.metrics import Reporter
from trainer.worker.ranks import Ranks


class JobContext:
    """The context of a job's worker; see `trainer.algorithm.Context`."""

    def __init__(
        self,
        *,
        ranks: Ranks,
        schema: Schema,
        train: Samples,
        validation: Samples | None,
        seed: int,
        threads: int,
        reporter: Reporter,
        interruption: Interruption,
    ) -> None:
        self.rank, self.world_size = ranks.rank, ranks.world_size
        self.seed, self.threads = seed, threads
        self.schema, self.train, self.validation = schema, train, validation
        self.stopped = False
        self._ranks = ranks
        self._reporter = reporter
        self._interruption = interruption

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
