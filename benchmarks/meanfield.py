"""A 200 × 200 phase diagram of tanh (q*, c*, χ₁, ξ_c) on one core, and a point of it by SciPy's adaptive quadrature.

SciPy's way is that of the papers' scripts: iterate the length map, then the correlation map, with `quad` and `dblquad`.
"""

import math
from collections.abc import Callable

import torch
from scipy.integrate import dblquad, quad

from benchmarks.timing import medians
from labkit.theory.meanfield import MeanField

SIDE = 200
AT_MOST_S, AT_LEAST = 2.0, 1000.0
POINT = 2.5, 0.3
TOLERANCE = 1e-6  # of SciPy's iterations and integrals: far less than what labkit gives


def rows(runs: int = 3) -> list[dict[str, float | str]]:
    """Seconds for the diagram, milliseconds a point of both, their ratio and the largest difference."""
    torch.set_num_threads(1)
    values: list[tuple[float, ...]] = []
    ours = sum(medians([diagram], runs))
    (theirs,) = medians([lambda: values.append(by_scipy(*POINT))], 1)
    mf = MeanField("tanh", *POINT)
    exact = [float(value) for value in (mf.q_star, mf.c_star, mf.chi_1, mf.xi_c)]
    return [
        {
            "diagram_s": ours / 1e3,
            "at_most_s": AT_MOST_S,
            "point_ms": ours / SIDE**2,
            "scipy_point_ms": theirs,
            "ratio": theirs * SIDE**2 / ours,
            "at_least": AT_LEAST,
            "largest_difference": max(abs(a / b - 1) for a, b in zip(values[-1], exact, strict=True)),
        }
    ]


def diagram(side: int = SIDE) -> tuple[torch.Tensor, ...]:
    """q*, c*, χ₁ and ξ_c, each (side, side)."""
    sigma_w, sigma_b = torch.linspace(0.5, 4, side)[:, None], torch.linspace(0, 1.5, side)
    mf = MeanField("tanh", sigma_w, sigma_b)
    return mf.q_star, mf.c_star, mf.chi_1, mf.xi_c


def by_scipy(sigma_w: float, sigma_b: float) -> tuple[float, float, float, float]:
    """The same four numbers of one network, by iteration and adaptive quadrature."""
    options = {"epsabs": TOLERANCE, "epsrel": TOLERANCE}

    def mean(function: Callable[[float], float]) -> float:
        return float(quad(lambda z: function(z) * _density(z), -8, 8, **options)[0])

    def pair(function: Callable[[float], float], q: float, c: float) -> float:
        def integrand(y: float, x: float) -> float:
            first, second = math.sqrt(q) * x, math.sqrt(q) * (c * x + math.sqrt(1 - c * c) * y)
            return function(first) * function(second) * _density(x) * _density(y)

        return float(dblquad(integrand, -8, 8, -8, 8, **options)[0])

    q, change = 1.0, 1.0
    while abs(change) > TOLERANCE * q:
        after = sigma_w**2 * mean(lambda z, q=q: math.tanh(math.sqrt(q) * z) ** 2) + sigma_b**2
        q, change = after, after - q
    chi = sigma_w**2 * mean(lambda z: _slope(math.sqrt(q) * z) ** 2)
    c, change = 0.5, 1.0
    while abs(change) > TOLERANCE:
        after = (sigma_w**2 * pair(math.tanh, q, c) + sigma_b**2) / q
        c, change = after, after - c
    return q, c, chi, -1 / math.log(sigma_w**2 * pair(_slope, q, c))


def _slope(u: float) -> float:
    return 1 - math.tanh(u) ** 2


def _density(z: float) -> float:
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
