"""Gaussian processes and what is made of them: their gradients, and what they say where something is known."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.tuning.samplers.bayesian import gaussian
from trainer.tuning.samplers.bayesian.acquisition import Chance, Improvement, Part, log_improvement
from trainer.tuning.samplers.bayesian.gaussian import Gaussian, Hyper, Metric, Prior, fit

RNG = np.random.default_rng(0)
UNORDERED = np.array([False, False, True])
METRIC = Metric(UNORDERED, np.array([0, 0, 3]))
ROWS = np.column_stack([RNG.random((25, 2)), RNG.integers(3, size=25)])
VALUES = np.sin(6 * ROWS[:, 0]) + ROWS[:, 1] * (ROWS[:, 2] == 1) + 0.05 * RNG.standard_normal(25)
VALUES = (VALUES - VALUES.mean()) / VALUES.std()
HYPER = Hyper(np.array([0.3, 0.7, 1.0]), 1.3, 0.01)


def differences(of: object, at: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """The gradient of a function by differences."""
    assert callable(of)
    return np.array([(of(at + step * e) - of(at - step * e)) / (2 * step) for e in np.eye(len(at))])


def test_the_gradient_by_hyperparameters_is_that_of_the_loss() -> None:
    columns, centre, width = METRIC.by_column(ROWS), np.full(5, -0.5), np.full(5, 1.2)
    theta = np.array([-1.0, 0.2, 0.1, 0.3, -3.0])
    _, slopes = gaussian._loss(theta, columns, VALUES, centre, width)
    by_hand = differences(lambda t: gaussian._loss(t, columns, VALUES, centre, width)[0], theta)
    np.testing.assert_allclose(slopes, by_hand, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kind", "samples"), [(Improvement, 1), (Improvement, 4), (Chance, 1)])
def test_the_gradient_of_a_promise_is_that_of_its_value(kind: type, samples: int) -> None:
    shifts = 0.2 * np.random.default_rng(1).standard_normal((25, samples))
    process = Gaussian(ROWS, VALUES[:, None] + shifts, METRIC, HYPER)
    part: Part = Chance(process, 0.3, 2.0) if kind is Chance else Improvement(process, np.full(samples, -1.0))
    at = np.array([[0.21, 0.33, 1.0], [0.77, 0.9, 2.0]])
    value, slopes = part.with_slopes(at)
    np.testing.assert_allclose(value, part.at(at))
    for row, slope in zip(at, slopes, strict=True):
        by_hand = differences(lambda x: part.at(x[None])[0], row)
        np.testing.assert_allclose(slope[:2], by_hand[:2], rtol=1e-4, atol=1e-5)
        assert slope[2] == 0.0


def test_the_log_of_an_improvement_that_is_next_to_nothing() -> None:
    z = np.array([-1e6, -1e4 - 1, -1e4 + 1, -100.0, -37.0, -1.001, -0.999, 0.0, 5.0])
    found = log_improvement(z)
    assert np.isfinite(found).all()
    assert (np.diff(found) > 0).all()
    assert found[-2] == pytest.approx(np.log(1 / np.sqrt(2 * np.pi)))
    assert found[-1] == pytest.approx(np.log(5.0), abs=1e-6)


def test_at_a_known_point_nothing_is_left_to_find_out() -> None:
    process = Gaussian(ROWS, VALUES, METRIC, HYPER)
    mean, variance = process.at(ROWS)
    np.testing.assert_allclose(mean[:, 0], VALUES, atol=0.2)
    assert variance.max() < 1e-3
    _, elsewhere = process.at(np.array([[5.0, 5.0, 0.0]]))
    assert elsewhere[0] == pytest.approx(HYPER.amplitude, rel=1e-3)


def test_parameters_that_make_no_difference_get_long_scales() -> None:
    found = fit(ROWS, (np.sin(6 * ROWS[:, 0]) - 0.1) / 0.7, METRIC, Prior())
    assert found.scales[0] < found.scales[1] / 2
    assert found.scales[0] < found.scales[2] / 2


def test_points_that_coincide_are_no_obstacle() -> None:
    rows = np.repeat(ROWS[:3], 5, axis=0)
    y = np.arange(15) / 5.0
    process = Gaussian(rows, y - y.mean(), METRIC, fit(rows, y - y.mean(), METRIC, Prior()))
    assert np.isfinite(process.at(ROWS)[0]).all()
