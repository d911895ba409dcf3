"""Which mean a point stands for, and why there are two."""

import numpy as np
import pytest

from labkit.plots._measured import mean_and_bars


def test_units_move_a_geometric_mean_and_leave_the_length_of_its_bar() -> None:
    samples = np.random.default_rng(0).lognormal(sigma=2, size=(9, 4))
    mean, (below, above) = mean_and_bars(samples, log=True)
    scaled, bars = mean_and_bars(1e6 * samples, log=True)
    np.testing.assert_allclose(scaled, 1e6 * mean)
    np.testing.assert_allclose(bars, 1e6 * np.stack([below, above]))
    np.testing.assert_allclose((mean - below) * (mean + above), mean**2)
    assert (mean > below).all(), "a bar that reached 0 could not be drawn"


@pytest.mark.statistical
def test_a_law_for_an_expectation_is_met_by_the_usual_mean_and_missed_by_the_geometric_one() -> None:
    scatter = 0.5
    samples = np.random.default_rng(1).lognormal(sigma=scatter, size=(40_000, 1))
    expectation = np.exp(scatter**2 / 2)
    mean, bars = mean_and_bars(samples, log=False)
    assert abs(mean[0] - expectation) < bars[0, 0]
    low, far = mean_and_bars(samples, log=True)
    assert abs(low[0] - expectation * np.exp(-(scatter**2) / 2)) < far.max()
    assert low[0] + far[1, 0] < expectation
