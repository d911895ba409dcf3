"""Gaussian means of elementwise functions, of one and two variables, on whole grids of variances at once.

The trapezoid rule for smooth functions, panels of Gauss–Legendre between kinks and where √q outgrows the trapezoid;
never Gauss–Hermite, whose nodes miss what a saturating activation does at large q.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from labkit.theory._derivatives import Pieces, derivative, pieces
from labkit.theory.activations import Elementwise

__all__ = [
    "Pieces",
    "derivative",
    "expectation",
    "hermite_coefficients",
    "joint_expectation",
    "pair_expectation",
    "pieces",
    "resolved",
]

Joint = Callable[[Tensor, Tensor], Tensor]

_REACH = 9.0  # of z: the Gaussian has 1e-18 of its mass beyond
_FAR_REACH = 12.0  # the same beside Hermite polynomials
_SPACING = 0.05  # of the trapezoid rule up to q = 16: 361 points; closer as √q above
_LARGE = 400.0  # q beyond which panels are cheaper
_NODES = 40  # of a panel
_KINKED, _SMOOTH = (16.0, 4.0), (8.0, 2.0)  # length in u of the panels next to a place, and growth of those behind
_FAR = 1e6  # of z: breaks beyond are as good as there
_WINDOW = 9.0  # standard deviations within which a smoothed kink is one
_TINY = 1e-200  # stands for √0 beside a kink: its square is 0, its sign is kept
_AGREE = 1e-9  # relative, of a mean with twice the nodes
_SAMPLE = 64  # variances that stand for a grid between them
_AT_ONCE = 2**17  # function values computed together: they fit a cache


def expectation(function: Elementwise, q: object, kinks: tuple[float, ...] = (), refine: int = 1) -> Tensor:
    """E f(√q z) over z ~ N(0, 1).

    At q = 0 a function without kinks is taken at 0, one with a kink there by the mean of its two sides, the limit from
    above. Relative error about 1e-13 for functions of u = √q z that vary on the scale of 1, at any q.

    Args:
        function: vectorised and elementwise; what it puts into leading axes stays there.
        q: variances ≥ 0 of any shape.
        kinks: where f, or one of its first three derivatives, jumps.
        refine: multiplies the number of nodes, for tests.

    Returns:
        Shaped like q, in float64 on its device, nan where q is not finite; differentiable in q > 0 and in what the
        function closes over (its derivative in q reads 0 at q = 0).

    Example:
        >>> expectation(torch.square, [0.5, 1.5]).round(decimals=12)
        tensor([0.5000, 1.5000], dtype=torch.float64)
    """
    given = _float64(q)
    flat = given.reshape(-1)
    rule = _Rule.of(flat, kinks, refine)
    found = []
    for part in _parts(flat, rule.size(1)):
        root = _root(part, kinks)[:, None]
        z, weights = rule.nodes(rule.breaks(root))
        found.append((weights * function(root * z)).sum(-1))
    means = torch.where(flat.isfinite(), torch.cat(found, -1), torch.nan)
    return means.reshape(means.shape[:-1] + given.shape)


@torch.no_grad()
def resolved(function: Elementwise, q: Tensor, kinks: tuple[float, ...] = ()) -> Tensor:
    """Whether twice as many nodes give the same E f(√q z), f ≥ 0: f may oscillate too fast at a large variance.

    Example:
        >>> resolved(lambda u: u.sin() ** 2, torch.tensor([1.0, 1e4], dtype=torch.float64))
        tensor([ True, False])
    """
    q = q.detach()

    def agree(at: Tensor) -> Tensor:
        once, twice = (expectation(function, at, kinks, refine) for refine in (1, 2))
        return ((twice - once).abs() <= _AGREE * twice) | once.isinf()

    some = q[(q > 0) & q.isfinite()]
    if some.numel() > _SAMPLE:  # what is resolved from end to end is so between
        ends = some.min().log10().item(), some.max().log10().item()
        if bool(agree(torch.logspace(*ends, _SAMPLE, dtype=q.dtype, device=q.device)).all()):
            return q.isfinite()
    return agree(q)


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
    found = joint_expectation(lambda u1, u2: f(u1) * g(u2), q1, q2, c, kinks, refine)
    lengths, other, corr = (_float64(value) for value in (q1, q2, c))
    edge = corr.abs() == 1
    if corr.requires_grad and edge.any():  # Price's theorem, for the rule itself has no derivative in c there
        lengths, other, at = lengths.detach(), other.detach(), corr.detach()
        slopes = derivative(f), derivative(g)
        slope = joint_expectation(lambda u1, u2: slopes[0](u1) * slopes[1](u2), lengths, other, at, kinks, refine)
        found = found + torch.where(edge, (corr - at) * (lengths * other).sqrt() * slope, 0.0)
    return found


def joint_expectation(
    function: Joint, q1: object, q2: object, c: object, kinks: tuple[float, ...] = (), refine: int = 1
) -> Tensor:
    """E f(u₁, u₂), as `pair_expectation` for functions that are no product; its derivative in c reads 0 at c = ±1.

    Example:
        >>> joint_expectation(lambda u1, u2: (u1 - u2) ** 2, 1.0, 1.0, 0.75)  # 2 - 2c
        tensor(0.5000, dtype=torch.float64)
    """
    given = [_float64(value) for value in (q1, q2, c)]
    shape = sum(given[1:], given[0]).shape
    first, second, corr = (value.expand(shape).reshape(-1) for value in given)
    corr = torch.where(corr.abs() == 1, corr.detach(), corr)  # √(1-c²) has no derivative there, and c z₁ alone is wrong
    rule = _Rule.of(torch.cat([first, second]), kinks, refine)
    size = rule.size(1) * rule.size(2)
    parts = zip(*(_parts(value, size) for value in (first, second, corr)), strict=True)
    found = torch.cat([_joint(function, q1, q2, c, kinks, rule) for q1, q2, c in parts])
    finite = first.isfinite() & second.isfinite() & corr.isfinite()
    return torch.where(finite, found, torch.nan).reshape(shape)


def hermite_coefficients(function: Elementwise, q: Tensor, kinks: tuple[float, ...], count: int) -> Tensor:
    """(m, count) from (m,): E f(√q z) He_k(z)/√k!, whose squares are the powers of c in E f(u₁) f(u₂)."""
    rule = _Rule.of(q, kinks, 2 if kinks else 1, reach=_FAR_REACH)
    shared: list[Tensor] = []
    found = []
    for part in _parts(q, rule.size(1)):
        root = _root(part, kinks)[:, None]
        z, weights = rule.nodes(rule.breaks(root))
        values = weights * function(root * z)
        if z.ndim == 1:
            shared = shared or [torch.stack(list(_hermite(z, count)), 1)]
            found.append(values @ shared[0])
        else:
            found.append(torch.stack([(values * h).sum(-1) for h in _hermite(z, count)], 1))
    return torch.cat(found)


def _hermite(z: Tensor, count: int) -> Iterator[Tensor]:
    """He_k(z)/√k! for k < count, by their recurrence."""
    before, now = torch.zeros_like(z), torch.ones_like(z)
    for k in range(count):
        yield now
        before, now = now, (z * now - math.sqrt(k) * before) / math.sqrt(k + 1)


def _joint(function: Joint, q1: Tensor, q2: Tensor, c: Tensor, kinks: tuple[float, ...], rule: "_Rule") -> Tensor:
    """The double integral for (m,) triples."""
    root1, root2, c = _root(q1, kinks)[:, None], _root(q2, kinks)[:, None], c[:, None]
    square = (1 - c) * (1 + c)
    s = torch.where(square > 0, torch.where(square > 0, square, 1.0).sqrt(), 0.0)
    slant = torch.where(c == 0, _TINY, c)  # zero divides nothing: the kinks in u₂ then lie beyond every panel
    spread = torch.where(s > 0, s, _TINY)
    smoothed = rule.breaks(root2, slant, window=_WINDOW * s / slant.abs())
    z1, weights1 = rule.nodes(torch.cat([rule.breaks(root1), smoothed], -1))
    total = torch.zeros_like(c[:, 0])
    count = math.ceil(len(c) * rule.size(1) * rule.size(2) / (4 * _AT_ONCE))  # panels multiply with log q
    for z, weights in zip(z1.chunk(max(1, count), -1), weights1.chunk(max(1, count), -1), strict=True):
        shift = (c * z)[..., None]
        z2, weights2 = rule.nodes(rule.breaks(root2[..., None], spread[..., None], shift))
        values = function((root1 * z)[..., None], root2[..., None] * (shift + s[..., None] * z2))
        total = total + (weights * (weights2 * values).sum(-1)).sum(-1)
    return total


def _parts(values: Tensor, size: int) -> tuple[Tensor, ...]:
    """`values` cut so that `size` numbers for each fit the cache."""
    return values.chunk(max(1, math.ceil(len(values) * size / _AT_ONCE)))


@dataclass(frozen=True)
class _Rule:
    """Where panels end, for all variances of one call; without places it is the trapezoid rule.

    Attributes:
        places: of u: the kinks, and 0 for a smooth function at large q.
        lengths: of u: distances from those places at which panels end too, growing.
        count: nodes of a panel, or intervals of the trapezoid rule.
        reach: of z, on either side.
    """

    places: Tensor
    lengths: Tensor
    count: int
    reach: float

    @staticmethod
    def of(q: Tensor, kinks: tuple[float, ...], refine: int, reach: float = _REACH) -> "_Rule":
        finite = q.detach()[q.detach().isfinite()]
        root = math.sqrt(finite.max()) if len(finite) else 0.0
        places = kinks or ((0.0,) if root**2 > _LARGE else ())
        unit, growth = _KINKED if kinks else _SMOOTH
        levels = math.ceil(math.log(max(2 * reach * root / unit, 1.0), growth))
        lengths = [unit * growth**level for level in range(levels)]
        intervals = 2 * math.ceil(reach * max(root / 4, 1.0) / _SPACING)
        ends, steps = (torch.tensor(values, dtype=torch.float64, device=q.device) for values in (places, lengths))
        return _Rule(ends, steps, refine * (_NODES if places else intervals), reach)

    def size(self, dimension: int) -> int:
        """The number of nodes of a single integral, or of the outer one of two."""
        breaks = len(self.places) * (1 + 2 * len(self.lengths) if dimension == 1 else 4 + 4 * len(self.lengths))
        return self.count * (breaks + 2 if len(self.places) else 1)

    def breaks(
        self, root: Tensor, scale: Tensor | None = None, shift: Tensor | float = 0.0, window: Tensor | None = None
    ) -> Tensor:
        """(…, breaks) from (…, 1): the z whose u = √q (scale·z + shift) is a place, or one of `lengths` from it.

        With `window` also the z that far from a place.
        """
        scale = torch.ones_like(root) if scale is None else scale
        centre = ((self.places / root - shift) / scale).clamp(-_FAR, _FAR)
        away = (self.lengths / root / scale.abs()).clamp(max=_FAR)
        if window is not None:
            away = torch.cat([away, window], -1)
        return torch.cat([centre, *(centre + side * d[..., None] for d in away.unbind(-1) for side in (-1, 1))], -1)

    def nodes(self, breaks: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes z (…, n) and their weights, which contain the density and sum to one."""
        if not len(self.places):
            z = torch.linspace(-self.reach, self.reach, self.count + 1, dtype=torch.float64, device=breaks.device)
            weights = torch.exp(-z * z / 2)
        else:
            end = torch.full_like(breaks[..., :1], self.reach)
            ends = torch.cat([-end, 0 * end, end, breaks.clamp(-self.reach, self.reach)], -1).sort(-1).values
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
    return torch.as_tensor(value, dtype=torch.float64)  # at once: a list of floats would pass through float32


def _root(q: Tensor, kinks: tuple[float, ...]) -> Tensor:
    """√q, with a derivative of 0 at 0 in place of one that is infinite."""
    positive = q > 0
    return torch.where(positive, torch.where(positive, q, 1.0).sqrt(), _TINY if kinks else 0.0)
