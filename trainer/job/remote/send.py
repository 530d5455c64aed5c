"""What a submission puts on S3, for agents that see nothing of the machine it is made on."""

from __future__ import annotations

from pathlib import Path

from trainer.job.code_path import RECORD
from trainer.job.directory import Job
from trainer.job.remote.download import storage_of


def send(job: Job) -> None:
    """All that agents need to begin, the events last. Raises HeadwayError if S3 can't be reached, or refuses."""
    storage_of(job).delete([job.result_path.name])  # of an earlier attempt
    keep(job, *_submission(job), job.config_path, job.events_path)


def complete(job: Job) -> None:
    """What was written of the submission once the job was sent."""
    keep(job, *_submission(job))


def end(job: Job) -> None:
    """An end that only the backend knew of."""
    keep(job, job.result_path, job.events_path)


def keep(job: Job, *paths: Path) -> None:
    """Files of the job's directory."""
    storage = storage_of(job)
    for path in paths:
        storage.upload(path, path.relative_to(job.dir).as_posix())


def _submission(job: Job) -> list[Path]:
    folder = (job.dir / RECORD).parent
    return sorted(p for p in folder.glob("*") if p.is_file() and not p.name.startswith("."))
