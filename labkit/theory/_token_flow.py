"""The clustering flow of equiangular tokens in the variable that makes its speed a sigmoid, and its exact integral.

s = log((1+(n-1)ρ)/(1-ρ)) runs over the whole line; ρ = -1/(n-1) lies at -∞ and ρ = 1 at ∞.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["distance", "elapsed", "journey", "put", "within"]

Array = Any

_END = 700.0  # ρ = 1 in float64 long before
_WARM = 1e-20  # below, e^{βu} is 1
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


def put(cosine: Tensor, n: Tensor) -> Tensor:
    """s at a cosine; ±inf within rounding of the fixed points."""
    s = torch.log1p((n - 1) * cosine) - torch.log1p(-cosine)
    return torch.where(1 + (n - 1) * cosine <= 1e-15, -math.inf, torch.where(cosine >= 1, math.inf, s))


def distance(start: Tensor, cosine: Tensor, n: Tensor) -> Tensor:
    """The distance in s from one cosine to another, without the cancellation of two near ones."""
    step, whole = cosine - start, put(cosine, n) - put(start, n)
    near = torch.log1p((n - 1) * step / (1 + (n - 1) * start)) - torch.log1p(-step / (1 - start))
    return torch.where(whole < 0.5, near, whole)


def within(s: Array, n: Array) -> Array:
    """The cosine at s, ≤ 700."""
    grown = np.expm1(s)
    return grown / (grown + n)


def elapsed(begin: Array, way: Array, n: Array, beta: Array) -> Array:
    """The time from s = begin to s = begin + way, ∫ (n - 1 + e^{βu}) ds / (2n) with u = 1 - ρ = n / (e^s + n - 1).

    Partial fractions in u leave exponential integrals; on a short way these cancel, and sixteen nodes are exact.
    All arrays are (m,), finite.
    """
    integral = np.array(way)
    short = way * np.maximum(beta, 1) <= 1
    for which, rule in ((short, _by_nodes), (~short & (beta > _WARM), _by_exponential_integrals)):
        integral[which] = rule(begin[which], way[which], n[which], beta[which])
    return ((n - 1) * way + integral) / (2 * n)


def _by_nodes(begin: Array, way: Array, n: Array, beta: Array) -> Array:
    half, tokens = way[:, None] / 2, n[:, None]
    gaps = tokens / (np.exp(begin[:, None] + half * (1 + _NODES)) + tokens - 1)
    return (half * np.exp(beta[:, None] * gaps)) @ _WEIGHTS


def _by_exponential_integrals(begin: Array, way: Array, n: Array, beta: Array) -> Array:
    from scipy.special import expi

    def primitive(s: Array) -> Array:
        total = np.logaddexp(s, np.log(n - 1))
        u, rest = n * np.exp(-total), n / (n - 1) * np.exp(s - total)  # 1 - ρ, and n/(n-1) less that
        return np.exp(beta * n / (n - 1)) * expi(-beta * rest) - expi(beta * u)

    return primitive(begin + way) - primitive(begin)


def journey(time: Array, begin: Array, n: Array, beta: Array) -> Array:
    """The way from s = begin in a time, (m,): Newton from below on a concave function, in a bracket that halves."""

    def pace(s: Array, n: Array, beta: Array) -> Array:
        return (n - 1 + np.exp(beta * n / (np.exp(s) + n - 1))) / (2 * n)

    time = np.minimum(time, 1e290)  # more than e^600, the longest wait
    low = np.minimum(time / pace(begin, n, beta), _END - begin)
    high = np.clip(2 * np.minimum(time, _END), low, _END - begin)
    way, active = np.array(low), np.flatnonzero(time > 0)
    for _ in range(100):
        t, b, m, cold, here = time[active], begin[active], n[active], beta[active], way[active]
        miss = elapsed(b, here, m, cold) - t
        low[active], high[active] = np.where(miss < 0, here, low[active]), np.where(miss > 0, here, high[active])
        newton = here - miss / pace(b + here, m, cold)
        inside = (newton >= low[active]) & (newton <= high[active])
        way[active] = np.where(inside, newton, (low[active] + high[active]) / 2)
        active = active[(np.abs(miss) > 2e-16 * t) & (np.abs(way[active] - here) > 2e-16 * np.abs(here))]
        if not len(active):
            break
    return way
