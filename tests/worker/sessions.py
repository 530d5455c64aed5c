"""A worker's session without a job that runs: a config, data of scikit-learn's, and who the others are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from trainer.config.compose import compose
from trainer.config.instantiate import build
from trainer.config.schema import check
from trainer.data.opening import open_data
from trainer.job.directory import Job
from trainer.worker.distributed.ranks import Ranks


def session_of(folder: Path, *overrides: str, ranks: Ranks | None = None) -> Any:
    """What a worker knows once it has its data."""
    config = check(compose(list(overrides)))
    algorithm = build(config["algorithm"], "algorithm")
    opened = open_data(build(config["data"], "data"), algorithm, seed=0)
    return SimpleNamespace(config=config, ranks=ranks or Ranks(), opened=opened, job=Job(folder))
