"""Which trials stop early: Optuna's pruners, over the reports in a study's storage.

What a pruner knows is in the storage alone, so that a driver which takes a study over decides as the one before would have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from trainer.errors import UserError
from trainer.figures import figure
from trainer.tuning.study import Study

KEPT = 200  # reports of a trial that are kept in the storage where nobody decides by them


class Scheduler:
    """options: the node `scheduler` of a study's config. whole: what a training takes, in its unit, if that is known."""

    def __init__(self, study: Study, options: Mapping[str, Any], whole: float | None) -> None:
        self.study, self.options, self.whole = study, options, whole
        self.name, self.unit = str(options["name"]), str(options["unit"])
        if self.name != "none" and len(study.facts["metrics"]) > 1:
            raise UserError(
                f"scheduler={self.name} goes by one metric, and there are {len(study.facts['metrics'])}; "
                f"choose scheduler=none"
            )
        if self.name == "hyperband" and (options["max"] or whole) is None:
            raise UserError(
                f"scheduler.max: hyperband needs to know how many {self.unit} a whole training takes; give it a number"
            )
        self._first: int | None = None
        self._pruner: Any = None

    def decide(self, frozen: Any, at: Mapping[str, float], value: float) -> str:
        """Whether a trial that reports a value stops, and why; "" if it goes on."""
        resource = math.floor(at[self.unit] + 1e-9)
        storage = self.study.storage
        known = storage.get_trial(frozen._trial_id).intermediate_values
        if resource < 1 or resource in known or (self.name == "none" and len(known) >= KEPT):
            return ""
        with self.study.journal.together():
            storage.set_trial_intermediate_value(frozen._trial_id, resource, value)
            if self.name == "none" or not self._stops(frozen, resource):
                return ""
        metric = self.study.facts["metrics"][0]
        return f"{self.name}, after {resource:,} {self.unit} with {metric} {figure(value)}"

    def _stops(self, frozen: Any, resource: int) -> bool:
        if self._pruner is None:
            self._pruner = self._make(self._least(resource))
        return bool(self._pruner.prune(self.study.optuna, self.study.storage.get_trial(frozen._trial_id)))

    def _least(self, resource: int) -> int:
        """The first rung: as asked, or where the first of all reports was."""
        if self.options["min"] is not None:
            return max(1, math.floor(self.options["min"]))
        firsts = [min(t.intermediate_values) for t in self.study.trials() if t.intermediate_values]
        return min([resource, *firsts])

    def _make(self, least: int) -> Any:
        from optuna import pruners

        options = self.options
        if self.name == "asha":
            return pruners.SuccessiveHalvingPruner(min_resource=least, reduction_factor=options["reduction"])
        if self.name == "hyperband":
            most = math.floor(options["max"] or self.whole or 1)
            return pruners.HyperbandPruner(
                min_resource=least, max_resource=max(most, least), reduction_factor=options["reduction"]
            )
        return pruners.MedianPruner(
            n_startup_trials=options["startup"],
            n_warmup_steps=math.floor(options["min"] or 0),
            interval_steps=max(1, math.floor(options["interval"] or 1)),
        )

    def over(self, frozen: Any, value: float | None) -> None:
        """A trial has ended."""


def whole_training(config: Mapping[str, Any], unit: str) -> float | None:
    """What a job's training takes in a unit, as far as its config tells."""
    train = config["train"]
    if unit == "steps":
        return None if train["max_steps"] is None else float(train["max_steps"])
    if unit == "seconds":
        from trainer.config import seconds

        return seconds(train["max_time"], "train.max_time")
    if train["epochs"] is None and train["max_steps"] is None and train["max_time"] is None:
        from trainer.config import DEFAULT_EPOCHS

        return float(DEFAULT_EPOCHS)
    return None if train["epochs"] is None else float(train["epochs"])
