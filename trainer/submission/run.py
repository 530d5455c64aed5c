"""The one way of a job, from a composed config to its end: check, place, preflight, plan, submit, follow.

Each step takes what the one before gave, and is not entered again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trainer.config import schema
from trainer.config.unused import refuse as refuse_unused
from trainer.errors import ExitCode
from trainer.job.directory import Job
from trainer.process import signals
from trainer.submission import follow as following
from trainer.submission.follow import Announce, Watch
from trainer.submission.place import ROOT, Placed, place
from trainer.submission.plan import Planned, plan
from trainer.submission.preflight import preflight
from trainer.submission.submit import submit

Begin = Callable[[Job, Mapping[str, Any]], None]


def run(
    config: Mapping[str, Any],
    *,
    follow: Watch,
    begin: Begin = lambda job, config: None,
    announce: Announce = lambda text: None,
    beside: Sequence[Mapping[str, Any]] = (),
    resumes: bool = False,
) -> tuple[Job, int]:
    """Runs a composed config's job to its end on the configured launcher. Returns the job and the exit code. begin is shown the
    job once it is submitted, follow watches it while it is alive, announce says what else happens. beside: its sweep's configs.
    resumes: it is a job that goes on, perhaps with other settings.
    """
    one = planned(schema.check(config), resumes=resumes)
    if isinstance(one, Placed):
        return one.job, following.leave_done(one, announce)
    refuse_unused([one.config], one.placed.before, beside)
    options = one.config["job"]
    if options["dry_run"]:
        announce(f"{one.plan}\n\n# {one.job.config_path}\n{schema.dump(one.config)}")
        return one.job, ExitCode.COMPLETED
    with signals.held() as asks:
        submit(one, announce, begin=begin, detached=bool(options["detach"]))
        if options["detach"]:
            announce(_left(one.job))
            return one.job, ExitCode.COMPLETED
        status = following.follow(one, follow, asks, announce)
    return one.job, following.outcome(one, status)


def planned(checked: Mapping[str, Any], *, attach: bool = False, resumes: bool = False) -> Planned | Placed:
    """The job of a checked config, of which nothing is written yet; one that is done is only placed. attach, resumes: as `place`
    takes them. Raises UserError."""
    placed = place(checked, attach=attach, resumes=resumes)
    if placed.is_done:
        return placed
    return plan(placed if placed.is_alive else preflight(placed))


def _left(job: Job) -> str:
    named = job.name if job.dir.parent == ROOT.absolute() else job.dir
    return f"{job.name} is submitted; see `headway show {named}`, `headway logs -f {named}`, `headway stop {named}`"
