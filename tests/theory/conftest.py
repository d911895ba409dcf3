"""The edge of chaos, found without the library's own solver."""

from collections.abc import Callable

import pytest
import torch
from scipy.optimize import brentq

from labkit.theory._gaussian import expectation, pieces


@pytest.fixture(scope="session")
def critical() -> Callable[[str, float], tuple[float, float]]:
    """The function (activation, σ_b) → σ_w and q* with χ = 1 and q* = σ_w² E φ² + σ_b²."""

    def solve(activation: str, sigma_b: float) -> tuple[float, float]:
        act = pieces(activation)

        def moments(q: float) -> tuple[float, float]:
            at = torch.tensor(q, dtype=torch.float64)
            value, slope = (expectation(lambda h, f=f: f(h) ** 2, at, act.kinks) for f in (act.phi, act.first))
            return value.item(), slope.item()

        def excess(q: float) -> float:
            value, slope = moments(q)
            return q - value / slope - sigma_b**2

        q = brentq(excess, 1e-6, 60.0, xtol=1e-14)
        return moments(q)[1] ** -0.5, q

    return solve
