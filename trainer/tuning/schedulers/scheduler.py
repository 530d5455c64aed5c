"""Which trials stop early, by what they and the others have reported: in a study's storage, and nowhere else.

So a driver that takes a study over decides as the one before would have, and what that one had decided stays decided.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from trainer.errors import UserError
from trainer.job.directory import Job
from trainer.process.format import figure, plural
from trainer.tuning.samplers.default import DEFAULT
from trainer.tuning.study import Study

KEPT = 200  # reports of a trial that are kept in the storage where nobody decides by them
FINE = 1000  # parts of an epoch or a second that reports are told apart by, where they may come between whole ones
STOPPED = "stopped"  # of a trial: why it is to stop, once that is decided
RUNG, WHOLE = "first_rung", "whole_training"  # of the study, once the first report tells


class Scheduler:
    """Stops nobody, but keeps what is reported; and what the schedulers that stop trials have in common.

    options: the node `scheduler` of a study's config.
    """

    population: int | None = None  # trials that train together and are replaced by others, where it needs that

    def __init__(self, study: Study, options: Mapping[str, Any]) -> None:
        self.study, self.options = study, options
        self.name, self.unit = str(options["name"]), str(options["unit"])
        self.fineness = fineness(study.facts)
        self._seconds = limit_of(study.facts)
        self.metric = str(study.facts["metrics"][0])
        self.sign = -1.0 if study.facts["goals"][0] == "max" else 1.0
        if self.name != "none" and len(study.facts["metrics"]) > 1:
            raise UserError(
                f"scheduler={self.name} goes by one metric, and there are {len(study.facts['metrics'])}; "
                f"choose scheduler=none"
            )

    def decide(self, frozen: Any, at: Mapping[str, float], value: float) -> dict[int, str]:
        """Which trials stop now that this one reports a value, by their numbers, and why.

        at: where it is, in steps, epochs and seconds of training; total: its steps in all, if they are known.
        """
        resource = math.floor(at[self.unit] * self.fineness + 1e-6)
        known = self._known(frozen)
        if STOPPED in known.user_attrs:
            self._keep(known, resource, value)
            return {frozen.number: str(known.user_attrs[STOPPED])}
        if self.name != "none" and not math.isfinite(value):
            return {frozen.number: f"{self.metric} is {value}"}
        with self.study.journal.together():
            is_new = self._keep(known, resource, value)
            return self._decide(known, at, resource, value) if is_new else {}

    def _decide(self, frozen: Any, at: Mapping[str, float], resource: int, value: float) -> dict[int, str]:
        return {}

    def spares(self, frozen: Any, at: Mapping[str, float]) -> bool:
        """Whether a trial isn't stopped anyhow: at its end there is nothing left to save, and the default goes to its end."""
        return is_at_end(at, self._seconds) or DEFAULT in frozen.user_attrs

    def successor(self) -> tuple[Any, dict[str, Any]] | None:
        """A new trial in the place of one that was stopped, and its values; None if there is none to be made now."""
        return None

    def goes_on(self) -> bool:
        """Whether there may be a `successor` yet, once all of the study's own trials have begun."""
        return False

    def prepare(self, frozen: Any, job: Job) -> None:
        """What a trial's job begins with, beside its config. Raises UserError if that can't be had."""

    def _known(self, frozen: Any) -> Any:
        return self.study.storage.get_trial(frozen._trial_id)

    def _keep(self, known: Any, resource: int, value: float) -> bool:
        """Whether it is the first report there, which is the one that counts."""
        values = known.intermediate_values
        if resource < 1 or resource in values or not math.isfinite(value):
            return False
        if self.name == "none" and len(values) >= KEPT:
            return False
        self.study.storage.set_trial_intermediate_value(known._trial_id, resource, value)
        return True

    def _ticks(self, amount: float | None) -> int | None:
        """A number of units as reports are counted."""
        return None if amount is None else max(1, round(amount * self.fineness))

    def _shown(self, resource: float) -> str:
        amount = resource / self.fineness
        if amount != int(amount):
            return f"{amount:,.3g} {self.unit}"
        return plural(int(amount), self.unit.removesuffix("s"))

    def _whole(self, at: Mapping[str, float], resource: int) -> int | None:
        """What a whole training takes, as reports are counted: as the first trial that knows its steps tells."""
        if self.unit == "seconds":
            return self._ticks(self._seconds)
        total = at.get("total", math.inf)
        return self._agreed(WHOLE, round(resource * total / at["steps"])) if math.isfinite(total) else None

    def _agreed(self, key: str, value: int) -> int:
        """A number of the study's own: this one, if none was agreed on before."""
        known = self.study.storage.get_study_user_attrs(self.study.optuna._study_id)
        if key not in known:
            self.study.storage.set_study_user_attr(self.study.optuna._study_id, key, value)
        return int(known.get(key, value))


class Stopper(Scheduler):
    """hyperband and median, as Optuna's pruners."""

    def __init__(self, study: Study, options: Mapping[str, Any]) -> None:
        super().__init__(study, options)
        self._pruner: Any = None
        train = study.facts["base"].get("train") or {}
        bounded = train.get("epochs") is not None or train.get("max_steps") is not None
        unknown = self._seconds is None if self.unit == "seconds" else self._seconds is not None and not bounded
        if self.name == "hyperband" and options["max"] is None and unknown:
            raise UserError(
                f"scheduler.max: hyperband needs to know how many {self.unit} a whole training takes; give it a number"
            )

    def _decide(self, frozen: Any, at: Mapping[str, float], resource: int, value: float) -> dict[int, str]:
        if self._pruner is None:
            self._pruner = self._make(at, resource)
        if self._pruner is None or not self._pruner.prune(self.study.optuna, self._known(frozen)):
            return {}
        if self.spares(frozen, at):
            return {}
        reason = f"{self.name}, after {self._shown(resource)} with {self.metric} {figure(value)}"
        self.study.note(frozen, **{STOPPED: reason})
        return {frozen.number: reason}

    def _make(self, at: Mapping[str, float], resource: int) -> Any:
        """The pruner; None as long as it isn't known what it needs."""
        from optuna import pruners

        from trainer.tuning.schedulers.median import MedianPruner

        options = self.options
        if self.name == "median":
            return MedianPruner(
                startup=options["startup"],
                least=self._ticks(options["min"]) or 0,
                interval=self._ticks(options["interval"]) or 1,
            )
        least = self._ticks(options["min"]) or self._agreed(RUNG, resource)
        most = self._ticks(options["max"]) or self._whole(at, resource)
        if most is None:
            return None
        return pruners.HyperbandPruner(
            min_resource=least, max_resource=max(most, least), reduction_factor=options["reduction"]
        )


def is_at_end(at: Mapping[str, float], seconds: float | None) -> bool:
    """Whether a training is at its end there. seconds: its limit, if it has one."""
    return at["steps"] >= at.get("total", math.inf) or at["seconds"] >= (seconds or math.inf)


def fineness(facts: Mapping[str, Any]) -> int:
    """Parts of its unit that a study's reports are told apart by: 1 where whole ones are all that there can be.

    A trial validates after each epoch or round unless `train.validate_every` says otherwise.
    """
    if facts["unit"] == "steps":
        return 1
    train = facts["base"].get("train") or {}
    spaced = "train.validate_every" in (facts.get("space") or {}).get("parameters", {})
    whole = train.get("validate_every") is None and not spaced and str(facts["metrics"][0]).startswith("validation_")
    return 1 if facts["unit"] == "epochs" and whole else FINE


def limit_of(facts: Mapping[str, Any]) -> float | None:
    """The seconds that bound a training, if they do."""
    from trainer.config.schema import seconds

    return seconds((facts["base"].get("train") or {}).get("max_time"), "train.max_time")
