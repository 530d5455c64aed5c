"""A job among those beside it, as of a sweep: how many there are, and by which settings it differs from them."""

from __future__ import annotations

from pathlib import Path

from trainer.config.schema import load
from trainer.errors import UserError
from trainer.job.directory import Job
from trainer.job.view.seen import is_job
from trainer.job.view.varying import varying
from trainer.process.format import plural, short_path

MOST = 200  # whose configs are read


def told(job: Job, root: Path) -> str:
    """Its folder, how many jobs there are in it, and its own values of what varies among them: "2 jobs of runs/lrs: lr=0.1". Empty
    for one that is alone, or in the folder of all jobs, root."""
    folder = job.dir.absolute().parent
    if folder == root.absolute():
        return ""
    beside = sorted(path for path in folder.iterdir() if is_job(path))
    if len(beside) < 2:
        return ""
    varied = varying(_configs([job.dir.absolute(), *(path for path in beside if path != job.dir.absolute())][:MOST]))
    own = " ".join(f"{name}={values[0]}" for name, values in varied.items() if values[0])
    return f"{plural(len(beside), 'job')} of {short_path(folder)}{f': {own}' if own else ''}"


def _configs(folders: list[Path]) -> list[dict[str, object]]:
    """Those that can be read; the first is the job's own."""
    found = []
    for number, folder in enumerate(folders):
        try:
            found.append(load(Job(folder).config_path))
        except UserError:
            if not number:
                raise
    return found
