"""Curves in input space, measured where the network sends them.

What is measured is the polygon through the images, so that it is right for smooth and for kinked networks alike.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from labkit.chain import Chain

__all__ = ["curve_length"]


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


def _polygon(points: Tensor) -> Tensor:
    """(B, T, n) → (B,)."""
    pieces: Tensor = torch.linalg.vector_norm(points[:, 1:] - points[:, :-1], dim=-1)
    return pieces.sum(-1)
