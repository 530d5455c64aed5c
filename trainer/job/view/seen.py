"""A job as one sees it who only looks: what its files tell, and which of them are damaged. Writes nothing.

What is damaged reads as if it weren't there, and is said: one job that is damaged must not hide the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainer.config.schema import load_job
from trainer.errors import HeadwayError
from trainer.job import carried
from trainer.job.directory import Job, Lines, State, Status, lines_of, read_json
from trainer.job.records import wrong_event, wrong_progress, wrong_report
from trainer.job.result import summarize

StatusOf = Callable[[Job], Status]
STUDY = "study.yaml"


@dataclass
class Seen:
    """What is known of a job. status: None if even its directory doesn't tell. started: unix time. damage: a line for each
    thing that is wrong, files by their names in the job's directory."""

    job: Job
    config: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    progress: dict[str, Any] | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    status: Status | None = None
    started: float = 0.0
    damage: list[str] = field(default_factory=list)
    dropped: int = 0  # lines that a machine left which lost its power

    @property
    def running(self) -> dict[str, Any]:
        """What the workers last said of themselves."""
        return next((e for e in reversed(self.events) if e["state"] == State.RUNNING), {})

    @property
    def summed(self) -> Mapping[str, Any]:
        """The last and best value of each metric, as its result has them, or as its reports do so far."""
        return self.result["metrics"] if self.result else summarize(self.metrics, self.running.get("maximize", ()))


def see(job: Job, status_of: StatusOf = Job.status, *, all_of_it: bool = False) -> Seen:
    """Looks at a job. status_of: tells one that runs from one whose directory says so but nobody works on; it is asked for
    jobs without a final result only. all_of_it: also the reports and the progress that the result sums up."""
    seen = Seen(job)
    with _noted(seen):
        seen.started = job.dir.stat().st_mtime
        seen.started = job.config_path.stat().st_mtime
    with _noted(seen):
        seen.config = load_job(job.config_path)
    with _noted(seen):
        seen.result = job.result()
    seen.events = _lines(seen, job.events_path, wrong_event)
    if seen.result is None or all_of_it:
        seen.metrics = _lines(seen, job.metrics_path, wrong_report)
        _see_progress(seen)
    seen.status = _status(seen, status_of)
    if seen.status and not seen.status.reason and (known := carried.read(job.dir)):
        seen.status = replace(seen.status, reason=known.words(job.dir))
    return seen


def _lines(seen: Seen, path: Path, wrong: Callable[[dict[str, Any]], str | None]) -> list[dict[str, Any]]:
    found = Lines([])
    with _noted(seen):
        found = lines_of(path, wrong)
    if found.damage:
        seen.damage.append(f"{path.name}, {found.damage}")
    elif found.dropped and not found.records:
        seen.damage.append(f"{path.name} holds no line that can be read")
    seen.dropped += found.dropped
    return found.records


def _see_progress(seen: Seen) -> None:
    path = seen.job.progress_path
    with _noted(seen):
        found = read_json(path)
        if found is not None and (wrong := wrong_progress(found)):
            seen.damage.append(f"logs/{path.name}: {wrong}")
        else:
            seen.progress = found


def _status(seen: Seen, status_of: StatusOf) -> Status | None:
    """By its result if that is final: an interrupted job may wait for its turn, or be at work again."""
    if seen.result:
        ended = State(seen.result["status"])
        if ended.is_final:
            return Status(ended, False)
    try:
        with _noted(seen):
            return status_of(seen.job)
    except Exception as error:  # a launcher may be anybody's
        seen.damage.append(f"its launcher can't tell how it fares: {type(error).__name__}: {error}")
    with _noted(seen):
        return seen.job.status()
    return None


@contextmanager
def _noted(seen: Seen) -> Iterator[None]:
    """Takes what is wrong with a file as something to be said."""
    why = ""
    try:
        yield
    except HeadwayError as error:
        why = str(error)
    except OSError as error:
        why = f"{error.filename}: {error.strerror}"
    why = " ".join(why.replace(f"{seen.job.dir}/", "").removeprefix("config.yaml: ").split())
    if why and why not in seen.damage:
        seen.damage.append(why)


def is_job(directory: Path) -> bool:
    """Whether a folder is a job's, be it one that has lost its config."""
    job = Job(directory)
    if job.exists() or job.config_path.is_symlink() or job.config_path.exists():
        return True
    return not (directory / STUDY).exists() and (job.events_path.is_file() or job.result_path.is_file())
