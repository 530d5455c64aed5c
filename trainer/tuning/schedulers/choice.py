"""Which scheduler a study has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.tuning.schedulers.scheduler import Scheduler, Stopper
from trainer.tuning.study import Study


def scheduler_of(study: Study, options: Mapping[str, Any]) -> Scheduler:
    """What `scheduler=` means for a study. Raises UserError if it can't be had."""
    if options["name"] == "pbt":
        from trainer.tuning.schedulers.pbt import Population

        return Population(study, options)
    if options["name"] == "asha":
        from trainer.tuning.schedulers.halving import Halving

        return Halving(study, options)
    return Scheduler(study, options) if options["name"] == "none" else Stopper(study, options)
