"""What a script has on S3 of its own while it runs: its checkpoints, where SageMaker is told to keep them, and its output/intermediate.

algorithm.checkpoint_local_path              where the script has its checkpoints, /opt/ml/checkpoints if not told otherwise
algorithm.checkpoint_s3_uri                  where they are kept as well, and brought from at the start; deletions too
hyperparameters.sagemaker_s3_output          below it, in JOB/output/intermediate, goes output/intermediate; deletions don't
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path, PurePosixPath
from typing import Any

from algorithms.script.contract import Container
from trainer.algorithm import Context
from trainer.errors import UserError

ML = "/opt/ml"
USUAL = f"{ML}/checkpoints"
TAKEN = tuple(f"{ML}/{name}" for name in ("code", "model", "input", "output"))
OUTPUT = "sagemaker_s3_output"
S3 = "s3://"
FINISH_SECONDS = 600.0  # for what is not on S3 at the end, if nobody presses


def check(local_path: str, uri: str | None, output: Any) -> None:
    """Raises UserError for places that can't be had."""
    path = PurePosixPath(local_path)
    if not path.is_absolute() or ".." in path.parts or len(path.parts) < 3:
        raise UserError(f"algorithm.checkpoint_local_path: {local_path!r} is no folder such as {USUAL}")
    if local_path.rstrip("/") == ML or any(path.is_relative_to(taken) for taken in TAKEN):
        raise UserError(f"algorithm.checkpoint_local_path: {local_path} holds something else; choose {USUAL}")
    if uri is not None and not (uri.startswith(S3) and "/" in uri[len(S3) :].strip("/")):
        raise UserError(f"algorithm.checkpoint_s3_uri: {uri!r} is not a folder on S3; write {S3}BUCKET/FOLDER")
    if output is not None and not str(output).startswith((f"{S3}", "file://")):
        raise UserError(f"algorithm.hyperparameters.{OUTPUT}: {output!r} is no address; write {S3}BUCKET/FOLDER")


def inside(local_path: str) -> str:
    """Where a folder of /opt/ml is below a container's own; "" for one that is elsewhere."""
    path = PurePosixPath(local_path)
    return str(path.relative_to(ML)) if path.is_relative_to(ML) else ""


def shown(root: Path, local_path: str) -> str:
    """Where a script finds its checkpoints."""
    return str(root / inside(local_path)) if inside(local_path) else local_path


def link(one: Container, local_path: str, kept: Path) -> None:
    """Gives a container its checkpoints where they are to be, if that is another place below it than the usual one."""
    place = one.root / inside(local_path)
    if inside(local_path) and place != one.checkpoints:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(kept, target_is_directory=True)


class Kept:
    """What one host keeps on S3. Begins at once; raises HeadwayError if the checkpoints can't be brought."""

    def __init__(self, script: Any, context: Context, one: Container, *, fetches: bool) -> None:
        self._uploads: list[Any] = []
        if script.checkpoint_s3_uri and fetches:
            folder = Path(os.path.realpath(one.checkpoints))
            url = script.checkpoint_s3_uri.rstrip("/")
            with context.busy(f"bringing the script's checkpoints from {url}"):
                self._uploads.append(context.upload(folder, url, fetch=True, exact=True))
        output = str(script.hyperparameters.get(OUTPUT) or "")
        if output.startswith(S3):
            url = f"{output.rstrip('/')}/{one.job_name}/output/intermediate"
            self._uploads.append(context.upload(one.output / "intermediate", url))

    def finish(self, context: Context) -> None:
        """Once the scripts have ended."""
        for upload in self._uploads:
            left = context.seconds_left()
            with context.busy("bringing what the script has left to S3"):
                problem = upload.finish(FINISH_SECONDS if left is None else max(1.0, left - 1.0))
            if problem:
                context.note(problem)
        self._uploads.clear()


def shares_folder(context: Context, kept: Path) -> bool:
    """Whether rank 0's folder of checkpoints is this worker's too. Call it on every worker at once."""
    mark = kept / context.broadcast(f".headway-{os.urandom(8).hex()}")
    if context.rank == 0:
        kept.mkdir(parents=True, exist_ok=True)
        mark.touch()
    context.barrier()
    shared = mark.exists()
    context.barrier()
    if context.rank == 0:
        with contextlib.suppress(OSError):
            mark.unlink()
    return shared
