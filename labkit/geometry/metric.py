"""The pullback metric g = (J_l ⋯ J_1)ᵀ (J_l ⋯ J_1): lengths, angles and ellipses that a chain gives its input space.

Each function is one formula on tensors (…, k, k) and (…, k), differentiable in all of them.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from labkit._linalg import lift, split_power
from labkit.geometry._arguments import Depths, Lin, as_basis, as_depths, check_linearization

__all__ = ["Ellipse", "angle", "ellipse", "inner", "norm", "pullback_metric"]


@dataclass(frozen=True)
class Ellipse:
    """The unit circle {v : vᵀ g v = 1} of a metric on the plane.

    Attributes:
        semi_axes: (*batch, 2), the longer first; infinite along a direction that g does not see.
        angle: (*batch,) in radians, counter-clockwise from the first coordinate to the longer semi-axis, which is the
            direction that g stretches least; in (-π/2, π/2], and 0 for a circle.

    Example:
        >>> Ellipse(semi_axes=torch.tensor([2.0, 0.5]), angle=torch.tensor(0.0)).log_distortion.exp()
        tensor(4.)
    """

    semi_axes: Float[Tensor, "*batch 2"]
    angle: Float[Tensor, "*batch"]

    @property
    def log_distortion(self) -> Float[Tensor, "*batch"]:
        """log σ_1 − log σ_2, the log of longer over shorter axis: 0 for a circle, infinite where g is not definite.

        Example:
            >>> ellipse(torch.diag(torch.tensor([4.0, 0.25]))).log_distortion.exp()
            tensor(4.)
        """
        longer, shorter = self.semi_axes.unbind(-1)
        both_infinite = longer.isinf() & shorter.isinf()
        return longer.log() - torch.where(both_infinite, 1.0, shorter).log()

    @property
    def log_volume(self) -> Float[Tensor, "*batch"]:
        """log √det g = log σ_1 + log σ_2, the growth of area: the larger, the smaller the ellipse; −∞ where singular.

        Example:
            >>> ellipse(torch.diag(torch.tensor([9.0, 4.0]))).log_volume.exp().round(decimals=4)
            tensor(6.)
        """
        return -self.semi_axes.log().sum(-1)


def pullback_metric(lin: Lin, basis: Tensor | None = None, depths: Depths = None) -> Float[Tensor, "*depths batch k k"]:
    """The metric that the chain up to each depth induces on its input, in the coordinates of `basis`.

    Args:
        lin: the chain at x, from `chain.linearize(x)`.
        basis: orthonormal columns (B, n_0, k) or (n_0, k); all of R^n0 by default.
        depths: depths 0 … L to answer at; the end by default.

    Returns:
        ([D,] B, k, k) in the dtype of x, symmetric positive semi-definite; the axis D only where depths are given.

    Raises:
        TypeError: If `lin` is no linearization, or `basis` or `depths` of the wrong kind.
        ValueError: If `basis` is not orthonormal or does not fit, or a depth is out of range.

    Example:
        >>> from labkit import Linearization
        >>> lin = Linearization([torch.tensor([[[3.0, 0.0], [0.0, 0.5]]])])
        >>> pullback_metric(lin)
        tensor([[[9.0000, 0.0000],
                 [0.0000, 0.2500]]])
    """
    check_linearization(lin)
    frame, asked = as_basis(lin, basis), as_depths(lin, depths)
    working = torch.promote_types(lin.dtype, torch.float32)  # half types have too few digits to fold in
    frame = frame.to(lin.device, working)
    found = {}
    for depth in range(max(asked) + 1):
        if depth:
            jac = lin[depth - 1]
            moved = jac.to(working) @ frame if isinstance(jac, Tensor) else jac @ frame.to(lin.dtype)
            frame = moved.to(working)
        if depth in asked:
            found[depth] = (frame.mT @ frame).to(lin.dtype)
    return found[asked[0]] if depths is None else torch.stack([found[depth] for depth in asked])


def inner(
    g: Float[Tensor, "*#batch k k"], u: Float[Tensor, "*#batch k"], v: Float[Tensor, "*#batch k"]
) -> Float[Tensor, "*batch"]:
    """The inner product uᵀ g v.

    Example:
        >>> inner(torch.diag(torch.tensor([4.0, 1.0])), torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0]))
        tensor(6.)
    """
    return (u[..., None, :] @ g @ v[..., :, None])[..., 0, 0]


def norm(g: Float[Tensor, "*#batch k k"], v: Float[Tensor, "*#batch k"]) -> Float[Tensor, "*batch"]:
    """The length √(vᵀ g v): how long the chain makes a short step v, per unit of step.

    Example:
        >>> norm(torch.diag(torch.tensor([4.0, 1.0])), torch.tensor([1.0, 0.0]))
        tensor(2.)
    """
    (g, g_scale), (v, v_scale) = split_power(g, 2), split_power(v, 1)
    return inner(g, v, v).clamp(min=0).sqrt() * g_scale.sqrt() * v_scale


def angle(
    g: Float[Tensor, "*#batch k k"], u: Float[Tensor, "*#batch k"], v: Float[Tensor, "*#batch k"]
) -> Float[Tensor, "*batch"]:
    """The angle between u and v as g sees it, in radians in [0, π]; nan where one of them has length 0.

    Kahan's half-angle formula, which keeps every digit of small angles.

    Example:
        >>> angle(torch.eye(2), torch.tensor([1.0, 0.0]), torch.tensor([0.0, 3.0]))
        tensor(1.5708)
    """
    (g, _), (u, _), (v, _) = split_power(g, 2), split_power(u, 1), split_power(v, 1)
    u, v = u / norm(g, u)[..., None], v / norm(g, v)[..., None]
    return 2 * torch.atan2(norm(g, u - v), norm(g, u + v))


def ellipse(g: Tensor) -> Ellipse:
    """The ellipse {v : vᵀ g v = 1} of unit length, of a metric on the plane.

    Args:
        g: (*batch, 2, 2), symmetric positive semi-definite.

    Raises:
        TypeError: If g is not floating.
        ValueError: If g is not 2 × 2, not symmetric or not positive semi-definite.

    Example:
        >>> ellipse(torch.diag(torch.tensor([4.0, 0.25]))).semi_axes
        tensor([2.0000, 0.5000])
    """
    if g.ndim < 2 or g.shape[-2:] != (2, 2):
        raise ValueError(f"g has shape {tuple(g.shape)}; an ellipse needs a metric (..., 2, 2), from a basis of k=2")
    if not g.is_floating_point():
        raise TypeError(f"g is {g.dtype}; a floating dtype would do")
    eps = torch.finfo(g.dtype).eps
    size = g.abs().amax((-2, -1))
    if not ((g[..., 0, 1] - g[..., 1, 0]).abs() <= eps**0.5 * size).all():
        raise ValueError("g is not symmetric (or not finite); an ellipse needs a metric such as pullback_metric gives")
    entries = [lift(g[..., i, j]) for i, j in ((0, 0), (0, 1), (1, 1))]
    s, r, t = (_root_of_power(lift(one)) for one in (size, g[..., 0, 0], g[..., 1, 1]))
    a, b, c = (entry / s / s for entry in entries)
    det = _difference_of_products(a, c, b, b)
    if (torch.minimum(a, c) < 0).any() or (det < -64 * eps * (a * c + eps)).any():
        raise ValueError("g is not positive semi-definite; an ellipse needs a metric such as pullback_metric gives")
    largest = (a + c + torch.hypot(a - c, 2 * b)) / 2
    # in units of its own for either direction, for ac and b² may leave float64
    own_a, own_b, own_c = entries[0] / r / r, entries[1] / r / t, entries[2] / t / t
    own = _difference_of_products(own_a, own_c, own_b, own_b)
    seen = own > 8 * eps * own_a * own_c  # below that the rounding of g itself hides its smaller eigenvalue
    longer = torch.where(seen, (largest / torch.where(seen, own, 1.0)).sqrt() / torch.minimum(r, t), torch.inf)
    semi_axes = torch.stack([longer, largest.rsqrt() / s], -1)
    turned = torch.atan2(-2 * b + 0.0, c - a) / 2  # + 0.0 turns -0 into 0, hence -π/2 into π/2
    return Ellipse(semi_axes.to(g), turned.to(g))


def _root_of_power(size: Tensor) -> Tensor:
    """A power of two near √size, which rounds nothing as a factor; 1 at zero."""
    return torch.exp2((torch.frexp(size.detach())[1] // 2).double())


def _difference_of_products(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """ab - cd to nearly full relative accuracy, by Dekker's exact products."""
    p, q = a * b, c * d
    return (p - q) + (_product_error(a, b, p) - _product_error(c, d, q)).detach()


def _product_error(a: Tensor, b: Tensor, p: Tensor) -> Tensor:
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    return a2 * b2 - (((p - a1 * b1) - a2 * b1) - a1 * b2)


def _halves(a: Tensor) -> tuple[Tensor, Tensor]:
    shifted = a * (2.0**27 + 1)
    high = shifted - (shifted - a)
    return high, a - high
