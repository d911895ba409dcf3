"""The law of one layer's squared slopes D² = φ'(h)², h Gaussian: all that a free product needs to know of an activation.

Constant slopes give atoms with their exact probability, everything else the nodes of a Gauss–Legendre rule.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from labkit.theory._derivatives import pieces
from labkit.theory.activations import Activation

__all__ = ["Slopes", "slopes"]

_REACH = 8.5  # standard deviations: 2e-17 of the mass lies beyond
_NODES = 16  # a panel
_SPECK = 1e-65  # of the largest slope: smaller ones count as that, or their reciprocals would overflow
_STILL = 1e-14  # relative to the largest slope: a smaller change over a piece is rounding
_SQRT_PI = math.sqrt(math.pi)

# φ' to all digits also where it is tiny, which differentiating φ does not give.
_EXACT: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": lambda h: h.cosh().square().reciprocal(),
    "erf": lambda h: (-h.square()).exp() * (2 / _SQRT_PI),
    "sigmoid": lambda h: h.sigmoid() * (-h).sigmoid(),
    "softplus": torch.sigmoid,
    "gelu": lambda h: torch.special.ndtr(h) + h * (-h.square() / 2).exp() / math.sqrt(2 * math.pi),
    "silu": lambda h: h.sigmoid() * (1 + h * (-h).sigmoid()),
}


@dataclass(frozen=True)
class Slopes:
    """The law of D² over its largest value, by descending size; K values that D² takes, or nodes of a quadrature.

    Attributes:
        scale: the largest D².
        square: (K,) float64, D²/scale, in [0, 1].
        deficit: (K,), 1 - square, exact where small.
        weight: (K,), probabilities.
        finite: whether D² takes these values only.
        bounded: whether D² stays away from 0, but for the atom there.
    """

    scale: float
    square: Tensor
    deficit: Tensor
    weight: Tensor
    finite: bool
    bounded: bool

    @property
    def zero_mass(self) -> float:
        """The probability of D = 0."""
        return float(self.weight[self.square == 0].sum())


def slopes(activation: Activation, q: float, panels: int) -> Slopes:
    """The law of φ'(√q z)², z ~ N(0, 1); at q = 0 its limit from above.

    Args:
        activation: a name or an elementwise callable.
        q: the variance of the pre-activations, ≥ 0 and finite.
        panels: of the quadrature, over all z; where φ' is constant none are spent.

    Raises:
        ValueError: If φ' vanishes everywhere or is not finite somewhere.
    """
    found = pieces(activation)
    first = _EXACT.get(activation, found.first) if isinstance(activation, str) else found.first
    root = max(math.sqrt(q), 1e-150)  # at 0 the two sides of a kink still count
    cuts = [-math.inf, *(kink / root for kink in found.kinks), math.inf]
    laws = [_piece(first, root, low, high, panels) for low, high in zip(cuts[:-1], cuts[1:], strict=True)]
    slope, weight = (torch.cat(parts) for parts in zip(*laws, strict=True))
    top = float(slope.abs().max())
    if not math.isfinite(top) or top == 0:
        raise ValueError(
            f"activation={activation!r} has slopes between 0 and {top} at q={q:.3g}; a density needs finite ones, not all 0."
        )
    size = slope.abs() / top
    atoms = torch.tensor([law[0].numel() == 1 for law in laws])
    continuous = torch.repeat_interleave(~atoms, torch.tensor([law[0].numel() for law in laws]))
    size = torch.where(continuous, size.clamp(min=_SPECK), size)
    order, inverse = size.unique(return_inverse=True)
    merged = torch.zeros_like(order).index_add_(0, inverse, weight).flip(0)
    order = order.flip(0)
    return Slopes(
        scale=top**2,
        square=order.square(),
        deficit=(1 - order) * (1 + order),
        weight=merged / merged.sum(),
        finite=bool(atoms.all()),
        bounded=bool(atoms.all()) or _bounded(first, top),
    )


def _piece(
    first: Callable[[Tensor], Tensor], root: float, low: float, high: float, panels: int
) -> tuple[Tensor, Tensor]:
    """Slopes and weights of low < z < high: one of each where the slope does not change."""
    mass = _mass(low, high)
    low, high = max(low, -_REACH), min(high, _REACH)
    if mass == 0 or low >= high:
        return torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    count = max(1, math.ceil(panels * (high - low) / (2 * _REACH)))
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(_NODES))
    edges = torch.linspace(low, high, count + 1, dtype=torch.float64)
    half = edges.diff()[:, None] / 2
    z = ((edges[:-1, None] + half) + half * nodes).flatten()
    density = (half * weights).flatten() * (-z.square() / 2).exp()
    slope = first(root * z).detach()
    if float(slope.max() - slope.min()) <= _STILL * float(slope.abs().max()):
        return slope[:1], torch.tensor([mass], dtype=torch.float64)
    return slope, density * (mass / density.sum())


def _mass(low: float, high: float) -> float:
    """P(low < z < high), from the nearer tail."""
    if low > 0:
        low, high = -high, -low
    return 0.5 * (math.erfc(-high / math.sqrt(2)) - math.erfc(-low / math.sqrt(2)))


def _bounded(first: Callable[[Tensor], Tensor], top: float) -> bool:
    """Whether φ' keeps its sign and its distance from 0, up to |h| = 1000."""
    size = torch.logspace(-3, 3, 400, dtype=torch.float64)
    slope = first(torch.cat([-size, size])).detach() / top
    return bool((slope > 1e-4).all() or (slope < -1e-4).all())
