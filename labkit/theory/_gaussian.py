"""Gaussian means of elementwise functions, of one and two variables, on whole grids of variances at once.

The trapezoid rule for smooth functions, panels of Gauss–Legendre between kinks and where √q outgrows the trapezoid;
never Gauss–Hermite, whose nodes miss what a saturating activation does at large q.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from labkit.theory._derivatives import Pieces, derivative, pieces
from labkit.theory.activations import Elementwise

__all__ = ["Pieces", "derivative", "expectation", "pair_expectation", "pieces"]

_REACH = 9.0  # of z: the Gaussian has 1e-18 of its mass beyond
_INTERVALS = 360  # of the trapezoid rule up to q = 16, 0.05 long; in proportion to √q above
_LARGE = 400.0  # q beyond which panels are cheaper
_NODES = 40  # of a panel
_KINKED, _SMOOTH = (16.0, 4.0), (8.0, 2.0)  # length in u of the panels next to a place, and growth of those behind
_FAR = 1e6  # of z: breaks beyond are as good as there
_WINDOW = 9.0  # standard deviations within which a smoothed kink is one
_TINY = 1e-200  # stands for √0 beside a kink: its square is 0, its sign is kept
_AT_ONCE = 2**17  # function values computed together: they fit a cache


def expectation(function: Elementwise, q: object, kinks: tuple[float, ...] = (), refine: int = 1) -> Tensor:
    """E f(√q z) over z ~ N(0, 1).

    At q = 0 a function without kinks is taken at 0, one with a kink there by the mean of its two sides, the limit from
    above. Relative error about 1e-13 for functions of u = √q z that vary on the scale of 1, at any q.

    Args:
        function: vectorised and elementwise.
        q: variances ≥ 0 of any shape.
        kinks: where f, or one of its first three derivatives, jumps.
        refine: multiplies the number of nodes, for tests.

    Returns:
        Shaped like q, in float64 on its device, nan where q is not finite; differentiable in q > 0 and in what the
        function closes over (its derivative in q reads 0 at q = 0).

    Example:
        >>> expectation(torch.square, torch.tensor([0.0, 1.0, 4.0]))
        tensor([0., 1., 4.], dtype=torch.float64)
    """
    given = _float64(q)
    flat = given.reshape(-1)
    rule = _Rule.of(flat, kinks, refine)
    found = []
    for part in flat.split(max(1, _AT_ONCE // rule.size(1))):
        root = _root(part, kinks)[:, None]
        z, weights = rule.nodes(rule.breaks(root))
        found.append((weights * function(root * z)).sum(-1))
    return torch.where(flat.isfinite(), torch.cat(found), torch.nan).reshape(given.shape)


def pair_expectation(
    f: Elementwise,
    g: Elementwise,
    q1: object,
    q2: object,
    c: object,
    kinks: tuple[float, ...] = (),
    refine: int = 1,
) -> Tensor:
    """E f(u₁) g(u₂) for Gaussian u₁, u₂ of variances q₁, q₂ and correlation c.

    u₁ = √q₁ z₁ outside, and inside it the mean of g(u₂) given z₁, where u₂ = √q₂ (c z₁ + √(1-c²) z₂). Panels end at the
    kinks of f and at those of g, and close in on the latter as c → ±1, where the inner mean turns into g itself.

    Args:
        f: vectorised and elementwise; so is g.
        g: the other function.
        q1: variances ≥ 0; q1, q2 and c broadcast.
        q2: variances ≥ 0.
        c: correlations in [-1, 1].
        kinks: where f, g, or one of their first three derivatives, jumps.
        refine: multiplies the number of nodes, for tests.

    Returns:
        The broadcast shape, in float64, nan where an argument is not finite; differentiable in q₁, q₂ > 0 and c, at
        c = ±1 in c only once.

    Example:
        >>> relu = pieces("relu")
        >>> pair_expectation(relu.phi, relu.phi, 2.0, 2.0, [0.0, 1.0], relu.kinks)  # 1/π and 1
        tensor([0.3183, 1.0000], dtype=torch.float64)
    """
    first, second, corr = torch.broadcast_tensors(*(_float64(value) for value in (q1, q2, c)))
    shape = corr.shape
    first, second, corr = (value.reshape(-1) for value in (first, second, corr))
    rule = _Rule.of(torch.cat([first, second]), kinks, refine)
    edge = (corr.abs() == 1) & corr.requires_grad
    inside = torch.where(edge, corr.detach(), corr)
    step = max(1, 4 * _AT_ONCE // (rule.size(1) * rule.size(2)))
    parts = zip(*(value.split(step) for value in (first, second, inside)), strict=True)
    found = torch.cat([_pair(f, g, *part, kinks, rule) for part in parts])
    if edge.any():  # Price's theorem, for the rule itself has no derivative in c there
        lengths, at = (first * second).detach().sqrt(), corr.detach()
        slope = pair_expectation(derivative(f), derivative(g), first.detach(), second.detach(), at, kinks, refine)
        found = found + torch.where(edge, (corr - at) * lengths * slope, 0.0)
    finite = first.isfinite() & second.isfinite() & corr.isfinite()
    return torch.where(finite, found, torch.nan).reshape(shape)


def _pair(
    f: Elementwise, g: Elementwise, q1: Tensor, q2: Tensor, c: Tensor, kinks: tuple[float, ...], rule: "_Rule"
) -> Tensor:
    """The double integral of `pair_expectation` for (m,) triples."""
    root1, root2, c = _root(q1, kinks)[:, None], _root(q2, kinks)[:, None], c[:, None]
    square = (1 - c) * (1 + c)
    s = torch.where(square > 0, torch.where(square > 0, square, 1.0).sqrt(), 0.0)
    slant = torch.where(c == 0, _TINY, c)  # zero divides nothing: the kinks of g then lie beyond every panel
    spread = torch.where(s > 0, s, _TINY)
    smoothed = rule.breaks(root2, slant, window=_WINDOW * s / slant.abs())
    z1, weights1 = rule.nodes(torch.cat([rule.breaks(root1), smoothed], -1))
    shift = (c * z1)[..., None]
    z2, weights2 = rule.nodes(rule.breaks(root2[..., None], spread[..., None], shift))
    inner = (weights2 * g(root2[..., None] * (shift + s[..., None] * z2))).sum(-1)
    return (weights1 * f(root1 * z1) * inner).sum(-1)


@dataclass(frozen=True)
class _Rule:
    """Where panels end, for all variances of one call; without places it is the trapezoid rule.

    Attributes:
        places: of u: the kinks, and 0 for a smooth function at large q.
        lengths: of u: distances from those places at which panels end too, growing.
        count: nodes of a panel, or intervals of the trapezoid rule.
    """

    places: Tensor
    lengths: Tensor
    count: int

    @staticmethod
    def of(q: Tensor, kinks: tuple[float, ...], refine: int) -> "_Rule":
        finite = q.detach()[q.detach().isfinite()]
        root = math.sqrt(finite.max()) if len(finite) else 0.0
        places = kinks or ((0.0,) if root**2 > _LARGE else ())
        unit, growth = _KINKED if kinks else _SMOOTH
        levels = math.ceil(math.log(max(2 * _REACH * root / unit, 1.0), growth))
        lengths = [unit * growth**level for level in range(levels)]
        count = _NODES if places else _INTERVALS * math.ceil(max(root / 4, 1.0))
        tensors = (torch.tensor(values, dtype=torch.float64, device=q.device) for values in (places, lengths))
        return _Rule(*tensors, count=refine * count)

    def size(self, dimension: int) -> int:
        """The number of nodes of a single integral, or of the outer one of two."""
        breaks = len(self.places) * (1 + 2 * len(self.lengths) if dimension == 1 else 4 + 4 * len(self.lengths))
        return self.count * (breaks + 1)

    def breaks(
        self, root: Tensor, scale: Tensor | float = 1.0, shift: Tensor | float = 0.0, window: Tensor | None = None
    ) -> Tensor:
        """(…, breaks) from (…, 1): the z whose u = √q (scale·z + shift) is a place, or one of `lengths` from it.

        With `window` also the z that far from a place.
        """
        centre = ((self.places / root - shift) / scale).clamp(-_FAR, _FAR)
        away = (self.lengths / root / abs(scale)).clamp(max=_FAR)
        if window is not None:
            away = torch.cat([away, window], -1)
        return torch.cat([centre, *(centre + side * d for d in away.split(1, -1) for side in (-1, 1))], -1)

    def nodes(self, breaks: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes z (…, n) and their weights, which contain the density and sum to one."""
        if not len(self.places):
            z = torch.linspace(-_REACH, _REACH, self.count + 1, dtype=torch.float64, device=breaks.device)
            weights = torch.exp(-z * z / 2)
        else:
            end = torch.full_like(breaks[..., :1], _REACH)
            ends = torch.cat([-end, breaks.clamp(-_REACH, _REACH), end], -1).sort(-1).values
            middle, half = (ends[..., 1:] + ends[..., :-1]) / 2, (ends[..., 1:] - ends[..., :-1]) / 2
            place, weight = (torch.from_numpy(v).to(breaks.device) for v in _legendre(self.count))
            z = (middle[..., None] + half[..., None] * place).flatten(-2)
            weights = (half[..., None] * weight).flatten(-2) * torch.exp(-z * z / 2)
        return z, weights / weights.sum(-1, keepdim=True)


@functools.cache
def _legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss and Legendre on [-1, 1]."""
    return np.polynomial.legendre.leggauss(count)


def _float64(value: object) -> Tensor:
    return torch.as_tensor(value).to(torch.float64)


def _root(q: Tensor, kinks: tuple[float, ...]) -> Tensor:
    """√q, with a derivative of 0 at 0 in place of one that is infinite."""
    positive = q > 0
    return torch.where(positive, torch.where(positive, q, 1.0).sqrt(), _TINY if kinks else 0.0)
