"""The sampler behind search=bayes: a Gaussian process and Parzen estimators in turn."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial
from scipy.stats import qmc
from threadpoolctl import ThreadpoolController

from trainer.errors import UserError
from trainer.tuning.samplers.bayesian.absence import applied, rules
from trainer.tuning.samplers.bayesian.acquisition import Search, is_taken
from trainer.tuning.samplers.bayesian.belief import believed
from trainer.tuning.samplers.bayesian.encoding import Encoding, axis
from trainer.tuning.samplers.bayesian.observations import Observations, observe

FIRST = 6  # points spread over the space before there is a model
FEWEST = 3  # values that a model needs
PARZEN = 4  # every so manyth suggestion is of Parzen estimators
PARZEN_FEWEST = 10  # values that they need
DRAWS = 8  # of them, at most, for one that is new, allowed and unlikely to fail
SPREAD = 256  # points to choose from while there is no model

ONE_THREAD = ThreadpoolController()  # of the linear algebra that has been imported above
Allowed = Callable[[np.ndarray], bool]


class Bayes(BaseSampler):
    """Suggests what promises the greatest improvement of one metric.

    Three suggestions of four are where a Gaussian process (belief.py, gaussian.py) expects the greatest improvement,
    trials under way, failures and constraints counted in (acquisition.py). The fourth is of Optuna's multivariate TPE
    (Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011), which takes no function to be smooth
    and so finds what the process overlooks in the steps and plateaus of trees, counts and accuracies: on such tasks the
    two together are better than the process alone and than TPE alone (scripts/bench/search.py).

    seed: with a trial's number and the trials before it, all that a suggestion depends on; nothing is kept between
    calls, so another process goes on as this one would. feasible: whether a configuration satisfies the constraints
    between its parameters, without those that have one value only. constraints_func: a trial's constraints, > 0 where
    violated; else they are its user attribute `constraints`.

    Of trials that failed it learns where trials fail. Those stopped early count with what they would have come to, by
    their last value. A parameter that some trials lack is taken to follow the one whose values tell them apart.
    Raises UserError for a study with several metrics.
    """

    def __init__(
        self,
        seed: int,
        *,
        feasible: Callable[[dict[str, Any]], bool] | None = None,
        constraints_func: Callable[[FrozenTrial], Sequence[float]] | None = None,
    ) -> None:
        self.seed, self.feasible, self.constraints_func = seed, feasible, constraints_func

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Every parameter of any trial, as the latest one that has it has it."""
        space: dict[str, BaseDistribution] = {}
        for other in study.get_trials(deepcopy=False):
            space |= other.distributions
        return {name: d for name, d in sorted(space.items()) if not d.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if len(study.directions) > 1:
            raise UserError("search=bayes is for one metric; use search=nsga2 or search=tpe for several")
        if not search_space:
            return {}
        with ONE_THREAD.limit(limits=1):  # how many there are changes the last digits, and with them what follows
            return self._suggested(study, trial, search_space)

    def _suggested(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        encoding = Encoding(search_space)
        others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        maximize = study.direction == StudyDirection.MAXIMIZE
        known = observe(others, encoding, maximize=maximize, constraints_of=self.constraints_func)
        if len(known.values) < FEWEST or len(known.taken) < FIRST:
            return encoding.config(self._spread(encoding, known, trial.number))
        rng = np.random.default_rng([self.seed, trial.number])
        allowed = self._allowed(encoding)
        found = rules(known.rows, known.absent, encoding)
        belief = believed(known, encoding, rng)
        search = Search(
            encoding=encoding,
            parts=belief.parts,
            around=known.rows[known.best_first()[:5]],
            taken=known.taken,
            rng=rng,
            allowed=allowed,
            settled=lambda rows: applied(found, rows, encoding),
        )
        row = None
        if trial.number % PARZEN == PARZEN - 1 and len(known.values) >= PARZEN_FEWEST:
            for config in self._parzen(study, trial, search_space, bool(known.absent.any())):
                row = search.accepted(np.array(encoding.row(config)), belief.chances)
                if row is not None:
                    break
        if row is None:
            row = search.best()
        if row is None:  # all that was looked at has been tried
            row = self._spread(encoding, known, trial.number)
        return encoding.config(row)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Any value: nothing is known of this parameter yet."""
        rng = np.random.default_rng([self.seed, trial.number, zlib.crc32(param_name.encode())])
        a = axis(param_name, param_distribution)
        return a.value(float(rng.integers(a.levels)) if a.unordered else float(rng.random()))

    def _allowed(self, encoding: Encoding) -> Allowed:
        feasible = self.feasible
        return (lambda row: True) if feasible is None else (lambda row: feasible(encoding.config(row)))

    def _spread(self, encoding: Encoding, known: Observations, number: int) -> np.ndarray:
        """The next of points that fill the space evenly, of those that are allowed and, if any is left, not taken."""
        points = qmc.Sobol(encoding.size, seed=np.random.default_rng(self.seed)).random(SPREAD)
        rows = np.roll(encoding.spread(points), -number, axis=0)
        allowed = self._allowed(encoding)
        permitted = [row for row in rows if allowed(row)] or [rows[0]]
        return next((row for row in permitted if not is_taken(row, known.taken)), permitted[0])

    def _parzen(
        self, study: Study, trial: FrozenTrial, space: dict[str, BaseDistribution], conditional: bool
    ) -> Iterator[dict[str, Any]]:
        """Configurations that TPE suggests. conditional: some trials lack some parameters, which TPE's groups allow for."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler = TPESampler(
                seed=zlib.crc32(f"{self.seed} {trial.number}".encode()),
                n_startup_trials=PARZEN_FEWEST,
                multivariate=True,
                constant_liar=True,
                group=conditional,
            )
            if conditional:
                space = sampler.infer_relative_search_space(study, trial)  # finds the groups, too
            for _ in range(DRAWS):
                config = sampler.sample_relative(study, trial, space)
                if config:
                    yield config
