"""What one worker's run of a job consists of, whatever shape the algorithm has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainer.data.opened import Opened
from trainer.job import Job
from trainer.worker.interruption import Interruption
from trainer.worker.metrics import Reporter
from trainer.worker.ranks import Ranks


@dataclass(frozen=True)
class Session:
    """The job with its resolved config, this worker's place among the others, the data, and whom to tell."""

    job: Job
    config: dict[str, Any]
    ranks: Ranks
    opened: Opened
    reporter: Reporter
    interruption: Interruption
