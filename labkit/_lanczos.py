"""The one matrix-free engine: products in, singular triplets out, by a restarted block Lanczos (Golub-Kahan) method.

Every new block is orthogonalised against the whole basis, and a full basis is cut back to its best directions.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from labkit._linalg import lift, qr, svd

__all__ = ["Singular", "singular_triplets"]

_STEPS = 500  # blocks before a stubborn spectrum is returned as it is, its residual telling
_SPARE = 4  # directions beyond those asked, which speed up the last of them


@dataclass(frozen=True)
class Singular:
    """The largest singular values of an operator J, descending, with their vectors; all detached, in float64.

    Attributes:
        values: (*batch, k).
        left: (*batch, m, k), orthonormal columns u.
        right: (*batch, n, k), orthonormal columns v.
        residual: (*batch, k), ‖Jᵀu - s v‖, while J v = s u to rounding.
    """

    values: Float[Tensor, "*batch k"]
    left: Float[Tensor, "*batch m k"]
    right: Float[Tensor, "*batch n k"]
    residual: Float[Tensor, "*batch k"]


@torch.no_grad()
def singular_triplets(operator: Any, k: int, generator: torch.Generator | None = None) -> Singular:
    """The k largest singular triplets of anything with `shape` ([B,] m, n), `dtype`, `device`, `@` and `.mT`.

    Args:
        operator: the operator J.
        k: how many.
        generator: of the random directions, on the CPU, the same for all samples; by default a new one seeded 0.

    Raises:
        ValueError: If k exceeds the size, or the rank that products can resolve.
    """
    *batch, m, n = operator.shape
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= min(m, n):
        raise ValueError(f"k={k!r}; a {m} × {n} operator has singular values 1 … {min(m, n)}")
    generator = generator or torch.Generator().manual_seed(0)
    eps = torch.finfo(operator.dtype).eps

    def product(A: Any, columns: Tensor) -> Tensor:
        columns = columns.to(operator.device, operator.dtype)
        return lift(A @ columns if batch else (A @ columns[0])[None])

    def random(width: int) -> Tensor:
        block = torch.randn(n, width, generator=generator, dtype=torch.float64)
        return block.to(lift(torch.empty(0, device=operator.device)).device).expand(*(batch or [1]), n, width)

    width = min(k + _SPARE, n)
    V, _ = qr(random(width))
    images = product(operator, V)
    for _ in range(_STEPS):
        U, s, Wh = svd(images)
        right = V @ Wh.mT
        rest = product(operator.mT, U[..., :width]) - right[..., :width] * s[..., None, :width]
        residual = rest.square().sum(-2).sqrt()
        goal = 4 * n**0.5 * eps * s[..., :1]
        if V.shape[-1] == n or (residual[..., :k] <= goal).all():
            break
        if V.shape[-1] >= 6 * width:
            V, images = right[..., : 2 * width], U[..., : 2 * width] * s[..., None, : 2 * width]
        # a direction that has converged leaves only rounding: a random one takes its place
        spent = (residual <= goal)[..., None, :]
        block = torch.where(spent, random(rest.shape[-1]), rest / residual.clamp(min=1e-300)[..., None, :])
        block = _orthonormal(block[..., : n - V.shape[-1]], V)
        V, images = torch.cat([V, block], -1), torch.cat([images, product(operator, block)], -1)

    U, s, Wh = svd(product(operator, right[..., :k]))  # afresh, for the sums of all steps carry their rounding
    right = right[..., :k] @ Wh.mT
    if (s[..., -1] <= max(m, n) * eps * s[..., 0]).any():
        rank = int((s > max(m, n) * eps * s[..., :1]).sum(-1).min())
        raise ValueError(f"k={k} exceeds the rank that products can resolve, {rank} here; ask for at most that many")
    residual = (product(operator.mT, U) - right * s[..., None, :]).square().sum(-2).sqrt()
    found = (s, U, right, residual)
    return Singular(*found) if batch else Singular(*(part[0] for part in found))


def _orthonormal(block: Float[Tensor, "*batch n j"], V: Float[Tensor, "*batch n p"]) -> Float[Tensor, "*batch n j"]:
    """The block made orthonormal, and orthogonal to V: thrice, for what one pass leaves may be mostly rounding."""
    for _ in range(3):
        block, _ = qr(block - V @ (V.mT @ block))
    return block
