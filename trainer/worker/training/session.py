"""What one worker's run of a job consists of, whatever shape the algorithm has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trainer.data.encoding.opened import Later, Opened
from trainer.job.directory import Job, State
from trainer.worker.checkpointing.cadence import Cadence
from trainer.worker.checkpointing.saver import Saver
from trainer.worker.distributed.ranks import Ranks
from trainer.worker.metrics import Reporter
from trainer.worker.monitoring.stragglers import Stragglers
from trainer.worker.monitoring.timing import Laps
from trainer.worker.training.interruption import Interruption


@dataclass(frozen=True)
class Session:
    """The job with its resolved config, this worker's place among the others, the data, and whom to tell.

    beat: two numbers that the agent watches: the last step done, and a count that moves whenever anything does.
    """

    job: Job
    config: dict[str, Any]
    ranks: Ranks
    opened: Opened | Later
    reporter: Reporter
    interruption: Interruption
    saver: Saver
    cadence: Cadence
    beat: memoryview
    passed_over: list[str] = field(default_factory=list)  # checkpoints that were not whole, with the reason
    laps: Laps = field(default_factory=Laps)
    stragglers: Stragglers = field(default_factory=Stragglers)

    def adjust_cadence(self) -> None:
        """After a save: checkpoints as often as pays, by what the last one cost and how often the job was interrupted."""
        if self.ranks.rank or not self.cadence.is_auto:
            return
        seen = sum(event["state"] == State.INTERRUPTED for event in self.job.events())
        running = self.reporter.progress.snapshot()["training_seconds"]
        said = self.cadence.adjust(self.saver.stall, self.saver.writing, running, seen)
        if said:
            print(said)
