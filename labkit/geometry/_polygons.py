"""How a polygon turns: the total curvature of images of curves, right for smooth and for kinked networks alike.

An inscribed polygon turns no more than its curve does, and as much in the limit of many points (Milnor 1950).
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from labkit._linalg import lift, split_power
from labkit.geometry._paths import AnyChain, check_path, images

__all__ = ["total_curvature", "turning_angle"]


def turning_angle(
    chain: AnyChain, path: Tensor, *, closed: bool = False, depths: Iterable[int] | None = None
) -> Float[Tensor, "*depths batch corners"]:
    """By how much the polygon through the images of a path's points turns at each of them, in radians in [0, π].

    Where the image halts, as in a dead region of a ReLU network, the first of the points that it holds counts the turn.

    Args:
        chain: maps (B, *s) to (B, *s').
        path: (B, T, *s), points of B curves in order.
        closed: whether each curve runs back from its last point to its first; the first may also be repeated.
        depths: which states are measured, of 0 … L; None for the output alone.

    Returns:
        ([D,] B, T − 2) at the inner points, ([D,] B, T) at all points of closed curves; in the dtype of the path,
        differentiable.

    Raises:
        TypeError: if `chain` is no chain or `path` is not floating.
        ValueError: if the path has fewer than three points or meets NaN, a depth is out of range, or the points lie so
            close that the angles would be rounding.

    Example:
        >>> from labkit import Chain
        >>> path = torch.linspace(-1, 1, 5)[None, :, None]
        >>> turning_angle(Chain([lambda x: torch.cat([x, x.relu()], 1)]), path)
        tensor([[0.0000, 0.7854, 0.0000]])
    """
    check_path(chain, path, 3)
    inputs = path.flatten(2)
    found = [
        torch.stack([_corners(x, h, closed, curve) for curve, (x, h) in enumerate(zip(inputs, points, strict=True))])
        for points in images(chain, path, depths)
    ]
    return (found[0] if depths is None else torch.stack(found)).to(path)


def total_curvature(
    chain: AnyChain, path: Tensor, *, closed: bool = False, depths: Iterable[int] | None = None
) -> Float[Tensor, "*depths batch"]:
    """The total curvature ∫ κ ds of the images of curves: the length of the path of their unit tangent.

    Closed curves have at least 2π (Fenchel 1929), knotted ones at least 4π (Milnor 1950). It is approached from below:
    with the square of the spacing where f is smooth; at kinks it is exact once every straight piece of the image holds
    two points of the path, so take dozens a kink where kinks are at random.

    Args:
        chain: maps (B, *s) to (B, *s').
        path: (B, T, *s), points of B curves in order.
        closed: whether each curve runs back from its last point to its first; the first may also be repeated.
        depths: which states are measured, of 0 … L; None for the output alone.

    Returns:
        ([D,] B), in radians, in the dtype of the path, differentiable.

    Raises:
        ValueError, TypeError: as `turning_angle`.

    Example:
        >>> from labkit import Chain
        >>> t = torch.linspace(0, 2 * torch.pi, 100)
        >>> circle = torch.stack([t.cos(), t.sin()], 1)[None]
        >>> total_curvature(Chain([lambda x: 3 * x]), circle, closed=True) / torch.pi
        tensor([2.0000])
    """
    return turning_angle(chain, path, closed=closed, depths=depths).sum(-1)


def _corners(x: Float[Tensor, "T n_0"], h: Float[Tensor, "T n"], closed: bool, curve: int) -> Float[Tensor, "corners"]:
    """The angles of one curve, from its points and their images, whatever unit they are measured in."""
    (x, _), (h, _) = split_power(x, 2), split_power(h, 2)
    kept = _distinct(x, h)
    if closed and len(kept) > 1 and not _apart(x, h, kept[:1], kept[-1:]).all():
        kept = kept[:-1]
    around = torch.cat([kept[-1:], kept, kept[:1]]) if closed and len(kept) > 1 else kept
    pieces = lift(h)[around].diff(dim=0)
    lengths: Tensor = torch.linalg.vector_norm(pieces, dim=-1, keepdim=True)
    angles = _angles(pieces / lengths)
    with torch.no_grad():
        ratios = torch.maximum(_rounding(h) / lengths.flatten(), _rounding(x) / _steps(x, around))
        doubt = float((ratios[1:] + ratios[:-1]).sum())
        if doubt > 0.1 * max(1.0, float(angles.sum())):
            raise ValueError(
                f"path[{curve}] has points so close that rounding to {h.dtype} may turn its image by {doubt:.1g} "
                f"radians; take fewer points{'' if h.dtype == torch.float64 else ', or float64'}"
            )
    corners = torch.zeros(len(x), dtype=angles.dtype, device=angles.device).index_put((around[1:-1],), angles)
    return corners if closed else corners[1:-1]


def _angles(tangents: Float[Tensor, "m n"]) -> Float[Tensor, "corners"]:
    """Between neighbouring unit vectors, by Kahan's formula, which keeps every digit of small angles."""
    difference, total = tangents[1:] - tangents[:-1], tangents[1:] + tangents[:-1]
    return 2 * torch.atan2(torch.linalg.vector_norm(difference, dim=-1), torch.linalg.vector_norm(total, dim=-1))


@torch.no_grad()
def _distinct(x: Tensor, h: Tensor) -> Tensor:
    """Indices of the points that lie apart from the last such point before them, (m,)."""
    everyone = torch.arange(len(x), device=x.device)
    moved = everyone[1:][_apart(x, h, everyone[:-1], everyone[1:])]
    kept = torch.cat([everyone[:1], moved])
    last = kept[torch.searchsorted(kept, everyone, right=True) - 1]
    if _apart(x, h, kept[:-1], kept[1:]).all() and not _apart(x, h, last, everyone).any():
        return kept
    kept = everyone[:1]  # some drift away or back in steps too small to see
    for point in torch.split(everyone[1:], 1):
        if _apart(x, h, kept[-1:], point).all():
            kept = torch.cat([kept, point])
    return kept


@torch.no_grad()
def _apart(x: Tensor, h: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Whether points lie apart by more than rounding, and their images too."""
    return torch.stack([(p[one] - p[other]).norm(dim=-1) > 32 * _rounding(p) for p in (x, h)]).all(0)


def _rounding(points: Tensor) -> float:
    return 2 * torch.finfo(points.dtype).eps * float(points.detach().norm(dim=-1).max())


def _steps(points: Tensor, order: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(points[order].diff(dim=0), dim=-1)
    return lengths
