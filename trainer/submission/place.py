"""The job directory that a config means, and how the job there stands: new, done, under way, or to go on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainer.config.code.signature import short_name
from trainer.config.folder_name import check_folder
from trainer.config.instantiate import build
from trainer.config.schema import load_job
from trainer.errors import UserError
from trainer.job import location, submitted
from trainer.job.directory import Job, State
from trainer.job.location import Location
from trainer.submission.resume import has_time_left, refuse_other, trains_further

ROOT = Path("runs")


@dataclass(frozen=True)
class Placed:
    """A job whose directory is known, of which nothing is written yet.

    config: checked, with the job's name and directory. before: what it began with; None if it is new.
    """

    job: Job
    config: dict[str, Any]
    location: Location
    launcher: Any
    before: Mapping[str, Any] | None
    is_done: bool = False
    is_alive: bool = False


def place(checked: Mapping[str, Any], *, attach: bool = False, resumes: bool = False) -> Placed:
    """Places the job of a checked config. attach: one that is at work already is no mistake. resumes: nor is one that is done, or
    began with other settings. Raises UserError if the directory is another job's; or, if it resumes, for settings that it can't go
    on with."""
    launcher = build(checked["launcher"], "launcher")
    options = checked["job"]
    check_folder("job", options["name"], options["dir"])
    where = location.at(address_of(checked), options)
    job = where.open()
    config = {**checked, "job": {**options, "name": options["name"] or job.name, "dir": where.address}}
    before = load_job(job.config_path) if job.exists() else None
    if before is not None:
        refuse_other(job, before, config, resumes=resumes)
    submitted.keep(job, launcher)
    return _standing(Placed(job, config, where, launcher, before), attach=attach, resumes=resumes)


def _standing(placed: Placed, *, attach: bool, resumes: bool) -> Placed:
    """With how it stands. Raises UserError if there is nothing that it could be submitted for."""
    job, config, before = placed.job, placed.config, placed.before
    if before is None:
        return placed
    done = job.state() is State.COMPLETED and not job.result_is_lost()
    if done and not (resumes and trains_further(job, before, config)):
        return replace(placed, is_done=True)
    status = placed.launcher.status(job)
    if status.alive or status.state.is_active:
        if not attach:
            raise UserError(f"{job.name} is running; `headway stop {job.name}` stops it")
        return replace(placed, is_alive=True)
    if job.out_of_time and not has_time_left(config, job):
        if not attach:
            raise UserError(
                f"{job.name} has used up train.max_time={config['train']['max_time']}; "
                f"`headway resume {job.name} train.max_time=TIME`, with more of it, goes on"
            )
        return replace(placed, is_done=True)
    return placed


def address_of(config: Mapping[str, Any]) -> str:
    """Where a config's job has its directory, or would have it: a fresh one if it says none."""
    name, directory = config["job"]["name"], config["job"]["dir"]
    return str(directory or (ROOT / str(name) if name is not None else fresh(config)))


def fresh(*configs: Mapping[str, Any]) -> Path:
    """A name that no job, or sweep of these configs, has yet: algorithm, data, time."""
    targets = dict.fromkeys(c[noun]["_target_"] for noun in ("algorithm", "data") for c in configs)
    nouns = [short_name(target) for target in targets]
    name = "-".join([*nouns, time.strftime("%m%d-%H%M%S")])
    directory, number = ROOT / name, 1
    while directory.exists():
        number += 1
        directory = ROOT / f"{name}-{number}"
    return directory
