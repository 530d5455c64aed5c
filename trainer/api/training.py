"""Jobs trained from Python as `headway train` and `headway resume` do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainer.api.given import refuse_remote, taken
from trainer.api.overrides import Overrides, settings, written, written_as_yaml
from trainer.api.result import Result
from trainer.config.folder_name import check_folder
from trainer.errors import HeadwayError, UserError
from trainer.job import location
from trainer.job.directory import Job, State, Status
from trainer.submission.place import address_of
from trainer.submission.run import run

LOOK_SECONDS = 0.02


def train(
    overrides: Overrides = (), *, config_dir: str | Path | None = None, verbose: bool = False, **keywords: Any
) -> Result:
    """Trains as `headway train OVERRIDES` does, and returns how it ended.

        train(["algorithm=linear", "train.epochs=3"])                    as on the command line
        train({"algorithm": "linear", "train.epochs": 3})                values are Python's, text is taken as it is
        train(algorithm="linear", train={"epochs": 3})                   keys dotted or nested, keywords count last
        train(algorithm="xgboost", data=frame, **{"data.label": "price"})
        train(algorithm="xgboost", data=(X, y))

    data: besides the name of a choice, rows to train on: a DataFrame, a 2-D array, a pyarrow Table, or a pair (X, y) of such and
    the label of each row. {"train": rows, "validation": rows, "label": "price"} gives both sets, and settings beside them. They
    are kept as Parquet files in the job's directory: the same call goes on with the same job, and with other rows it is refused.
    config_dir: a folder that joins the config search path. verbose: show what the command shows, a live bar in a terminal or a
    notebook. Raises UserError for what the config gets wrong, and HeadwayError if the job fails.
    """
    from trainer.config.compose import compose
    from trainer.config.conf_files import added
    from trainer.job import code_path

    found = settings(overrides, keywords)
    given = taken(found)
    code_path.last(*added([*written(found), "--config-dir", str(config_dir or "")]))
    config = compose(written(found), config_dir=config_dir)
    if given is None:
        return finished(config, verbose)
    check_folder("job", config["job"]["name"], config["job"]["dir"])
    refuse_remote("job.dir", config["job"]["dir"])
    folder = location.at(address_of(config), config["job"]).folder
    config["job"]["dir"] = str(folder)
    config["data"] |= given.paths(folder)
    job = Job(folder)
    with given.kept(
        folder, config, job.config_path.name, is_done=job.result_path.exists() and job.state() is State.COMPLETED
    ):
        return finished(config, verbose)


def resume(job: str | Path | Result, /, overrides: Overrides = (), *, verbose: bool = False, **keywords: Any) -> Result:
    """Goes on with a job from its newest checkpoint, or trains one that is done further, as `headway resume JOB` does.

        resume("prices", launcher={"workers": 4})
        resume(result, {"train.epochs": 20})

    job: its name, its directory, or its result. overrides, keywords: what is to be different, as `train` takes it. Raises
    UserError for what it can't go on with, and HeadwayError if it fails.
    """
    from trainer.job import code_path
    from trainer.job.view.listing import find_job
    from trainer.submission.resume import resumed

    found = settings(overrides, keywords)
    if taken(dict(found)) is not None:
        raise UserError(
            "data: a job goes on with the rows that it began with; give others as paths, or begin a new job"
        )
    begun = find_job(job.dir if isinstance(job, Result) else os.fspath(job))
    code_path.last(begun.dir)
    return finished(resumed(begun, written_as_yaml(found)), verbose, resumes=True)


def finished(config: Mapping[str, Any], verbose: bool, *, resumes: bool = False) -> Result:
    """The result of a composed config's job, run to its end. Raises HeadwayError if it fails."""
    for key in ("detach", "dry_run"):
        if config["job"][key]:
            raise UserError(f"job.{key}: there would be no result to return; use `headway train` for it")
    if verbose:
        from trainer.job.view import terminal

        job, _ = run(config, begin=terminal.header, follow=terminal.follow, announce=print, resumes=resumes)
    else:
        job, _ = run(config, follow=_wait, resumes=resumes)
    result = job.result()
    if result is None:
        raise HeadwayError(f"{job.dir}: the job left no result; its log is in {job.logs}")
    if result["status"] == State.FAILED:
        from trainer.job.view.summary import error_line

        mistaken = bool(job.last_event().get("user_error"))
        raise (UserError if mistaken else HeadwayError)(error_line(job, result))
    if verbose:
        terminal.closing(job)
    return Result(**result, dir=str(job.dir))


def _wait(job: Job, look: Callable[[], Status]) -> None:
    while look().alive:
        time.sleep(LOOK_SECONDS)
