"""Curves in input space, measured where the network sends them.

What is measured is the polygon through the images, so that it is right for smooth and for kinked networks alike.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from labkit.chain import Chain
from labkit.geometry._connecting import Geodesic, geodesic
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
        ValueError: if the path has no two points or no batch axis, or a depth is outside 0 … L.

    Example:
        >>> chain = Chain([lambda x: 3 * x])
        >>> path = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]])
        >>> curve_length(chain, path)
        tensor([6.])
        >>> curve_length(chain, path, depths=[0, 1])
        tensor([[2.],
                [6.]])
    """
    if path.ndim < 3 or path.shape[1] < 2:
        raise ValueError(f"path has shape {tuple(path.shape)}; (B, T, *s) with T ≥ 2 points a curve would do.")
    asked = [len(chain)] if depths is None else list(depths)
    if strange := [depth for depth in asked if not 0 <= depth <= len(chain)]:
        raise ValueError(f"depths holds {strange[0]}; this chain has depths 0 … {len(chain)}.")
    if not asked:
        raise ValueError("depths is empty; name at least one, or None for the output.")
    states = chain.states(path.flatten(0, 1))
    lengths = [_polygon(states[depth].reshape(*path.shape[:2], -1)) for depth in asked]
    return lengths[0] if depths is None else torch.stack(lengths)


_BLOCK = 4096  # points sent through the chain at once: a fine path through a wide input would not fit


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
    last = len(path) - 1
    if strange := [n for n in pieces if n < 1 or last % n]:
        raise ValueError(f"pieces holds {strange[0]}; a divisor of the {last} pieces of the path would do.")
    blocks = [path[start : start + _BLOCK] for start in range(0, len(path), _BLOCK)]
    images = torch.cat([chain(block).flatten(1) for block in blocks])
    whole = _polygon(images) if length is None else length
    return whole - torch.stack([_polygon(images[:: last // n]) for n in pieces])


def _polygon(points: Tensor) -> Tensor:
    """(*batch, T, n) → (*batch,)."""
    pieces: Tensor = torch.linalg.vector_norm(points[..., 1:, :] - points[..., :-1, :], dim=-1)
    return pieces.sum(-1)
