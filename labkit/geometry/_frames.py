"""Orthonormal frames of tangent spaces, first = Q R, from which all curvature is read without inverting a metric.

Columns are brought to one length before their rank is judged, so that a small direction is not taken for a lost one.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from labkit._linalg import column_norms, inverse_triangular, lift, qr, svd, svdvals

__all__ = ["in_frame", "normal_part", "tangent_frame"]


def tangent_frame(
    first: Float[Tensor, "*batch n k"], where: Callable[[int], str] = lambda index: f"in sample {index}"
) -> tuple[Float[Tensor, "*batch n k"], Float[Tensor, "*batch k k"]]:
    """Q with orthonormal columns and R upper triangular with a positive diagonal, first = Q R, both in float64.

    Args:
        first: the image of a basis under Df; its dtype says to how many digits it is known.
        where: names a sample by its flat index, for the error.

    Raises:
        ValueError: if a derivative is NaN or infinite, or the columns are dependent to the rounding of their dtype.
    """
    n, k = first.shape[-2:]
    columns = lift(first)
    if not columns.detach().isfinite().all():
        bad = (~columns.detach().isfinite()).reshape(-1, n * k).any(1).nonzero()
        raise ValueError(f"the first derivative holds NaN or infinity {where(int(bad[0]))}; repair that point")
    if n < k:
        raise ValueError(
            f"the metric has rank at most {n} of k = {k}, as the output has {n} entries; pass a basis of k <= {n}"
        )
    lengths = column_norms(columns.detach())
    lengths = torch.where(lengths > 0, lengths, 1.0)[..., None, :]
    Q, R = qr(columns / lengths)
    tolerance = min(0.05, 64 * n**0.5 * torch.finfo(first.dtype).eps)
    _check_rank(R.detach().reshape(-1, k, k), lengths.reshape(-1, k), tolerance, where)
    signs = R.detach().diagonal(dim1=-2, dim2=-1).sign()[..., None, :]
    return Q * signs, R * signs.mT * lengths


def normal_part(
    Q: Float[Tensor, "batch n k"], second: Float[Tensor, "*links batch n k k"]
) -> Float[Tensor, "*links batch n k k"]:
    """What a second derivative has at right angles to the tangent space that Q spans."""
    flat = second.flatten(-2)
    return (flat - Q @ (Q.mT @ flat)).reshape(second.shape)


def in_frame(
    form: Float[Tensor, "*links batch n k k"], R: Float[Tensor, "batch k k"]
) -> Float[Tensor, "*links batch n k k"]:
    """R^-T form R^-1: a bilinear form of coordinates, in the orthonormal frame of the image."""
    inverse = inverse_triangular(R)[:, None]
    return inverse.mT @ form @ inverse


@torch.no_grad()
def _check_rank(R: Tensor, lengths: Tensor, tolerance: float, where: Callable[[int], str]) -> None:
    """R (N, k, k) of columns of length one, or zero, and the lengths (N, k) that they had."""
    values = svdvals(R)
    lost = values <= tolerance * values[:, :1]
    if not lost.any():
        return
    sample, k = int(lost.any(1).nonzero()[0]), R.shape[-1]
    direction = svd(R[sample])[2][-1] / lengths[sample]
    direction = direction / direction[direction.abs().argmax()]
    entries = ", ".join(f"{round(float(entry), 3) + 0.0:g}" for entry in direction[:8]) + (", …" if k > 8 else "")
    raise ValueError(
        f"the metric has rank {k - int(lost[sample].sum())} of k = {k} {where(sample)}: it loses the direction "
        f"[{entries}] of the basis; leave that out of the basis, or take another point"
    )
