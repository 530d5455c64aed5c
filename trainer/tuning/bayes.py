"""The sampler behind search=bayes: Bayesian optimization with a Gaussian process."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import norm, qmc

from trainer.tuning.acquisition import Chance, Improvement, Part, Search
from trainer.tuning.encoding import Encoding, axis
from trainer.tuning.gaussian import Gaussian, Hyper, Metric, Prior, fit
from trainer.tuning.observations import Observations, observe
from trainer.tuning.warping import half_ranked, ranked, standard

FIRST = 6  # trials before there is a model
FANTASIES = 16
KNOWN = 300  # trials that a model is made of, at most
FITTED = 150  # of these, the ones from which hyperparameters are fitted
OPTIONS: dict[str, Any] = {}


class Bayes(BaseSampler):
    def __init__(
        self,
        seed: int,
        *,
        feasible: Callable[[dict[str, Any]], bool] | None = None,
        constraints_func: Callable[[FrozenTrial], Sequence[float]] | None = None,
    ) -> None:
        self.seed, self.feasible, self.constraints_func = seed, feasible, constraints_func

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        space: dict[str, BaseDistribution] = {}
        for other in study.get_trials(deepcopy=False):
            space |= other.distributions
        return {name: d for name, d in sorted(space.items()) if not d.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        encoding = Encoding(search_space)
        others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        known = observe(
            others,
            encoding,
            maximize=study.direction == StudyDirection.MAXIMIZE,
            constraints_of=self.constraints_func,
        )
        rng = np.random.default_rng([self.seed, trial.number])
        row = None
        every = OPTIONS.get("tpe", 0)
        if every and trial.number % every == every - 1 and len(known.values) >= 10:
            tpe = TPESampler(seed=self.seed * 1000003 + trial.number, n_startup_trials=5)
            return tpe.sample_relative(study, trial, search_space)
        if len(known.values) >= 3 and len(known.taken) >= FIRST:
            row = self._promising(encoding, known, rng, trial.number)
        if row is None:
            row = self._spread(encoding, known, trial.number)
        return encoding.config(row)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        rng = np.random.default_rng([self.seed, trial.number, zlib.crc32(param_name.encode())])
        a = axis(param_name, param_distribution)
        return a.value(float(rng.integers(a.levels)) if a.unordered else float(rng.random()))

    def _allowed(self, encoding: Encoding) -> Callable[[np.ndarray], bool]:
        feasible = self.feasible
        return (lambda row: True) if feasible is None else (lambda row: feasible(encoding.config(row)))

    def _spread(self, encoding: Encoding, known: Observations, number: int) -> np.ndarray:
        cube = qmc.Sobol(encoding.size, seed=np.random.default_rng(self.seed)).random(256)
        rows = encoding.spread(np.roll(cube, -number, axis=0))
        allowed = self._allowed(encoding)
        for row in rows:
            if allowed(row):
                return row
        return rows[0]

    def _promising(self, encoding: Encoding, known: Observations, rng: np.random.Generator, number: int) -> np.ndarray | None:
        metric = Metric(encoding.unordered, encoding.levels)
        order = known.best_first()
        parts: list[Part] = []
        warps = OPTIONS.get("warps", (half_ranked, ranked))
        y = standard(warps[number % len(warps)](known.values))
        shift = OPTIONS.get("shift", 0.7) * rng.standard_normal(encoding.size + 2)
        fits = [fit(known.rows, y, metric, OPTIONS.get("prior", Prior()), rough, shift) for rough in OPTIONS.get("rough", (False, True))]
        least = min(f.loss for f in fits)
        odds = np.exp([least - f.loss for f in fits])
        hyper = fits[rng.choice(len(fits), p=odds / odds.sum())]
        process = Gaussian(known.rows, y, metric, hyper)
        mean, _ = process.at(known.rows)
        best = float(mean.min())
        parts.append(self._with_pending(process, known, y, best, rng))
        search = Search(
            encoding, parts, [1.0] * len(parts), known.rows[order[:5]], known.taken, rng, self._allowed(encoding)
        )
        return search.best()

    def _with_pending(
        self, process: Gaussian, known: Observations, y: np.ndarray, best: float, rng: np.random.Generator
    ) -> Improvement:
        if not len(known.pending):
            return Improvement(process, np.array([best]))
        mean, covariance = process.joint(known.pending)
        normal = norm.ppf(qmc.Sobol(len(mean), seed=rng).random(FANTASIES) * 0.998 + 0.001)
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        outcomes = mean[:, None] + root @ normal.T
        rows = np.vstack([known.rows, known.pending])
        all_y = np.vstack([np.repeat(y[:, None], FANTASIES, axis=1), outcomes])
        fantasized = Gaussian(rows, all_y, process.metric, process.hyper)
        return Improvement(fantasized, np.minimum(best, outcomes.min(0)))
