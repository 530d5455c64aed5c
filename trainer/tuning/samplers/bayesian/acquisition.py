"""What to try next: the point that promises the greatest improvement, by what Gaussian processes believe.

Expected improvement (Jones, Schonlau and Welch, "Efficient Global Optimization of Expensive Black-Box Functions", 1998)
by its logarithm, which still has a gradient where the improvement is next to nothing (Ament et al., "Unexpected
Improvements to Expected Improvement for Bayesian Optimization", NeurIPS 2023). Trials under way count by fantasies:
the improvement is the mean over several outcomes that they may have (Snoek, Larochelle and Adams, "Practical Bayesian
Optimization of Machine Learning Algorithms", NeurIPS 2012).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import minimize
from scipy.special import erfcx, log_ndtr, logsumexp
from scipy.stats import qmc

from trainer.tuning.samplers.bayesian.encoding import Encoding
from trainer.tuning.samplers.bayesian.gaussian import Gaussian

SAME = 1e-6  # rows nearer than that in every column are one
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def log_improvement(z: np.ndarray) -> np.ndarray:
    """log(φ(z) + z Φ(z)): the expected improvement of a normal variable that is z deviations better than the best."""
    found = np.empty_like(z)
    near, far = z > -1.0, z < -1e4
    middle = ~(near | far)
    a = z[near]
    found[near] = np.log(np.exp(-0.5 * a * a - HALF_LOG_2PI) + a * np.exp(log_ndtr(a)))
    b = z[middle]
    tail = np.log1p(b * math.sqrt(math.pi / 2) * erfcx(-b / math.sqrt(2)))
    found[middle] = -0.5 * b * b - HALF_LOG_2PI + np.where(np.isfinite(tail), tail, -2.0 * np.log(-b))
    c = z[far]
    found[far] = -0.5 * c * c - HALF_LOG_2PI - 2.0 * np.log(-c)
    return found


@dataclass
class Improvement:
    """The log of the expected improvement on `best` (samples), in the values of the process. Less is better."""

    process: Gaussian
    best: np.ndarray

    def at(self, rows: np.ndarray) -> np.ndarray:
        mean, variance = self.process.at(rows)
        deviation = np.sqrt(variance)[:, None]
        each = log_improvement((self.best - mean) / deviation)
        return np.asarray(np.log(deviation[:, 0]) + logsumexp(each, axis=1) - math.log(each.shape[1]))

    def with_slopes(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, variance = self.process.at(rows)
        deviation = np.sqrt(variance)[:, None]
        z = (self.best - mean) / deviation
        each = log_improvement(z)
        total = logsumexp(each, axis=1, keepdims=True)
        share = np.exp(each - total)
        below = np.exp(log_ndtr(z) - each)  # Φ / h
        density = np.exp(-0.5 * z * z - HALF_LOG_2PI - each)  # φ / h
        by_mean = -share * below / deviation
        by_variance = (share * density).sum(1) / (2.0 * variance)
        found = np.log(deviation[:, 0]) + total[:, 0] - math.log(each.shape[1])
        return found, self.process.slopes(rows, by_mean, by_variance)


@dataclass
class Chance:
    """The log of the probability that the process is at most `limit`, times a weight: how much is lost if it isn't."""

    process: Gaussian
    limit: float
    weight: float = 1.0

    def at(self, rows: np.ndarray) -> np.ndarray:
        mean, variance = self.process.at(rows)
        z = (self.limit - mean[:, 0]) / np.sqrt(variance + self.process.hyper.noise)
        return np.asarray(self.weight * log_ndtr(z))

    def with_slopes(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, variance = self.process.at(rows)
        variance = variance + self.process.hyper.noise
        deviation = np.sqrt(variance)
        z = (self.limit - mean[:, 0]) / deviation
        found = log_ndtr(z)
        by_z = self.weight * np.exp(-0.5 * z * z - HALF_LOG_2PI - found)
        return self.weight * found, self.process.slopes(
            rows, (-by_z / deviation)[:, None], -by_z * z / (2.0 * variance)
        )


Part = Improvement | Chance


def is_taken(row: np.ndarray, taken: np.ndarray) -> bool:
    """Whether the row is one of those."""
    return bool(len(taken)) and bool((np.abs(taken - row).max(1) < SAME).any())


@dataclass
class Search:
    """Looks for the row with the greatest sum of `parts`. around: good rows, best first. taken: rows not to be tried
    again. allowed: whether a row may be tried. settled: changes rows such that equal configurations are equal."""

    encoding: Encoding
    parts: list[Part]
    around: np.ndarray
    taken: np.ndarray
    rng: np.random.Generator
    allowed: Callable[[np.ndarray], bool] = lambda row: True
    settled: Callable[[np.ndarray], np.ndarray] = lambda rows: rows
    spread: int = 512  # rows all over the space
    near: int = 512  # rows near the good ones
    starts: int = 5  # rows that are improved by their gradient
    rows: np.ndarray = field(init=False)
    worth: np.ndarray = field(init=False)

    def best(self) -> np.ndarray | None:
        """The best row that is allowed and not taken; None if none was found."""
        size = self.encoding.size
        self.rows, self.worth = np.empty((0, size)), np.empty(0)
        cube = qmc.Sobol(size, seed=self.rng).random(self.spread)
        self._add(self.encoding.spread(cube))
        if len(self.around):
            self._add(self._near(self.around, self.near))
        self._add(self._climbed(self._starts()))
        for _ in range(2):
            order = np.argsort(-self.worth)[:3]
            self._add(self._neighbours(self.rows[order]))
        for i in np.argsort(-self.worth):
            row = self.rows[i]
            if not is_taken(row, self.taken) and self.allowed(row):
                return row
        return None

    def accepted(self, row: np.ndarray, chances: Sequence[Chance]) -> np.ndarray | None:
        """A row that someone else suggests, if it may be tried and is more likely than not to have each chance."""
        settled = self.settled(row[None].copy())
        if np.isnan(row).any() or is_taken(settled[0], self.taken) or not self.allowed(settled[0]):
            return None
        likely = all(chance.at(settled)[0] > chance.weight * math.log(0.5) for chance in chances)
        return settled[0] if likely else None

    def _at(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(sum(part.at(rows) for part in self.parts))

    def _add(self, rows: np.ndarray) -> None:
        if len(rows):
            rows = self.settled(rows)
            self.rows = np.vstack([self.rows, rows])
            self.worth = np.concatenate([self.worth, self._at(rows)])

    def _near(self, centres: np.ndarray, count: int) -> np.ndarray:
        """Rows that differ from a centre in some columns, by normal steps of several sizes."""
        encoding, rng = self.encoding, self.rng
        chosen = centres[np.minimum(rng.geometric(0.4, count) - 1, len(centres) - 1)]
        moved = rng.random(chosen.shape) < np.maximum(rng.random((count, 1)), 1.0 / encoding.size)
        steps = rng.normal(size=chosen.shape) * 10.0 ** rng.uniform(-3, -0.5, (count, 1))
        rows = np.where(moved, np.clip(chosen + steps, 0.0, 1.0), chosen)
        for i in np.flatnonzero(encoding.unordered):
            other = rng.integers(encoding.levels[i], size=count)
            flip = moved[:, i] & (rng.random(count) < 0.5)
            rows[:, i] = np.where(flip | (chosen[:, i] < 0), other, chosen[:, i])
        return encoding.snapped(rows)

    def _starts(self) -> np.ndarray:
        """The best row, and others drawn by their worth."""
        first = int(np.argmax(self.worth))
        chance = np.exp(self.worth - self.worth[first])
        chance[first] = 0.0
        chosen = [first]
        count = min(self.starts - 1, int((chance > 0).sum()))
        if count:
            chosen += list(self.rng.choice(len(chance), count, replace=False, p=chance / chance.sum()))
        return self.rows[chosen]

    def _climbed(self, rows: np.ndarray) -> np.ndarray:
        """Rows where the gradient leads from each of these, all at once."""
        ordered = ~self.encoding.unordered
        if not ordered.any():
            return rows
        shape = (len(rows), int(ordered.sum()))

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            moved = rows.copy()
            moved[:, ordered] = flat.reshape(shape)
            value, slope = 0.0, np.zeros_like(moved)
            for part in self.parts:
                found, slopes = part.with_slopes(moved)
                value += float(found.sum())
                slope += slopes
            return -value, -slope[:, ordered].ravel()

        bounds = [(0.0, 1.0)] * math.prod(shape)
        found = minimize(
            loss, rows[:, ordered].ravel(), method="L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": 30}
        )
        moved = rows.copy()
        moved[:, ordered] = found.x.reshape(shape)
        return self.encoding.snapped(moved)

    def _neighbours(self, rows: np.ndarray) -> np.ndarray:
        """Rows that differ in one parameter with levels: by another choice, or by a level up or down."""
        found = []
        for i, axis in enumerate(self.encoding.axes):
            if axis.unordered:
                for level in range(axis.levels):
                    changed = rows.copy()
                    changed[:, i] = level
                    found.append(changed[rows[:, i] != level])
            elif axis.levels:
                for step in (-1, 1):
                    changed = rows.copy()
                    changed[:, i] = self.encoding.stepped(i, rows[:, i], step)
                    found.append(changed[changed[:, i] != rows[:, i]])
        return np.vstack(found) if found else rows[:0]
