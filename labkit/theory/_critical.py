"""Where a network is critical: χ₁ = 1 at a stable length, as a line in the plane of σ_b and σ_w.

Given q, χ₁ = 1 and V(q) = q fix both: σ_w² = 1/E φ'² and σ_b² = q - E φ²/E φ'².
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from labkit.theory._arguments import NOT_NEGATIVE, between, check, real
from labkit.theory._fixed_points import Lengths, find_fixed_points
from labkit.theory._gaussian import expectation, pieces

__all__ = ["CriticalPoints", "critical_line", "critical_points", "half_stable_ends"]

_HALVINGS = 70
_ROUNDING = 1e-12  # relative to q, of σ_b² where it is a difference of two lengths


@dataclass(frozen=True)
class CriticalPoints:
    """Networks with χ₁ = 1.

    Attributes:
        q: their fixed lengths q*.
        sigma_w: like q; inf where φ' vanishes.
        sigma_b: like q; nan where no bias makes this length critical.
        slope: like q: V'(q*); the length is stable below 1.

    Example:
        >>> found = critical_points("gelu", 8.0)
        >>> found.sigma_w**2, found.slope
        (tensor(1.9568, dtype=torch.float64), tensor(0.9833, dtype=torch.float64))
    """

    q: Tensor
    sigma_w: Tensor
    sigma_b: Tensor
    slope: Tensor


def critical_points(activation: object, q: object) -> CriticalPoints:
    """The critical line by its parameter, the length q* > 0 (Schoenholz et al. 2017); differentiable in q.

    Raises:
        TypeError: for what is no number.
        ValueError: for an unknown activation, or q that is not > 0.

    Example:
        >>> critical_points("tanh", 0.7634747669105).sigma_b
        tensor(0.3000, dtype=torch.float64)
    """
    line = _Line(activation)
    length = real("q", q)
    check("q", length, length > 0, "lengths > 0")
    steep, bias, slope = line.at(length)
    bias = torch.where(bias.abs() <= _ROUNDING * length, 0.0, bias)
    positive = bias > 0
    sigma_b = torch.where(positive, torch.where(positive, bias, 1.0).sqrt(), torch.where(bias == 0, 0.0, torch.nan))
    return CriticalPoints(length, steep.rsqrt(), sigma_b, slope)


def half_stable_ends(activation: object) -> CriticalPoints:
    """Where the critical line ends because V touches the diagonal (V' = χ₁ = 1); (n,), none for most activations.

    On one side of such a point the length is stable, on the other not (Roberts, Yaida & Hanin 2022, ch. 5).

    Example:
        >>> half_stable_ends("gelu").q  # (3 + √17)/2
        tensor([3.5616], dtype=torch.float64)
    """
    line = _Line(activation)
    q, mean, slope = line.lengths.table(torch.device("cpu"))
    steep = line.steepness(q)
    tilt = torch.where((slope / steep - 1).abs() <= _ROUNDING, 0.0, slope / steep - 1)
    has_bias = q - mean / steep > _ROUNDING * q
    turns = (tilt[1:] * tilt[:-1] < 0) & has_bias[1:] & has_bias[:-1]
    left = turns.nonzero()[:, 0]
    return critical_points(activation, _halve(q[left], q[left + 1], lambda at: line.at(at)[2] - 1))


def critical_line(activation: object, sigma_b: object) -> Tensor:
    """The σ_w at which χ₁ = 1 at the length q* that a network settles at, for each σ_b; detached.

    Without bias the length of a critical network is 0 (tanh) or any (ReLU at √2, its only critical point). GELU and
    SiLU are critical at large biases only, from their half-stable ends on.

    Args:
        activation: a name, or any elementwise callable.
        sigma_b: σ_b ≥ 0 of any shape.

    Returns:
        Shaped like σ_b, in float64; nan in the cells that have no critical σ_w.

    Raises:
        TypeError: for what is no number.
        ValueError: if no cell has one, for an unknown activation, and for σ_b that is negative or not finite.

    Example:
        >>> critical_line("tanh", [0.0, 0.3])
        tensor([1.0000, 1.3956], dtype=torch.float64)
    """
    line = _Line(activation)
    given = between("sigma_b", sigma_b, NOT_NEGATIVE).detach()
    sigma_w = line.widths(given.reshape(-1)).reshape(given.shape)
    if given.numel() and sigma_w.isnan().all():
        ends = ", ".join(f"{end:.4g}" for end in half_stable_ends(activation).sigma_b.tolist())
        where = f"its critical line begins near sigma_b = {ends}" if ends else "pass sigma_b = 0, or another activation"
        raise ValueError(
            f"activation={activation!r} has no critical sigma_w for sigma_b from {float(given.min()):g} to "
            f"{float(given.max()):g}; {where}."
        )
    return sigma_w


class _Line:
    """The critical line of one activation."""

    def __init__(self, activation: object) -> None:
        self._pieces = pieces(activation)
        self.lengths = Lengths(self._pieces)

    def steepness(self, q: Tensor) -> Tensor:
        """E φ'²."""
        return expectation(lambda u: self._pieces.first(u) ** 2, q, self._pieces.kinks)

    def at(self, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """E φ'², the squared σ_b and V'(q) of the critical network of length q."""
        steep = self.steepness(q)
        return steep, q - self.lengths.mean(q) / steep, self.lengths.slope(q) / steep

    @torch.no_grad()
    def widths(self, sigma_b: Tensor) -> Tensor:
        """The critical σ_w (n,) for each σ_b, the one of smallest length; nan where there is none."""
        q, _, _ = self.lengths.table(sigma_b.device)
        _, bias, slope = self.at(q)
        excess = bias - sigma_b[:, None] ** 2
        crosses = (excess[:, 1:] * excess[:, :-1] <= 0) & (slope[1:] < 1) & (excess[:, 1:] != excess[:, :-1])
        cell, left = crosses.nonzero(as_tuple=True)
        length = _halve(q[left], q[left + 1], lambda at: self.at(at)[1] - sigma_b[cell] ** 2)
        at_zero = (sigma_b == 0).nonzero()[:, 0] if self.lengths.vanishes else cell[:0]
        cell = torch.cat([at_zero, cell])
        sigma_w = self.steepness(torch.cat([torch.zeros_like(sigma_b[at_zero]), length])).rsqrt()
        reached = self._reached(sigma_w, sigma_b[cell])
        line = torch.full_like(sigma_b, torch.nan)
        for index in reached.nonzero()[:, 0].flip(0).tolist():  # the smallest length last, so that it stays
            line[cell[index]] = sigma_w[index]
        return line

    def _reached(self, sigma_w: Tensor, sigma_b: Tensor) -> Tensor:
        """Whether χ₁ = 1 at the smallest stable length of these networks."""
        points, _ = find_fixed_points(self.lengths, sigma_w**2, sigma_b**2)
        q = torch.where(points.stable, points.q, torch.inf)
        smallest = q.amin(-1) if q.shape[-1] else torch.full_like(sigma_w, torch.inf)
        return (sigma_w**2 * self.steepness(smallest) - 1).abs() <= 1e-6


def _halve(low: Tensor, high: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """A root of `function` in each bracket (k,), by halving."""
    if not len(low):
        return low
    start = function(low)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        ahead = function(middle) * start > 0
        low, high = torch.where(ahead, middle, low), torch.where(ahead, high, middle)
    return (low + high) / 2
