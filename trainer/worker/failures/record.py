"""A worker's error as a record for the agent: what, where in whose code, and whether it is the cause or a consequence."""

from __future__ import annotations

import contextlib
import errno
import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from trainer.config.schema import load
from trainer.config.secret import masked
from trainer.errors import HeadwayError, LateWorker, LostWorker, UserError
from trainer.job import checkpoint
from trainer.job.directory import Job, write_json
from trainer.process import shared_memory
from trainer.worker.failures import out_of_memory

LITTLE_SPACE = 1 << 14  # bytes free on a disk that is as good as full
# how the backends say that another worker is gone
LOST_PEER = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "remote process exited",
    "Application timeout caused pair closure",
)
# and how, that one is there and does not come
TIMED_OUT = ("Timed out waiting", "collective operation timeout")


def is_lost_peer(error: BaseException) -> bool:
    return isinstance(error, LostWorker) or any(words in str(error) for words in LOST_PEER)


def is_time_out(error: BaseException) -> bool:
    """Whether a collective has waited for too long."""
    if isinstance(error, LateWorker):
        return error.timed_out
    return not isinstance(error, HeadwayError) and any(words in str(error) for words in TIMED_OUT)


def record(error: BaseException, rank: int, job: Job, attempt: int) -> None:
    """Writes the error where the agent looks for it, on a full disk too, and its trace to the log."""
    description = describe(error, rank, job, attempt)
    if description["no_space"]:
        checkpoint.clear_partial(job.checkpoints)
        job.reserve.unlink(missing_ok=True)
    write_json(job.error_path(attempt, rank), description)
    with contextlib.suppress(OSError):  # the log may lie on the full disk
        sys.stderr.write(masked("".join(traceback.format_exception(error))))
        sys.stderr.flush()


def describe(error: BaseException, rank: int, job: Job, attempt: int) -> dict[str, Any]:
    """The record: time, type, message (one line), rank, where, log, user_error, final, lost_peer, timed_out, no_space.

    final: the same would happen again. lost_peer: others are to blame; timed_out: as they did not come.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = _own_frame(frames, job)
    lines = str(error).strip().splitlines()
    message = lines[0] if lines else type(error).__name__
    no_shared = _is_no_shared_memory(error)
    no_space = not no_shared and _is_no_space(error, job)
    if no_shared:
        message = shared_memory.told()
    elif no_space:
        message = f"no space left on the disk of {job.dir}; free some, and the same command goes on from there"
    no_memory = not no_space and not no_shared and out_of_memory.ran_out(error)
    if no_memory:
        with contextlib.suppress(Exception):  # there is little memory to say it with
            message = out_of_memory.explain(error, job)
    lost_worker = isinstance(error, LostWorker)
    ours = (isinstance(error, HeadwayError) and not lost_worker) or no_space or no_shared
    return {
        "time": time.time(),
        "type": "OutOfMemory" if no_memory else "HeadwayError" if no_shared else type(error).__name__,
        "message": masked(message),
        "rank": rank,
        "where": f"{own.filename}:{own.lineno} in {own.name}" if own and not ours else None,
        "log": str(job.log_path(attempt, rank)),
        "user_error": isinstance(error, UserError),
        "final": ours or no_memory,
        "lost_peer": lost_worker or (not ours and not no_memory and (is_lost_peer(error) or is_time_out(error))),
        "timed_out": is_time_out(error),
        "no_space": no_space,
    }


def _is_no_shared_memory(error: BaseException) -> bool:
    """Whether /dev/shm was too small: what filled it is mostly gone by now, but libraries name it."""
    if isinstance(error, HeadwayError):
        return False
    text = str(error)
    return (_says_no_space(error) or "Bus error" in text) and (
        shared_memory.is_meant(text) or (shared_memory.is_full() and getattr(error, "filename", None) is None)
    )


def _says_no_space(error: BaseException) -> bool:
    return getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)


def _is_no_space(error: BaseException, job: Job) -> bool:
    """Libraries wrap the system's error each in its own, so the disk is asked too."""
    if isinstance(error, HeadwayError):
        return False
    return _says_no_space(error) or shutil.disk_usage(job.dir).free < LITTLE_SPACE


def _own_frame(frames: list[traceback.FrameSummary], job: Job) -> traceback.FrameSummary | None:
    """The innermost frame of whose code it is: the algorithm's package, else what is neither trainer nor a library."""
    with contextlib.suppress(Exception):  # the config may be what is wrong
        package = str(load(job.config_path)["algorithm"]["_target_"]).partition(".")[0]
        file = Path(str(sys.modules[package].__file__))
        place = f"{file.parent}/" if file.name == "__init__.py" else str(file)
        named = [f for f in frames if f.filename.startswith(place)]
        if named and _is_ours(place):
            return named[-1]
    outside = [f for f in frames if not _is_ours(f.filename)]
    return outside[-1] if outside else (frames[-1] if frames else None)


def _is_ours(filename: str) -> bool:
    """Frames of the trainer and of installed libraries: seldom where a user's mistake is."""
    here = str(Path(__file__).resolve().parents[2])
    return filename.startswith((here, "<")) or "site-packages" in filename or filename.startswith(sys.base_prefix)
