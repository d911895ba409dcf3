"""The law of a layer's squared slopes D² = φ'(h)², h Gaussian: all that a free product needs of an activation.

Constant slopes give atoms with their exact probability, everything else the nodes of a Gauss–Legendre rule.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from labkit.theory._derivatives import pieces
from labkit.theory._spectral_poles import Panels, rule
from labkit.theory.activations import Activation

__all__ = ["Slopes", "slopes"]

_REACH = 8.5  # standard deviations: 2e-17 of the mass lies beyond
_LONGEST = 0.4  # panels, in z
_LONGEST_H = 1.0  # and in h
_GRADES = 6  # halvings towards an extremum or kink
_DEEP = 24  # towards a zero of φ'
_SAMPLES = 1025  # of z, among which extrema and zeros of φ' are looked for
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
        panels: of the quadrature; None where D² takes these values only.
        bounded: whether D² stays away from 0, but for the atom there.
    """

    scale: float
    square: Tensor
    deficit: Tensor
    weight: Tensor
    panels: Panels | None
    bounded: bool

    @property
    def finite(self) -> bool:
        """Whether D² takes these values only."""
        return self.panels is None

    @property
    def zero_mass(self) -> float:
        """The probability of D = 0."""
        return float(self.weight[self.square == 0].sum())


def slopes(activation: Activation, q: float) -> Slopes:
    """The law of φ'(√q z)², z ~ N(0, 1); at q = 0 its limit from above.

    Args:
        activation: a name or an elementwise callable.
        q: the variance of the pre-activations, ≥ 0 and finite.

    Raises:
        ValueError: If φ' vanishes everywhere or is not finite somewhere.
    """
    found = pieces(activation)
    first = _EXACT.get(activation, found.first) if isinstance(activation, str) else found.first
    root = max(math.sqrt(q), 1e-150)  # at 0 the two sides of a kink still count
    cuts = [-math.inf, *(kink / root for kink in found.kinks), math.inf]
    atoms, panels = [], []
    for low, high in pairwise(cuts):
        mass, low, high = _mass(low, high), max(low, -_REACH), min(high, _REACH)
        if mass == 0 or low >= high:
            continue
        samples = torch.linspace(low, high, _SAMPLES, dtype=torch.float64)[1:-1]
        slope = first(root * samples).detach()
        if float(slope.max() - slope.min()) <= _STILL * float(slope.abs().max()):
            atoms.append((slope[:1], torch.tensor([mass], dtype=torch.float64)))
        else:
            panels.append(_cover(lambda z: first(root * z).detach(), samples, slope, mass, low, high, root))
    values = torch.cat([law[0] for law in atoms] + [cover[2].flatten() for cover in panels])
    weights = torch.cat([law[1] for law in atoms] + [cover[1].flatten() for cover in panels])
    top = float(values.abs().max())
    if not math.isfinite(top) or top == 0:
        raise ValueError(
            f"activation={activation!r} has slopes up to {top} at q={q:.3g}; a density needs finite ones, not all 0."
        )
    size = values.abs() / top
    size[len(atoms) :].clamp_(min=_SPECK)
    size, inverse = torch.unique(size, return_inverse=True)
    merged = torch.zeros_like(size).index_add_(0, inverse, weights).flip(0)
    size = size.flip(0)
    return Slopes(
        scale=top**2,
        square=size.square(),
        deficit=(1 - size) * (1 + size),
        weight=merged / merged.sum(),
        panels=_joined(panels, top) if panels else None,
        bounded=not panels or _bounded(first, top),
    )


def _joined(panels: list[tuple[Tensor, Tensor, Tensor, Tensor]], top: float) -> Panels:
    edges, _, slope, factor = (torch.cat(parts) for parts in zip(*panels, strict=True))
    return Panels(edges, slope / top, factor)


def _cover(
    first: Callable[[Tensor], Tensor], samples: Tensor, slope: Tensor, mass: float, low: float, high: float, root: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Panels on which φ' is monotone, short beside its extrema: ends, weights, slopes, factor of the density."""
    turns = (slope.diff()[1:] * slope.diff()[:-1] < 0).nonzero()[:, 0]
    zeros = [_zero(first, samples[k : k + 2]) for k in (slope[1:] * slope[:-1] < 0).nonzero()[:, 0].tolist()]
    ends = sorted({low, *(_turn(first, samples[k : k + 3]) for k in turns.tolist()), *zeros, high})
    longest = min(_LONGEST, _LONGEST_H / root)
    parts = []
    for a, b in pairwise(ends):
        count = 2 * math.ceil((b - a) / (2 * longest))
        inner = torch.linspace(a, b, count + 1, dtype=torch.float64)
        left, right = (
            float(inner[1] - inner[0]) * 0.5 ** torch.arange(1, 1 + grades, dtype=torch.float64)
            for grades in (_DEEP if end in zeros else _GRADES for end in (a, b))
        )
        both = torch.cat([inner, a + left, b - right]).sort().values
        parts.append(torch.stack([both[:-1], both[1:]], 1))
    edges = torch.cat(parts)
    nodes, weights = rule()
    half = edges.diff(dim=1) / 2
    z = edges.mean(1, keepdim=True) + half * nodes
    weight = half * weights * (-z.square() / 2).exp()
    factor = mass / weight.sum()
    return edges, weight * factor, first(z), factor.expand(len(edges))


def _turn(first: Callable[[Tensor], Tensor], around: Tensor) -> float:
    """Where a function has its extremum between three points."""
    low, middle, high = (float(z) for z in around)
    sign = 1.0 if float(first(around)[1] - first(around)[0]) > 0 else -1.0
    for _ in range(12):
        points = torch.linspace(low, high, 17, dtype=torch.float64)
        best = int((sign * first(points)).argmax())
        low, middle, high = (float(points[min(max(best + k, 0), 16)]) for k in (-1, 0, 1))
    return round(middle, 3) + 0.0  # near enough, and 0 where the slope is even: equal nodes merge


def _zero(first: Callable[[Tensor], Tensor], around: Tensor) -> float:
    """Where a function changes its sign between two points."""
    low, high = (float(z) for z in around)
    rising = float(first(around)[1]) > 0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if (float(first(around.new_tensor([middle]))) > 0) == rising else (middle, high)
    return (low + high) / 2


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
