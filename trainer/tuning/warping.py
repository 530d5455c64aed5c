"""Values as a Gaussian process likes them: about 0, with variance 1, and no tail of bad ones that hides the good."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm, rankdata

LARGEST = 1e100  # of a value; its square is still a number
SAME = 1e-12  # what differs by less, relative to the values, is equal


def standard(values: np.ndarray) -> np.ndarray:
    """Values less their mean, by their standard deviation; zeros if all are equal."""
    deviation = float(values.std())
    if deviation <= SAME * max(1e-300, float(np.abs(values).max())):
        return np.zeros(len(values))
    return np.asarray((values - values.mean()) / deviation)


def half_ranked(values: np.ndarray) -> np.ndarray:
    """Values (n), less being better, whose worse half is replaced by what normal values of its ranks would be.

    The better half keeps its distances, which is what leads to the minimum; the worse half keeps its order alone. After
    the warping of Google's Vizier (Song et al., "The Vizier Gaussian Process Bandit Algorithm", arXiv 2408.11527, 2024).
    """
    values = np.clip(values, -LARGEST, LARGEST)
    middle = float(np.median(values))
    good = values[values <= middle]
    deviation = float(np.sqrt(((good - middle) ** 2).mean()))
    if deviation <= SAME * max(1e-300, abs(middle)):  # the better half are all alike
        deviation = float(np.abs(values - middle).mean()) or 1.0
    worse = values > middle
    warped = values.copy()
    warped[worse] = middle + deviation * norm.ppf((rankdata(values)[worse] - 0.5) / len(values))
    return warped


def signed(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Values (n) of a constraint, their sizes drawn together, with mean 0 and variance 1; and where 0 has come to lie."""
    size = float(np.median(np.abs(values))) or 1.0
    drawn = np.arcsinh(np.clip(values, -LARGEST, LARGEST) / size)
    deviation = float(drawn.std()) or 1.0
    return (drawn - drawn.mean()) / deviation, -float(drawn.mean()) / deviation
