"""search=cmaes: Optuna's sampler, whose state is what its trials came to, and nothing beside.

Optuna's own writes its state into the storage as a pickle, which runs code when it is read: whoever can write a study could have that run.
Here the state is derived anew, from the generation that each trial was drawn in.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from optuna.samplers import CmaEsSampler
from optuna.study import StudyDirection


class Evolution(CmaEsSampler):
    """A sampler that keeps and reads no pickles."""

    def _restore_optimizer(self, completed_trials: list[Any]) -> None:
        self._completed = completed_trials

    def _split_optimizer_str(self, optimizer_str: str) -> dict[str, str]:
        return {}

    def _init_optimizer(self, trans: Any, direction: StudyDirection) -> Any:
        """A new one that has been told all whole generations, each as the first trials of it ended."""
        chance = self._cma_rng.rng.get_state()
        optimizer = super()._init_optimizer(trans, direction)
        if any(trial.system_attrs.get(self._attr_key_generation, 0) for trial in self._completed):
            self._cma_rng.rng.set_state(
                chance
            )  # Optuna's own would have been read, not made, and draws the same points
        ordered = sorted(self._completed, key=lambda trial: (trial.datetime_complete or datetime.max, trial.number))
        while optimizer.dim == len(trans.bounds):
            told = self._get_solution_trials(ordered, optimizer.generation)
            if len(told) < optimizer.population_size:
                return optimizer
            sign = 1.0 if direction == StudyDirection.MINIMIZE else -1.0
            optimizer.tell(
                [(trans.transform(t.params), sign * float(t.value or 0.0)) for t in told[: optimizer.population_size]]
            )
        return optimizer
