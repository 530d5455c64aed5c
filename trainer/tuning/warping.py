"""Values as a Gaussian process likes them: about 0, with variance 1, and no tail of bad ones that hides the good."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm


def standard(values: np.ndarray) -> np.ndarray:
    deviation = float(values.std())
    return (
        (values - values.mean()) / deviation
        if deviation > 1e-12 * max(1.0, float(np.abs(values).max()))
        else values * 0.0
    )


def half_ranked(values: np.ndarray) -> np.ndarray:
    """Values (n), less being better, whose worse half is replaced by what normal values of its ranks would be.

    After the warping of Google's Vizier (Song et al., "The Vizier Gaussian Process Bandit Algorithm", 2024).
    """
    n = len(values)
    middle = float(np.median(values))
    good = values[values <= middle]
    deviation = float(np.sqrt(((good - middle) ** 2).mean()))
    if deviation <= 1e-12 * max(1.0, abs(middle)):
        deviation = float(np.abs(values - middle).mean()) or 1.0
    order = values.argsort(kind="stable")
    ranks = np.empty(n)
    ranks[order] = np.arange(n)
    _, first, inverse, counts = np.unique(values, return_index=True, return_inverse=True, return_counts=True)
    tied = np.zeros(len(counts))
    np.add.at(tied, inverse, ranks)
    ranks = (tied / counts)[inverse]
    worse = values > middle
    warped = values.copy()
    warped[worse] = middle + deviation * norm.ppf((ranks[worse] + 0.5) / n)
    return warped


def warped(values: np.ndarray) -> np.ndarray:
    return standard(half_ranked(values))
