"""How a training begins, whatever shape its algorithm has: seeded, from the newest checkpoint, with its deadline."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer.config.schema import seconds
from trainer.errors import UserError
from trainer.job import checkpoint
from trainer.job.account import running_seconds
from trainer.process import clock
from trainer.worker.checkpointing.state import Unfit
from trainer.worker.training.session import Session


def told_of(session: Session, step: int, seconds: float) -> dict[str, Any]:
    """Where it goes on, for the event; and what it could not go on from."""
    passed_over = {"passed_over": session.passed_over} if session.passed_over else {}
    return {"step": step, "seconds": round(seconds, 3), **passed_over}


def begin(session: Session, step: int) -> None:
    """From here on the training runs, and is watched."""
    session.cadence.begin(step)
    session.beat[0] = step
    session.reporter.start(session.config)


def seed_all(seed: int) -> None:
    """Seeds every library that a training may draw from."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def set_deadline(session: Session, *, all_counts: bool = False) -> None:
    """From now on the training time that is left counts; what earlier sessions took is gone. all_counts: also what came to
    nothing, as it was after the newest checkpoint."""
    limit = seconds(session.config["train"]["max_time"], "train.max_time")
    if limit is not None:
        taken = session.reporter.progress.training_seconds
        if all_counts:
            taken = max(taken, session.ranks.broadcast(running_seconds(session.job.events(), clock.now())))
        session.interruption.deadline = time.monotonic() + limit - taken


def resume(session: Session, restore: Callable[[Path, dict[str, Any]], None]) -> tuple[Path | None, bool]:
    """Goes on from the newest complete checkpoint, if there is one; says which it passed over, and why.

    Each worker verifies what it reads while it reads it, and all take up the same checkpoint or pass it over together.
    Returns it, and whether `restore` was called at all.
    """
    ranks, root = session.ranks, session.job.checkpoints
    names: list[str] = []
    own = session.job.id
    if ranks.rank == 0:
        checkpoint.clear_partial(root)
        names = [place.name for place in reversed(checkpoint.listing(root))]
    touched = False
    for name in ranks.broadcast(names):
        folder, reason = root / name, None
        try:
            manifest = checkpoint.read_manifest(folder)
            if own and manifest.get(checkpoint.JOB, own) != own:
                raise ValueError("it is another job's, and was copied here")
            touched = True
            restore(folder, manifest)
        except Unfit as error:
            if checkpoint.ORIGIN in manifest:
                raise UserError(f"it can't go on as {manifest[checkpoint.ORIGIN]} did: {error}") from error
            raise UserError(
                f"{name} is whole, but {error}: the algorithm's code, or a setting of it, is another than then; "
                f"start a new job, or bring that back"
            ) from error
        except (ValueError, OSError) as error:
            reason = str(error)
        reasons = [why for why in ranks.gather(reason) if why]
        if not reasons:
            session.reporter.progress.saved_step = checkpoint.step_of(folder)
            if ranks.rank == 0:
                print(f"goes on from {name}")
            return folder, touched
        if ranks.rank == 0:
            print(f"passed over {name}: {reasons[0]}")
            session.passed_over.append(f"{name}: {reasons[0]}")
    return None, touched
