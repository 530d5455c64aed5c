"""What lies of a job on S3, brought into a local folder: the small files for whoever reads, and the state to go on from.

What is there already is kept where it is ahead of S3, as on a machine that was away and came back, unless it is of another job
that once had the same address.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from trainer.errors import HeadwayError, UserError
from trainer.job import carried, checkpoint, code_archive
from trainer.job.code_path import CODE, RECORD
from trainer.job.directory import Job, read_hint
from trainer.job.remote.lease import be_of_job, known_job, owner
from trainer.job.remote.own_state import bring as bring_own_state
from trainer.process.safe_path import NotBelow, below
from trainer.storage.objects import S3, Damaged, Missing, in_parallel, of_job, staging

CONFIG, EVENTS = "config.yaml", "events.jsonl"
SUBMITTED = (CONFIG, RECORD)  # by whoever submits
SMALL = (*SUBMITTED, EVENTS, "metrics.jsonl", "result.json", "logs/progress.json", "logs/mlflow.json", "slurm.json")
PARALLEL = 4  # files at once
AWAIT_SECONDS = 1800.0
LOOK_SECONDS = 2.0  # between looks at a job that is followed


def storage_of(job: Job) -> S3:
    """Where a job lies on S3, written to as its config says."""
    from trainer.config.schema import load_job

    assert job.url is not None
    options = load_job(job.config_path)["job"] if job.exists() else {}
    return of_job({**options, "dir": job.url})


_brought: dict[str, tuple[float, HeadwayError | None]] = {}


def bring(job: Job, *, every: float = LOOK_SECONDS) -> None:
    """Brings what is known of a job whose agents work elsewhere, unless that was tried a moment ago. Nothing for a local job.
    Raises HeadwayError if S3 can't be reached, or could not then."""
    if job.url is None:
        return
    when, error = _brought.get(job.url, (-every, None))
    if time.monotonic() - when >= every:
        error = None
        try:
            pull_small(storage_of(job), job.dir)
        except HeadwayError as failed:
            error = failed
        _brought[job.url] = (time.monotonic(), error)
    if error is not None:
        raise error


def tried(job: Job, *, every: float = LOOK_SECONDS) -> str:
    """The same, for those for whom what is known here counts meanwhile: what was in the way, in a line, or ""."""
    try:
        bring(job, every=every)
    except HeadwayError as error:
        return f"{error}; shown is what was known before"
    return ""


def pull_small(storage: S3, folder: Path, *, logs: bool = False) -> bool:
    """Brings the files by which a job is read, and the workers' logs if asked for. Returns whether there is such a job,
    there or here. Where an agent of this machine is at work on it, its own files are newer, and are left alone."""
    if _is_live(folder):
        return True
    there = owner(storage)
    known = known_job(folder)
    if known and known != (there or {}).get("job"):
        shutil.rmtree(folder)  # of a job that was deleted, or replaced by another
    with ThreadPoolExecutor(PARALLEL) as pool:
        found = dict(zip(SMALL, in_parallel(pool, storage.read, SMALL), strict=True))
        if found[CONFIG] is None:
            return Job(folder).exists()
        _take(storage, folder, {name: read and read[0] for name, read in found.items()})
        events = found[EVENTS]
        if events is not None and events[0] == _content(folder / EVENTS):  # S3 has it all, whoever brought it there
            (folder / carried.RECORD).unlink(missing_ok=True)
        pull_code(storage, folder)
        if there and there.get("job"):
            be_of_job(folder, str(there["job"]))
        if logs:
            names = {n: size for n, size in storage.list("logs/").items() if n.endswith(".log")}
            other = [n for n, size in names.items() if _size(folder / n) != size]
            in_parallel(pool, lambda name: storage.bring(name, folder), other)
    return True


def known_of(url: str) -> Job:
    """A job on S3: what can be read of it, in the folder where this machine would work on it. Raises UserError if there is none."""
    folder = staging(url)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        found = pull_small(S3(url), folder, logs=True)
    except HeadwayError as error:
        if not Job(folder).exists():
            raise
        print(f"{error}; shown is what this machine has of the job, in {folder}", file=sys.stderr)
        found = True
    if not found:
        raise UserError(f"there is no job at {url} (no config.yaml)")
    return Job(folder, url)


def pull_submission(storage: S3, folder: Path) -> None:
    """Brings what is known of a job's submission, if there is such a job, and its code."""
    found = storage.read(RECORD)
    if found is not None and not _is_live(folder):
        _write(folder / RECORD, found[0])
        pull_code(storage, folder)


def pull_code(storage: S3, folder: Path) -> None:
    """Brings the copy of the user's own code that the job's record here tells of, unless it is here."""
    named, archive = read_hint(folder / RECORD).get("archive"), folder / code_archive.ARCHIVE
    if named is None or (code_archive.digest(archive) == named and (folder / CODE).is_dir()):
        return
    with contextlib.suppress(Missing):
        storage.bring(code_archive.ARCHIVE, folder)
    if code_archive.digest(archive) == named:
        code_archive.unpack(folder)


def pull(storage: S3, folder: Path, *, keep_config: bool = True) -> list[str]:
    """Brings all that the workers need to go on: the small files and the newest complete checkpoint, unless a newer one is
    here. Returns a line for each checkpoint that was passed over, and why.

    For the agent, which holds the job: `events.jsonl` stays the same file, and the config the submitter's.
    """
    names = [name for name in SMALL if not (name in SUBMITTED and keep_config and (folder / name).exists())]
    with ThreadPoolExecutor(PARALLEL) as pool:
        found = dict(zip(names, in_parallel(pool, storage.read, names), strict=True))
        _take(storage, folder, {name: read and read[0] for name, read in found.items()})
        energy = [name for name in storage.list("logs/") if name.endswith(".gpu.json")]  # the result sums all attempts
        missing = [name for name in energy if not (folder / name).exists()]
        in_parallel(pool, lambda name: storage.bring(name, folder), missing)
        bring_own_state(storage, Job(folder), pool)
        root = Job(folder).checkpoints
        here = _newest_here(root, content=True)
        passed_over = []
        for name in reversed(_complete(storage)):
            if checkpoint.step_of(root / name) <= here:
                break
            reason = _fetch(storage, name, root, pool)
            if reason is None:
                break
            passed_over.append(f"{storage.url}/checkpoints/{name} was passed over: {reason}")
    return passed_over


def pull_checkpoint(storage: S3, folder: Path, name: str) -> None:
    """Brings one complete checkpoint. Raises HeadwayError if it can't be had."""
    root = Job(folder).checkpoints
    if checkpoint.problem(root / name) is None:
        return
    with ThreadPoolExecutor(PARALLEL) as pool:
        reason = _fetch(storage, name, root, pool)
    if reason is not None:
        raise HeadwayError(f"{storage.url}/checkpoints/{name} can't be had: {reason}")


def await_checkpoint(storage: S3, folder: Path, name: str) -> None:
    """Brings a checkpoint, of which each node carries its share there now. Raises HeadwayError if it can't be had."""
    end = time.monotonic() + AWAIT_SECONDS
    while storage.read(f"checkpoints/{name}/{checkpoint.MANIFEST}") is None:
        if time.monotonic() > end:
            raise HeadwayError(f"{storage.url}/checkpoints/{name} did not come within {AWAIT_SECONDS:.0f} s")
        time.sleep(LOOK_SECONDS / 4)
    pull_checkpoint(storage, folder, name)


def newest_common(storage: S3, folder: Path) -> str:
    """The newest checkpoint that is whole both here and on S3; empty if there is none."""
    root = Job(folder).checkpoints
    whole = [name for name in _complete(storage) if checkpoint.problem(root / name, content=False) is None]
    return whole[-1] if whole else ""


def is_up(storage: S3, folder: Path) -> bool:
    """Whether S3 knows all that has happened to the job in this folder: its events are carried after all else."""
    found = storage.read(EVENTS)
    return found is not None and found[0] == _content(folder / EVENTS)


def _take(storage: S3, folder: Path, found: dict[str, bytes | None]) -> None:
    """What is on S3 replaces what is here, except where the folder is ahead: it knows all events that S3 knows and more, or has
    a newer checkpoint."""
    events_here, events_there = _content(folder / EVENTS) or b"", found[EVENTS] or b""
    more_events = len(events_here) > len(events_there) and events_here.startswith(events_there)
    here = _newest_here(Job(folder).checkpoints, content=False)
    ahead = more_events
    if here >= 0 and not ahead:
        ahead = here > max((checkpoint.step_of(Path(name)) for name in _complete(storage)), default=-1)
    for name, there in found.items():
        path = folder / name
        content = _content(path)
        if name == EVENTS:
            keep = more_events or there is None
        elif name in SUBMITTED:
            keep = there is None
        else:
            keep = ahead and content is not None and not (there and there.startswith(content))
        if keep or content == there:
            continue
        if there is None:
            path.unlink()
        elif name == EVENTS and content is not None:
            _write_in_place(path, there)  # the agent's lock is on this very file
        else:
            _write(path, there)


def _fetch(storage: S3, name: str, root: Path, pool: ThreadPoolExecutor) -> str | None:
    """Brings one checkpoint. Returns what is wrong with it, or None."""
    place, target = root / f".{name}.pulled.partial", root / name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        found = storage.read(f"checkpoints/{name}/{checkpoint.MANIFEST}")
        if found is None:
            return "it has no manifest"
        told = json.loads(found[0])
        names = {file: checkpoint.name_on_s3(told, file) for file in told["files"]}

        def fetch(file: str) -> None:
            if not _linked(below(target, file), below(place, file), told["files"][file]):
                storage.bring(f"checkpoints/{name}/{names[file]}", place, file)

        in_parallel(pool, fetch, names)
        (place / checkpoint.MANIFEST).write_bytes(found[0])
        reason = checkpoint.problem(place)
        if reason is None:
            shutil.rmtree(target, ignore_errors=True)
            os.replace(place, target)
        return reason
    except (ValueError, KeyError, TypeError, NotBelow):
        return "its manifest is damaged"
    except (Missing, Damaged) as error:
        return str(error)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _linked(here: Path, target: Path, line: Mapping[str, Any]) -> bool:
    """Takes a file that is here already, if it is the one that the manifest means."""
    if not here.is_file() or checkpoint.digest(here) != line[checkpoint.CHECKSUM]:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    os.link(here, target)
    return True


def _complete(storage: S3) -> list[str]:
    """The checkpoints on S3 that have a manifest, oldest first."""
    parts = [name.split("/") for name in storage.list("checkpoints/")]
    names = {part[1] for part in parts if len(part) == 3 and part[2] == checkpoint.MANIFEST}
    claims = [n for n in names if n.startswith(checkpoint.PREFIX) and n[len(checkpoint.PREFIX) :].isdigit()]
    return sorted(claims, key=lambda name: checkpoint.step_of(Path(name)))


def _newest_here(root: Path, *, content: bool) -> int:
    """The step of the newest whole checkpoint of a folder, or -1."""
    newest = checkpoint.newest(root, content=content).checkpoint
    return checkpoint.step_of(newest) if newest else -1


def _is_live(folder: Path) -> bool:
    """Whether an agent on this machine holds the job: it keeps a lock on events.jsonl while it lives."""
    try:
        with open(folder / EVENTS) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _content(path: Path) -> bytes | None:
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    os.replace(beside, path)


def _write_in_place(path: Path, content: bytes) -> None:
    with open(path, "r+b") as file:
        file.write(content)
        file.truncate()
