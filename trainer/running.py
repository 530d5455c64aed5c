"""From a composed config to a finished job: check, write the job directory, submit, follow."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer import bundle, carried, end_of_upload, leaving, moment, private, secret, sending, submitted
from trainer import config as schema
from trainer.account import between
from trainer.build import build
from trainer.errors import ExitCode, HeadwayError, UserError
from trainer.folder_name import check_folder
from trainer.handshake import shake
from trainer.heeding import Heeding
from trainer.job import GIVEN, Job, State, Status, write_text
from trainer.pulling import is_up, pull_small
from trainer.refusing import check_algorithm, check_data, has_time_left, refuse_impossible
from trainer.result import write_result
from trainer.resuming import how_further, refuse_other, trains_further
from trainer.signature import short_name
from trainer.storage import is_remote, of_job, staging
from trainer.unused import refuse as refuse_unused

ROOT = Path("runs")
LEAVE_SECONDS = 30.0  # for an agent to leave once its job has ended
GOES_ON = ExitCode.INTERRUPTED  # what is done can't be seen by others yet; the same command brings it to them


Look = Callable[[], Status]
Follow = Callable[[Job, Look], Any]
Begin = Callable[[Job, Mapping[str, Any]], None]
Announce = Callable[[str], None]


def run(
    config: Mapping[str, Any],
    *,
    follow: Follow,
    begin: Begin = lambda job, config: None,
    announce: Announce = lambda text: None,
    beside: Sequence[Mapping[str, Any]] = (),
    resumes: bool = False,
) -> tuple[Job, int]:
    """Runs a composed config's job to its end on the configured launcher. Returns the job and the exit code. begin is shown the
    job once it is submitted, follow watches it while it is alive, announce says what else happens. beside: its sweep's configs.
    resumes: it is a job that goes on, perhaps with other settings.
    """
    one = prepare(schema.check(config), resumes=resumes)
    if not one.is_done:
        refuse_unused([one.config], None if one.is_new else schema.load_job(one.job.config_path), beside)
    with private.kept(one.config):
        return _run(one, follow, begin, announce)


def _run(one: Prepared, follow: Follow, begin: Begin, announce: Announce) -> tuple[Job, int]:
    job, launcher, checked = one.job, one.launcher, one.config
    if one.is_done:
        further = how_further(checked)
        more = f"; `headway resume {job.name} {further}=N` trains it further" if further else ""
        announce(f"{job.name} is already completed; nothing was changed ({checked['job']['dir']}){more}")
        _bring_up(job, checked, announce)
        return job, 0
    if checked["job"]["dry_run"]:
        announce(f"{one.plan}\n\n# {job.config_path}\n{schema.dump(checked)}")
        return job, 0
    detached = bool(checked["job"]["detach"])
    url = str(checked["job"]["dir"])
    with leaving.held() as asks:
        for line in submit(one, detached=detached):
            announce(line)
        begin(job, checked)
        for line in bundle.complete(job.dir):
            announce(line)
        if one.is_apart:
            sending.complete(job)
        if detached:
            named = job.name if job.dir.parent == ROOT.absolute() else job.dir
            announce(
                f"{job.name} is submitted; "
                f"see `headway show {named}`, `headway logs -f {named}`, `headway stop {named}`"
            )
            return job, 0
        follow(job, Heeding(job, launcher, asks, announce).look)
        if is_remote(url):
            end_of_upload.wait(job, url, launcher, announce, lambda: signal.SIGINT in asks.take())
        launcher.wait(job, timeout=LEAVE_SECONDS)
        status = launcher.status(job)
        settle_left(job, status, by_hand=asks.by_hand, by_machine=asks.by_machine)
        settle(job, status)
    code = exit_code(job, status)
    if is_remote(url) and not end_of_upload.is_there(job, url):
        return job, code or GOES_ON
    return job, code


@dataclass(frozen=True)
class Prepared:
    """A job that has been checked and placed, and of which nothing is written yet.

    together: the configs of a sweep, whose code this job takes for all; like: the directory of the one that does.
    """

    job: Job
    config: dict[str, Any]
    launcher: Any
    is_new: bool
    plan: Any = None  # none for a job that is done
    is_alive: bool = False
    together: Sequence[Mapping[str, Any]] = ()
    like: Path | None = None

    @property
    def is_apart(self) -> bool:
        """Whether its agents work in folders of their own, and see of this machine only what is on S3."""
        return self.job.url is not None and bool(getattr(self.launcher, "apart", False))

    @property
    def is_done(self) -> bool:
        return self.plan is None

    def write(self) -> list[str]:
        """Writes the job's directory, on S3 too if agents are to see it there. Returns lines that a person should read. Raises
        HeadwayError if it can't be kept on S3."""
        remote = is_remote(str(self.config["job"]["dir"]))
        told = [line for line in (shake(of_job(self.config["job"])) if remote else None,) if line]
        write(self.job, self.config, self.is_new)
        if self.like is not None:
            bundle.share(self.like, self.job.dir)
        else:
            told += bundle.take(self.job.dir, self.together or [self.config], archived=remote)
        if self.is_apart:
            sending.send(self.job)
        return told


def prepare(checked: dict[str, Any], *, attach: bool = False, resumes: bool = False) -> Prepared:
    """Places and plans the job of a checked config. attach: one that is at work already is no mistake. resumes: nor is one that
    is done, or began with other settings. Raises UserError."""
    launcher = build(checked["launcher"], "launcher")
    job, is_new = place(checked, resumes=resumes)
    submitted.keep(job, launcher)
    if not is_new:
        done = job.state() is State.COMPLETED and not job.result_is_lost()
        if done and not (resumes and trains_further(job, schema.load_job(job.config_path), checked)):
            return Prepared(job, checked, launcher, is_new)
        status = launcher.status(job)
        alive = status.alive or status.state.is_active
        if alive and not attach:
            raise UserError(f"{job.name} is running; `headway stop {job.name}` stops it")
        if alive:
            return Prepared(job, checked, launcher, is_new, launcher.plan(job), is_alive=True)
        if job.out_of_time and not has_time_left(checked, job):
            if attach:
                return Prepared(job, checked, launcher, is_new)
            raise UserError(
                f"{job.name} has used up train.max_time={checked['train']['max_time']}; "
                f"`headway resume {job.name} train.max_time=TIME`, with more of it, goes on"
            )
    secret.refuse_missing(checked)
    refuse_impossible(checked, launcher)
    check_algorithm(checked, job)
    check_data(checked, job)
    return Prepared(job, checked, launcher, is_new, launcher.plan(job))


def submit(one: Prepared, *, detached: bool = False) -> list[str]:
    """Writes the job's directory and submits it. Returns lines that a person should read. Raises HeadwayError if the
    backend refuses it."""
    with private.kept(one.config):
        told = one.write()
        try:
            one.launcher.submit(one.job, one.plan, detached=detached)
        except HeadwayError as error:
            settle(one.job, Status(State.FAILED, False, str(error)))
            raise
        return told


def _bring_up(job: Job, config: Mapping[str, Any], announce: Callable[[str], None]) -> None:
    """Brings to S3 what an agent that had to leave could not. Nothing for a job that is local, or all there."""
    if not is_remote(str(config["job"]["dir"])) or is_up(of_job(config["job"]), job.dir):
        return
    from trainer.mirror import Mirror

    announce("not all of it was on S3: bringing up the rest")
    mirror = Mirror(of_job(config["job"]), job.dir, on_superseded=lambda who: announce(f"{who} has taken it over"))
    mirror.take_over()
    mirror.start()
    done = mirror.flush(end_of_upload.SECONDS)
    mirror.stop()
    if not done:
        raise HeadwayError(f"{config['job']['dir']}: not everything is there yet; the same command tries again")


def settle(job: Job, status: Status) -> None:
    """Writes down an end that only the backend knows of, as no agent of the job lived to tell."""
    if not status.alive and status.state.is_final and not job.state().is_final:
        _write_end(job, status.state, status.reason, "launcher")


def settle_left(job: Job, status: Status, *, by_hand: int = 0, by_machine: int = 0) -> None:
    """Writes down that a job was left, if nobody of it could: it was before they began, or they were killed for not hearing.

    by_hand, by_machine: how often the job was asked to leave; by hand a second time is at once.
    """
    state = State.STOPPED if by_hand else State.INTERRUPTED
    if status.alive or status.state.is_final or job.state().is_final or not (by_hand or by_machine):
        return
    if job.state() is State.PENDING:
        _write_end(job, state, "left before it began", "signal")
    elif by_hand > 1:
        _write_end(job, state, "ended by hand, now", "signal")


def _write_end(job: Job, state: State, reason: str, source: str) -> None:
    events = job.events()
    attempt = max(0, sum(event["state"] == State.STARTING for event in events) - 1)
    event = {"attempt": attempt, "reason": reason, "source": source}
    now = moment.now()
    error = {"type": "HeadwayError", "message": reason, "rank": None}
    with suppress(OSError):  # on a full disk what the command prints has to do
        write_result(
            job,
            state,
            attempt=attempt,
            error=error if state is State.FAILED else None,
            wall=between(events[0], now) if events else 0.0,
            outcome={},
            last={**now, **event},
        )
        job.add_event(state, **event)
    if job.url:
        sending.end(job)


def exit_code(job: Job, status: Status | None = None) -> int:
    """0 completed, 1 failed, 2 failed by the user's mistake, 75 interrupted, 130 stopped. status: as the launcher tells it,
    who may know of a failure that could not be written down."""
    event = job.last_event()
    state = job.state_of(event) if event else State.FAILED
    if status is not None and status.state is State.FAILED and not state.is_final:
        return ExitCode.FAILED
    if state is State.COMPLETED:
        return ExitCode.COMPLETED
    if state is State.STOPPED:
        return ExitCode.STOPPED
    if state is State.FAILED:
        return ExitCode.MISTAKE if event.get("user_error") else ExitCode.FAILED
    return ExitCode.INTERRUPTED


def place(config: dict[str, Any], *, resumes: bool = False) -> tuple[Job, bool]:
    """The job directory this config means, and whether it is new. Raises UserError if it is another job's; or, if it resumes,
    for settings that it can't go on with."""
    options = config["job"]
    name = options["name"]
    check_folder("job", name, options["dir"])
    url = str(options["dir"]) if options["dir"] is not None and "://" in str(options["dir"]) else None
    job = Job(_staged(url, options) if url is not None else folder_of(config), url)
    options["name"], options["dir"] = name or job.name, url or str(job.dir)
    if not job.exists():
        if url is None and job.dir.exists() and (not job.dir.is_dir() or set(os.listdir(job.dir)) - {GIVEN}):
            raise UserError(f"job.dir: {job.dir} exists and is not a job's directory; choose another")
        return job, True
    refuse_other(job, config, resumes=resumes)
    return job, False


def folder_of(config: Mapping[str, Any]) -> Path:
    """The local folder that a config's job has, or would have: a fresh one if it says none."""
    name, directory = config["job"]["name"], config["job"]["dir"]
    if directory is None and name is None:
        return fresh(config).absolute()
    return (Path(directory).expanduser() if directory else ROOT / str(name)).absolute()


def _staged(url: str, options: Mapping[str, Any]) -> Path:
    """The local folder of a job on S3, with what is known of it there."""
    if not is_remote(url):
        raise UserError(f"job.dir: {url!r} is neither a local folder nor on S3; write a path, or s3://BUCKET/FOLDER")
    folder = staging(url)
    folder.mkdir(parents=True, exist_ok=True)
    pull_small(of_job(options), folder)
    return folder


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


def write(job: Job, config: Mapping[str, Any], is_new: bool) -> Job:
    """Writes the job directory's beginning. A fresh name taken by another meanwhile gets a number."""
    try:
        job.dir.mkdir(parents=True, exist_ok=True)
        if private.is_private(config):
            private.close(job.dir)  # what was there before, too
        job.logs.mkdir(exist_ok=True)
        if not is_new:
            job.result_path.unlink(missing_ok=True)
            (job.dir / carried.RECORD).unlink(missing_ok=True)
        write_text(job.config_path, schema.dump(config), durable=True)
        said = {"reason": "submitted", "job": uuid.uuid4().hex[:16]} if is_new else {"reason": "goes on"}
        job.add_event(State.PENDING, **said)
    except OSError as error:
        what = error.filename or job.dir
        raise UserError(f"job.dir: {what} can't be written: {error.strerror}; choose another with job.dir") from None
    return job
