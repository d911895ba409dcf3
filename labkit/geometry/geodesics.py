"""Curves in input space, measured where the network sends them.

What is measured is the polygon through the images, so that it is right for smooth and for kinked networks alike.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from labkit._linalg import split_power
from labkit.chain import Chain
from labkit.geometry._connecting import Geodesic, geodesic
from labkit.geometry._paths import check_path, images
from labkit.geometry._shooting import Shot, shoot
from labkit.geometry._tangents import parallel_transport

__all__ = ["Geodesic", "Shot", "curve_length", "geodesic", "missing_length", "parallel_transport", "shoot"]


def curve_length(chain: Chain, path: Tensor, *, depths: Iterable[int] | None = None) -> Tensor:
    """Length of the image of a path: the sum of the straight distances between the images of its points.

    It is the length of the curve's image from below, for any continuous network; for a C² network and curve its
    error falls with the square of the spacing, at kinks with the spacing.

    Args:
        chain: maps (B, *s) to (B, *s').
        path: (B, T, *s), T ≥ 2 points of B curves, in order.
        depths: which states are measured, of 0 … L; None for the output alone.

    Returns:
        (B,), or (D, B) for D depths, in the dtype of the states.

    Raises:
        TypeError: if `chain` is no chain or `path` is not floating.
        ValueError: if the path has no two points, no batch axis or meets NaN, a depth is outside 0 … L, or a link is
            random or mixes samples.

    Example:
        >>> chain = Chain([lambda x: 3 * x])
        >>> path = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]])
        >>> curve_length(chain, path)
        tensor([6.])
        >>> curve_length(chain, path, depths=[0, 1])
        tensor([[2.],
                [6.]])
    """
    check_path(chain, path, 2)
    lengths = [_polygon(points) for points in images(chain, path, depths)]
    return lengths[0] if depths is None else torch.stack(lengths)


def missing_length(chain: Chain, path: Tensor, pieces: Sequence[int], *, length: Tensor | None = None) -> Tensor:
    """What polygons of few pieces miss of the image of a path, which is sent through the chain once.

    A piece whose image has unit tangents T and length ℓ has a chord c with (c / ℓ)² = 1 − ½ mean |T − T'|² over all
    pairs of its moments. Along a C² image that never halts T moves in proportion to time, so N pieces miss O(N⁻²).

    Args:
        chain: maps (B, *s) to (B, *s').
        path: (T, *s), the points of one curve, in order; T − 1 is a multiple of every number of pieces.
        pieces: how many pieces each polygon has.
        length: scalar, the true length of the image; None for the polygon through all points of the path.

    Returns:
        (len(pieces),), in the dtype of the output; never negative without `length`, up to rounding.

    Raises:
        ValueError: if the path has no two points or no input axis, or a number of pieces does not divide T − 1.

    Example:
        >>> corner = Chain([lambda x: torch.stack([x[:, 0].clamp(max=1), (x[:, 0] - 1).clamp(min=0)], dim=1)])
        >>> missing_length(corner, torch.linspace(0, 2, 9)[:, None], [1, 2])  # one chord cuts the corner
        tensor([0.5858, 0.0000])
    """
    if path.ndim < 2 or len(path) < 2:
        raise ValueError(f"path has shape {tuple(path.shape)}; (T, *s) with T ≥ 2 points of one curve would do.")
    check_path(chain, path[None], 2)
    last = len(path) - 1
    if strange := [n for n in pieces if n < 1 or last % n]:
        raise ValueError(f"pieces holds {strange[0]}; a divisor of the {last} pieces of the path would do.")
    points = images(chain, path[None], None)[0][0]
    whole = _polygon(points) if length is None else length
    return whole - torch.stack([_polygon(points[:: last // n]) for n in pieces])


def _polygon(points: Tensor) -> Tensor:
    """(*batch, T, n) → (*batch,)."""
    pieces, scale = split_power(points[..., 1:, :] - points[..., :-1, :], 2)
    lengths: Tensor = torch.linalg.vector_norm(pieces, dim=-1)
    return lengths.sum(-1) * scale
