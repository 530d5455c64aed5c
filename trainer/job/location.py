"""Where a job's directory lies, on this machine or on S3, and what that asks of whoever submits, follows or ends the job.

What only a directory on S3 needs is nothing for one on this machine, so that nobody has to ask which it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainer.config.schema import differing_keys, load_job
from trainer.errors import HeadwayError, UserError
from trainer.job.directory import GIVEN, Job
from trainer.job.remote import last_upload
from trainer.job.remote import send as sending
from trainer.job.remote.download import is_up, pull_small
from trainer.storage.objects import S3, is_remote, of_job, staging
from trainer.storage.probe import shake


class Location:
    """address: as job.dir says it. folder: where this machine has, or would have, the job's files. is_elsewhere: whether that is
    another place than the directory itself."""

    address: str
    folder: Path
    is_elsewhere: bool

    def open(self) -> Job:
        """The job that is, or will be, there, with what is known of it brought here. Raises UserError for a folder that is
        no job's, HeadwayError if it can't be looked into."""
        raise NotImplementedError

    def address_of(self, job: Job) -> str:
        """The address by now of a job that began there: a folder may have been moved."""
        return self.address

    def is_free_for(self, config: Mapping[str, Any]) -> bool:
        """Whether no other job than this config's is known to be there. One that is elsewhere is looked into when the job starts."""
        return True

    def probe(self) -> list[str]:
        """Tries whether a job can be kept there. Returns lines that a person should read. Raises HeadwayError if it can't."""
        return []

    def send(self, job: Job) -> None:
        """Brings there what agents begin with that see nothing of this machine."""

    def complete(self, job: Job) -> None:
        """The same of what was written of the submission once the job was sent."""

    def bring_up(self, job: Job, announce: Callable[[str], None]) -> None:
        """Brings there what an agent that had to leave could not. Raises HeadwayError if that can't be done now either."""

    def wait(
        self, job: Job, launcher: Any, announce: Callable[[str], None], asked: Callable[[], bool] = lambda: False
    ) -> None:
        """Waits until the agents of a job that has ended have brought all there; see `trainer.job.remote.last_upload`."""

    def has_all(self, job: Job) -> bool:
        """Whether all of a job that has ended is there; what lacks is on record then."""
        return True

    def end(self, job: Job) -> None:
        """Brings there an end that only the backend knew of."""


class LocalDirectory(Location):
    is_elsewhere = False

    def __init__(self, folder: Path) -> None:
        self.folder, self.address = folder, str(folder)

    def open(self) -> Job:
        job = Job(self.folder)
        if not job.exists() and self.folder.exists() and (not self.folder.is_dir() or _holds_others_files(self.folder)):
            raise UserError(f"job.dir: {self.folder} exists and is not a job's directory; choose another")
        return job

    def address_of(self, job: Job) -> str:
        return str(job.dir)

    def is_free_for(self, config: Mapping[str, Any]) -> bool:
        job = Job(self.folder)
        if not job.exists():
            return not self.folder.exists() or not any(self.folder.iterdir())
        return not differing_keys(load_job(job.config_path), config)


class S3Directory(Location):
    """options: a config's `job`, which says how the objects are encrypted."""

    is_elsewhere = True

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self.address, self.folder = url, staging(url)
        self._options = {**options, "dir": url}

    def open(self) -> Job:
        self.folder.mkdir(parents=True, exist_ok=True)
        pull_small(self._storage(), self.folder)
        return Job(self.folder, self.address)

    def probe(self) -> list[str]:
        told = shake(self._storage())
        return [told] if told else []

    def send(self, job: Job) -> None:
        sending.send(job)

    def complete(self, job: Job) -> None:
        sending.complete(job)

    def bring_up(self, job: Job, announce: Callable[[str], None]) -> None:
        if is_up(self._storage(), job.dir):
            return
        from trainer.job.remote.mirror import Mirror

        announce("not all of it was on S3: bringing up the rest")
        mirror = Mirror(self._storage(), job.dir, on_superseded=lambda who: announce(f"{who} has taken it over"))
        mirror.take_over()
        mirror.start()
        done = mirror.flush(last_upload.SECONDS)
        mirror.stop()
        if not done:
            raise HeadwayError(f"{self.address}: not everything is there yet; the same command tries again")

    def wait(
        self, job: Job, launcher: Any, announce: Callable[[str], None], asked: Callable[[], bool] = lambda: False
    ) -> None:
        last_upload.wait(job, self.address, launcher, announce, asked)

    def has_all(self, job: Job) -> bool:
        return last_upload.is_there(job, self.address)

    def end(self, job: Job) -> None:
        sending.end(job)

    def _storage(self) -> S3:
        return of_job(self._options)


def at(address: str, options: Mapping[str, Any]) -> Location:
    """The directory of an address: a path, or a URL of S3. options: of the config's `job`. Raises UserError for another URL."""
    if "://" not in address:
        return LocalDirectory(Path(address).expanduser().absolute())
    if not is_remote(address):
        raise UserError(
            f"job.dir: {address!r} is neither a local folder nor on S3; write a path, or s3://BUCKET/FOLDER"
        )
    return S3Directory(address, options)


def of(job: Job) -> Location:
    """The directory of a job that is known."""
    return LocalDirectory(job.dir) if job.url is None else S3Directory(job.url, {})


def _holds_others_files(folder: Path) -> bool:
    return bool(set(os.listdir(folder)) - {GIVEN})
