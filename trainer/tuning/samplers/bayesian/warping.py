"""Values as a Gaussian process likes them: about 0, with variance 1, and no tail of bad ones that hides the good."""

from __future__ import annotations

import numpy as np

LARGEST = 1e100  # of a value; its square is still a number
NEAR = 0.3  # how much better than the best the finest point of the scale is, in distances of the median from the best
FAR = 1e3  # what is that many such distances worse than the best is just bad
SAME = 1e-12  # what differs by less, relative to the values, is equal


def standard(values: np.ndarray) -> np.ndarray:
    """Values less their mean, by their standard deviation; zeros if all are equal."""
    deviation = float(values.std())
    if deviation <= SAME * max(1e-300, float(np.abs(values).max())):
        return np.zeros(len(values))
    return np.asarray((values - values.mean()) / deviation)


def zoomed(values: np.ndarray) -> np.ndarray:
    """Values (n), less being better, on a scale that is the finer the nearer they are to the best.

    The logarithm of the distance from a point a little better than the best, in units of the median's distance; what is
    very much worse than the median is all alike. So neither a loss of 1e6 nor a crowd of bad values hides the
    differences that matter, and the scale follows the search: the nearer it comes, the closer it looks.
    """
    values = np.clip(values, -LARGEST, LARGEST)
    best = float(values.min())
    unit = float(np.median(values)) - best or float(values.max()) - best or 1.0
    return np.asarray(np.log(np.minimum((values - best) / unit, FAR) + NEAR))


def signed(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Values (n) of a constraint, their sizes drawn together, with mean 0 and variance 1; and where 0 has come to lie."""
    size = float(np.median(np.abs(values))) or 1.0
    drawn = np.arcsinh(np.clip(values, -LARGEST, LARGEST) / size)
    deviation = float(drawn.std()) or 1.0
    return (drawn - drawn.mean()) / deviation, -float(drawn.mean()) / deviation
