"""What workers carry to the leading node by way of S3, where the nodes of a job have no folder in common."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from trainer.errors import HeadwayError
from trainer.job.directory import Job
from trainer.job.remote.download import storage_of
from trainer.worker.distributed.ranks import Ranks

LOOK_SECONDS = 0.5


def bring(names: Sequence[str], job: Job, ranks: Ranks, beat: Callable[[], None]) -> None:
    """Puts what this node has in its copy of the job's directory by these names, files or folders, into that of rank 0, in place
    of what is there. Call it on every worker at once; beat is called meanwhile. Raises HeadwayError, on all, if it can't be carried."""
    mine = ranks.local_rank == 0 and ranks.rank > 0  # this node's first worker acts for it
    found = _files(job.dir, names) if mine else []
    storage = storage_of(job)

    def upload() -> None:
        for name in found:
            storage.upload(job.dir / name, name)

    _together(upload, ranks, beat)
    told = ranks.gather([found, list(names) if mine else []])

    def download() -> None:
        for _, replaced in told if ranks.rank == 0 else ():
            for name in replaced:
                shutil.rmtree(job.dir / name, ignore_errors=True)
                if (job.dir / name).is_file():
                    (job.dir / name).unlink()
        for name in [name for files, _ in told for name in files] if ranks.rank == 0 else ():
            storage.bring(name, job.dir)
            storage.delete([name])

    _together(download, ranks, beat)


def _files(folder: Path, names: Sequence[str]) -> list[str]:
    paths = [path for name in names for path in (folder / name, *(folder / name).rglob("*"))]
    return [path.relative_to(folder).as_posix() for path in paths if path.is_file()]


def _together(work: Callable[[], None], ranks: Ranks, beat: Callable[[], None]) -> None:
    """Does the work beside, so that the others, who wait for it, hear that it goes on."""
    problems: list[str] = []

    def do() -> None:
        try:
            work()
        except (HeadwayError, OSError) as error:
            problems.append(str(error))

    at_work = threading.Thread(target=do, daemon=True, name="carrying")
    at_work.start()
    at_work.join(LOOK_SECONDS / 10)
    while any(ranks.gather(at_work.is_alive())):
        at_work.join(LOOK_SECONDS)
        beat()
    for problem in ranks.gather("; ".join(problems)):
        if problem:
            raise HeadwayError(problem)
