"""Values as a Gaussian process likes them: about 0, with variance 1, and no tail of bad ones that hides the good."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm, rankdata


def standard(values: np.ndarray) -> np.ndarray:
    deviation = float(values.std())
    return (values - values.mean()) / deviation if deviation > 1e-12 * max(1.0, float(np.abs(values).max())) else values * 0.0


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
    ranks = rankdata(values) - 1.0
    worse = values > middle
    warped = values.copy()
    warped[worse] = middle + deviation * norm.ppf((ranks[worse] + 0.5) / n)
    return warped


def ranked(values: np.ndarray) -> np.ndarray:
    """What normal values of the same ranks would be."""
    return np.asarray(norm.ppf((rankdata(values) - 0.5) / len(values)))
