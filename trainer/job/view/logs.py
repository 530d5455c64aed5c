"""What a job's workers have printed, as a person follows it.

It is the user's own: into a pipe it goes as it is, and on a terminal with its colours and nothing else that a terminal obeys.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from trainer.errors import UserError
from trainer.job.directory import Job, Status
from trainer.job.view.tail import Tail
from trainer.process.escape import coloured, visible

StatusOf = Callable[[Job], Status]


def logs(
    job: Job,
    *,
    follow: bool = False,
    rank: int | None = None,
    status_of: StatusOf = Job.status,
    others: Callable[[Job], Iterable[Path]] = lambda job: job.logs.glob("node-*.log"),
) -> None:
    """Prints the newest attempt's logs, lines of several ranks each with its rank.

    follow: goes on as lines are added, over restarts, until the job has ended or nobody has it any more.
    others: the logs of those who started the workers, for a job whose workers have left none.
    Raises UserError if there is no log of that rank.
    """
    tails: dict[Path, Tail] = {}
    while True:
        resting = not follow or not status_of(job).alive
        paths = _log_paths(job, rank, others)
        for path in paths.values():
            tails.setdefault(path, Tail(path))
        labels = {path: f"[{visible(label)}] " for label, path in paths.items()} if len(paths) > 1 else {}
        for path, tail in tails.items():
            lines = tail.lines()
            if resting and tail.remainder():
                lines.append(tail.remainder())
            lines = [coloured(line) for line in lines] if sys.stdout.isatty() else lines
            sys.stdout.writelines(f"{labels.get(path, '')}{line}\n" for line in lines)
        sys.stdout.flush()
        if resting:
            break
        time.sleep(0.2)
    if not tails:
        raise UserError(f"{job.name} has no logs yet: it is {status_of(job).state.value}")


def _log_paths(job: Job, rank: int | None, others: Callable[[Job], Iterable[Path]]) -> dict[str, Path]:
    """The newest attempt's log files by what they are of; those of `others` if no worker has left one."""
    found: dict[int, dict[int, Path]] = {}
    for path in job.logs.glob("attempt-*-rank-*.log"):
        match = re.fullmatch(r"attempt-(\d+)-rank-(\d+)\.log", path.name)
        if match:
            found.setdefault(int(match[1]), {})[int(match[2])] = path
    if not found:
        return {path.stem.replace("-", " ", 1): path for path in sorted(others(job))}
    ranks = found[max(found)]
    if rank is not None and rank not in ranks:
        raise UserError(f"{job.name} has no log of rank {rank}; there is {', '.join(map(str, sorted(ranks)))}")
    return {f"rank {r}": ranks[r] for r in sorted(ranks) if rank in (None, r)}
