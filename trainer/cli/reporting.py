"""`headway report`: the page of a job, or of a study."""

from __future__ import annotations

import os
from pathlib import Path

from trainer.cli.arguments import Parser
from trainer.config.schema import load_job
from trainer.errors import UserError
from trainer.job.view.listing import RUNS, find_job
from trainer.job.view.seen import STUDY, is_job, see
from trainer.process.format import short_path
from trainer.submission.launcher_of import status_of
from trainer.tuning.study import ROOT


def report(arguments: list[str]) -> int:
    """The verb. Returns 0. Raises UserError if there is no such job or study, or one of each."""
    parser = Parser("report", "Writes the page of a job, or of a study: report.html in its directory.")
    parser.add_argument("job", help="its name, or its directory; or a study's")
    name = parser.parse_args(arguments).job
    jobs = [] if "://" in name else [place for place in (RUNS / name, Path(name).expanduser()) if is_job(place)]
    studies = [place for place in (ROOT / name, Path(name).expanduser()) if (place / STUDY).is_file()]
    if jobs and studies:
        raise UserError(f"{name} is a job and a study; name {short_path(jobs[0])} or {short_path(studies[0])}")
    if studies:
        from trainer.cli.tune import report as report_study

        return report_study([str(studies[0])])
    from trainer.tuning.reports.report import write_job_report

    job = find_job(name)
    load_job(job.config_path)  # raises UserError: without it little is known
    print(os.path.relpath(write_job_report(see(job, status_of, all_of_it=True))))
    return 0
