"""What is believed of a study's metric, its constraints and its failures, as Gaussian processes made of its trials."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, qmc

from trainer.tuning.samplers.bayesian.acquisition import Chance, Improvement, Part
from trainer.tuning.samplers.bayesian.encoding import Encoding
from trainer.tuning.samplers.bayesian.gaussian import Gaussian, Metric, Prior, fit
from trainer.tuning.samplers.bayesian.observations import Observations
from trainer.tuning.samplers.bayesian.warping import signed, standard, zoomed

KNOWN = 250  # trials that a process is made of, at most: beyond, a suggestion would take too long
FITTED = 120  # trials, of those, that its hyperparameters are fitted to
FANTASIES = 16  # outcomes that trials under way may have
WASTE = 6.0  # weight of the chance not to fail: a failure tells nothing of the metric
PENDING = 64  # trials under way that count, the latest


@dataclass
class Belief:
    """improvement: on the best so far; None as long as nothing satisfies all constraints. chances: of satisfying each
    constraint, and of not failing."""

    improvement: Improvement | None
    chances: list[Chance]

    @property
    def parts(self) -> list[Part]:
        return [*([] if self.improvement is None else [self.improvement]), *self.chances]


def believed(known: Observations, encoding: Encoding, rng: np.random.Generator) -> Belief:
    """Needs a few values. rng: for outcomes of trials under way, and which of very many trials count."""
    metric, prior = Metric(encoding.unordered, encoding.levels), Prior()
    order = known.best_first()
    violates = (np.nan_to_num(known.constraints) > 0).any(1)
    chosen = _few(order, KNOWN, rng)
    chances = [
        _satisfied(known.rows[chosen], known.constraints[chosen, i], metric, prior, rng)
        for i in range(known.constraints.shape[1])
    ]
    if len(known.failed):
        chances.append(_works(known.rows[chosen], known.failed, metric, prior, rng))
    if violates.all():
        return Belief(None, chances)
    y = standard(zoomed(known.values))[chosen]
    rows = known.rows[chosen]
    process = _process(rows, y, metric, prior, rng)
    mean, _ = process.at(rows[~violates[chosen]])
    return Belief(_with_pending(process, y, float(mean.min()), known.pending[-PENDING:], rng), chances)


def _few(order: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """At most so many indices, best first: half of them the best, the others any."""
    if len(order) <= most:
        return order
    others = rng.choice(order[most // 2 :], most - most // 2, replace=False)
    return np.concatenate([order[: most // 2], others])


def _process(rows: np.ndarray, y: np.ndarray, metric: Metric, prior: Prior, rng: np.random.Generator) -> Gaussian:
    fitted = _few(np.arange(len(rows)), FITTED, rng)
    return Gaussian(rows, y, metric, fit(rows[fitted], y[fitted], metric, prior))


def _satisfied(rows: np.ndarray, values: np.ndarray, metric: Metric, prior: Prior, rng: np.random.Generator) -> Chance:
    seen = np.isfinite(values)
    y, limit = signed(values[seen])
    return Chance(_process(rows[seen], y, metric, prior, rng), limit)


def _works(rows: np.ndarray, failed: np.ndarray, metric: Metric, prior: Prior, rng: np.random.Generator) -> Chance:
    """A trial that failed counts 1, another 0; far from both, what is usual."""
    failed = failed[-KNOWN:]
    labels = np.repeat([0.0, 1.0], [len(rows), len(failed)])
    mean, deviation = labels.mean(), labels.std()
    mixed = rng.permutation(len(labels))  # so that hyperparameters see both
    y = ((labels - mean) / deviation)[mixed]
    return Chance(_process(np.vstack([rows, failed])[mixed], y, metric, prior, rng), (0.5 - mean) / deviation, WASTE)


def _with_pending(
    process: Gaussian, y: np.ndarray, best: float, pending: np.ndarray, rng: np.random.Generator
) -> Improvement:
    """The improvement on what will be the best, over outcomes that trials under way may have."""
    if not len(pending):
        return Improvement(process, np.array([best]))
    mean, covariance = process.joint(pending)
    normal = norm.ppf(qmc.Sobol(len(mean), seed=rng).random(FANTASIES) * 0.998 + 0.001)
    values, vectors = np.linalg.eigh(covariance)
    outcomes = mean[:, None] + (vectors * np.sqrt(np.maximum(values, 0.0))) @ normal.T
    rows = np.vstack([process.rows, pending])
    samples = np.vstack([np.repeat(y[:, None], FANTASIES, axis=1), outcomes])
    return Improvement(Gaussian(rows, samples, process.metric, process.hyper), np.minimum(best, outcomes.min(0)))
