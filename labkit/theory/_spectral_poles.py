r"""Gauss–Legendre means of 1/(1 - uD²) for u as near to the real axis as one likes.

Where uD² passes near 1 the integrand has a pole beside its panel, and the rule is wrong by a known amount: the residue
times what the rule misses of 1/(z - z*). The pole is found on the panel's own interpolant of φ'.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["NODES", "Panels", "rule"]

NODES = 16
_NEWTON = 8
_FAINTEST = -149.0  # log of the slopes over the largest that are told apart
_ELLIPSE = 3.0  # Bernstein's parameter: a pole beyond costs 3^-32


def rule() -> tuple[Tensor, Tensor]:
    """Nodes and weights on [-1, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return torch.from_numpy(nodes), torch.from_numpy(weights)


@dataclass(frozen=True)
class Panels:
    """Where D is not constant: panels in z with φ' on their nodes.

    Attributes:
        edges: (P, 2) ends in z.
        slope: (P, 16), φ' over its largest absolute value.
        factor: (P,), by which e^{-z²/2} is multiplied to be the density of z.
    """

    edges: Tensor
    slope: Tensor
    factor: Tensor

    def miss(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """E[1/(1 - e^s D²)] less its rule, and the derivative of that in s: (N,) complex each."""
        total, change = torch.zeros_like(s), torch.zeros_like(s)
        size = self.slope.abs().log().clamp(min=_FAINTEST)
        reach = 0.6 * (size.amax(1) - size.amin(1))
        level = -s.real[:, None] / 2
        near = (level > size.amin(1) - reach) & (level < size.amax(1) + reach) & (size.amax(1) > _FAINTEST)
        for sign in (1.0, -1.0):
            point, panel = (near & (sign * self.slope > 0).any(1)).nonzero().unbind(1)
            if len(point):
                value, slope = self._pairs(s[point], panel, sign)
                total, change = total.index_add(0, point, value), change.index_add(0, point, slope)
        return total, change

    def _pairs(self, s: Tensor, panel: Tensor, sign: float) -> tuple[Tensor, Tensor]:
        nodes, weights = (v.to(s) for v in rule())
        values = self.slope[panel].to(s)
        first = values @ _DIFFERENTIATE.mT.to(s)
        second = first @ _DIFFERENTIATE.mT.to(s)
        target = sign * (-s / 2).exp()
        start = (values - target[:, None]).abs().argmin(1, keepdim=True)
        x = nodes[start[:, 0]] + (target - values.gather(1, start)[:, 0]) / first.gather(1, start)[:, 0]
        for _ in range(_NEWTON):
            at, rate = _interpolate(x, values), _interpolate(x, first)
            x = x + (target - at) / rate
        at, rate, bend = (_interpolate(x, v) for v in (values, first, second))
        root = (x * x - 1).sqrt()
        inside = torch.maximum((x + root).abs(), (x - root).abs()) < _ELLIPSE
        inside &= (at - target).abs() < 1e-9 * target.abs()
        low, high = self.edges[panel].unbind(1)
        half = (high - low) / 2
        z = (low + high) / 2 + half * x
        curl = rate / at  # d log φ'/dx; the integrand is -1/(2 curl (x - x*)) beside its pole
        density = self.factor[panel] * half * (-z * z / 2).exp()
        gap = nodes - x[:, None]
        missed = ((1 - x) / (-1 - x)).log() - (weights / gap).sum(1)
        missed_rate = -1 / (1 - x) + 1 / (-1 - x) - (weights / gap.square()).sum(1)
        residue = -density / (2 * curl)
        residue_rate = residue * (-z * half - (bend / at - curl * curl) / curl)
        value, slope = residue * missed, -(residue_rate * missed + residue * missed_rate) / (2 * curl)
        return torch.where(inside, value, 0.0), torch.where(inside, slope, 0.0)


def _barycentric() -> Tensor:
    nodes, weights = rule()
    signs = torch.tensor([(-1.0) ** k for k in range(NODES)], dtype=torch.float64)
    return signs * ((1 - nodes.square()) * weights).sqrt()


def _differentiate() -> Tensor:
    nodes, _ = rule()
    gaps = nodes[:, None] - nodes + torch.eye(NODES, dtype=torch.float64)
    matrix = (_BARYCENTRIC / _BARYCENTRIC[:, None]) / gaps * (1 - torch.eye(NODES, dtype=torch.float64))
    return matrix - torch.diag(matrix.sum(1))


_BARYCENTRIC = _barycentric()
_DIFFERENTIATE = _differentiate()


def _interpolate(x: Tensor, values: Tensor) -> Tensor:
    """The polynomial through values (M, 16) on the nodes, at one complex x a row."""
    nodes, _ = rule()
    terms = _BARYCENTRIC / (x[:, None] - nodes)
    return (terms * values).sum(1) / terms.sum(1)
