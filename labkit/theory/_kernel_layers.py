"""Layers as maps of kernels: the lengths and cosines that one layer of an infinitely wide network gives its inputs.

Checks what a user wrote for a layer, so that everything above computes without a second look.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import relu

from labkit.theory._arguments import COSINE, FINITE, grid
from labkit.theory._derivatives import Pieces, pieces
from labkit.theory._gaussian import expectation, pair_expectation, resolved
from labkit.theory.activations import Elementwise

__all__ = [
    "KernelLayer",
    "as_layers",
    "covariance",
    "jumps",
    "mean_of",
    "mean_square",
    "mean_squared_slope",
]

_FAR = 1e60
_REACH = 9.0  # of the Gaussian
_LARGEST = 1e154  # whose square is still finite


@dataclass(frozen=True)
class KernelLayer:
    """W φ(h) + b with `weight` = σ_w² and `bias` = σ_b², or h + α (W φ(h) + b) where `alpha2` = α² is given."""

    act: Pieces
    weight: Tensor
    bias: Tensor
    alpha2: Tensor | None

    def branch(self, covariance: Tensor) -> Tensor:
        """The kernel of the branch, of which a plain layer consists, from E φφ'."""
        return self.weight * covariance + self.bias

    def leave(self, entering: Tensor, branch: Tensor) -> Tensor:
        """The kernel that leaves the layer; W is fresh, so that skip and branch are uncorrelated."""
        return branch if self.alpha2 is None else entering + self.alpha2 * branch

    def length(self, q: Tensor) -> Tensor:
        """q' from q; inf once q is, whatever φ."""
        return torch.where(q.isfinite(), self.leave(q, self.branch(mean_square(self.act, q))), torch.inf)

    def cosine(self, q: Tensor, q_next: Tensor, c: Tensor, covariance: Tensor) -> Tensor:
        """c' from c, where q and q' are finite; what is beyond 1 is rounding, and the derivative stays."""
        turned = self.leave(q * c, self.branch(covariance)) / q_next
        turned = turned - (turned - turned.clamp(-1, 1)).detach()
        return torch.where(q.isfinite() & q_next.isfinite(), turned, torch.nan)


@functools.lru_cache(maxsize=64)
def jumps(act: Pieces) -> bool:
    """Whether φ itself jumps, so that its derivative has a delta, which no quadrature sees."""
    places = torch.tensor(act.kinks, dtype=torch.float64)
    step = 1e-7 * (1 + places.abs())
    left, right = act.phi(places - step), act.phi(places + step)
    climbed = step * (act.first(places - step) + act.first(places + step))
    return bool(((right - left - climbed).abs() > 1e-8 * (1 + left.abs())).any())


def mean_of(function: Elementwise, act: Pieces, q: Tensor) -> Tensor:
    """E f at h = √q z, f ≥ 0 made of φ; nan where φ oscillates too fast to be integrated."""
    return torch.where(resolved(function, q, act.kinks), expectation(function, q, act.kinks), torch.nan)


def mean_square(act: Pieces, q: Tensor) -> Tensor:
    """E φ² at h = √q z; inf where it leaves float64 within the reach of the Gaussian."""
    found = mean_of(lambda h: act.phi(h) ** 2, act, q)
    edge = _REACH * q.detach().sqrt()
    lost = torch.maximum(act.phi(edge).abs(), act.phi(-edge).abs()) > _LARGEST
    return torch.where(found.isnan() & lost, torch.inf, found)


def covariance(act: Pieces, function: Elementwise, q: Tensor, c: Tensor) -> Tensor:
    """E f f' of two pre-activations of variance q and correlation c, f being φ or φ'; nan past q = 1e60."""
    if function is relu:  # the arc-cosine kernel of Cho & Saul 2009
        square = (1 - c) * (1 + c)
        sine = torch.where(square > 0, torch.where(square > 0, square, 1.0).sqrt(), 0.0)
        return q * (sine + c * (torch.pi - torch.atan2(sine, c))) / (2 * torch.pi)
    near = q <= _FAR  # the rule's nodes grow in number with log q, and so does its time
    there = torch.where(near, q, 1.0)
    return torch.where(near, pair_expectation(function, function, there, there, c, act.kinks), torch.nan)


def mean_squared_slope(act: Pieces, q: Tensor) -> Tensor:
    """E φ'² at h = √q z; inf where φ jumps."""
    if jumps(act):
        return torch.where(q > 0, torch.inf, 0.0).to(q)
    return mean_of(lambda h: act.first(h) ** 2, act, q)


def as_layers(layers: Any, **starts: Any) -> Any:
    """The checked layers and the checked starting values `q0`, `c0`, these broadcast to the grid of all numbers."""
    if not isinstance(layers, Iterable):
        raise ValueError(f"layers={layers!r} is no sequence of layers (activation, sigma_w, sigma_b)")
    rows = list(layers)
    if not rows:
        raise ValueError("layers is empty; give at least one (activation, sigma_w, sigma_b)")
    for index, row in enumerate(rows):
        if not isinstance(row, tuple | list) or len(row) not in (3, 4):
            raise ValueError(
                f"layers[{index}]={row!r} is no layer; write (activation, sigma_w, sigma_b), with alpha as a fourth "
                "entry for a residual layer"
            )
    given, ranges = dict(starts), {"c0": COSINE}
    for index, (_, sigma_w, sigma_b, *rest) in enumerate(rows):
        at = f" of layers[{index}]"
        given |= {"sigma_w" + at: sigma_w, "sigma_b" + at: sigma_b}
        if rest and rest[0] is not None:
            given["alpha" + at], ranges["alpha" + at] = rest[0], FINITE
    numbers = dict(zip(given, grid(given, ranges), strict=True))
    known: dict[int, Pieces] = {}  # a callable is searched for kinks once, not once a layer
    sequence = []
    for index, (activation, *_) in enumerate(rows):
        if id(activation) not in known:
            known[id(activation)] = pieces(activation)
        at = f" of layers[{index}]"
        w, b, alpha = numbers["sigma_w" + at], numbers["sigma_b" + at], numbers.get("alpha" + at)
        sequence.append(KernelLayer(known[id(activation)], w**2, b**2, None if alpha is None else alpha**2))
    return sequence, *(numbers[name] for name in starts)
