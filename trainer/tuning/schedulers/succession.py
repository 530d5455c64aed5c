"""A trial that goes on where another one was: a new trial of the study, whose job begins with a checkpoint of that one's.

Such a trial has `parent`, the number of the trial that it goes on from, and `replaces`, that in whose place it comes; it
doesn't count as one of the study's trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.errors import UserError
from trainer.job import checkpoint
from trainer.job.directory import Job
from trainer.tuning.spaces.space import Space
from trainer.tuning.study import Study

TRIES = 5  # checkpoints, before it is given up


def begin(study: Study, space: Space, values: Mapping[str, Any], parent: int, replaces: int, **told: Any) -> Any:
    """The new trial, with its values by config key. It is durable when this returns."""
    storage = study.storage
    with study.journal.together():
        frozen = storage.get_trial(storage.create_new_trial(study.optuna._study_id))
        distributions = space.distributions()
        for name, value in space.stored(values).items():
            internal = distributions[name].to_internal_repr(value)
            storage.set_trial_param(frozen._trial_id, name, internal, distributions[name])
        study.note(frozen, config=dict(values), parent=parent, replaces=replaces, **told)
    return storage.get_trial(frozen._trial_id)


def replaced(study: Study) -> set[int | None]:
    """The numbers of the trials in whose place others came."""
    return {trial.user_attrs.get("replaces") for trial in study.trials()}


def newest(study: Study, parent: Any, before: int | None = None) -> Path | None:
    """A trial's newest checkpoint from which there is something left to train; `before`: of those before that step."""
    job = study.job(parent)
    bounds = [bound for bound in (total_of(job), before) if bound is not None]
    return checkpoint.newest(job.checkpoints, before=min(bounds, default=None), content=False).checkpoint


def take_over(study: Study, frozen: Any, job: Job) -> None:
    """Begins a new trial's job with its parent's newest checkpoint. Raises UserError if that has none that is whole."""
    number = frozen.user_attrs["parent"]
    parent = next(t for t in study.trials() if t.number == number)
    before, why = None, "there is none"
    for _ in range(TRIES):  # the parent may go on meanwhile, and delete old ones
        found = newest(study, parent, before)
        if found is None:
            break
        try:
            checkpoint.clone(found, job.checkpoints, f"trial {number}")
            return
        except (OSError, ValueError) as error:
            before, why = (before, why) if not found.exists() else (checkpoint.step_of(found), str(error))
    raise UserError(f"trial {number} has no checkpoint to go on from: {why}")


def total_of(job: Job) -> int | None:
    """A job's steps in all, as far as they are known."""
    told = (job.progress() or {}).get("total")
    return told or next((event["steps"] for event in reversed(job.events()) if event.get("steps")), None)
