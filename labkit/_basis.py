"""The one check of a basis, orthonormal columns of R^n, that all of labkit shares.

Bad input is answered with one sentence before any work.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from labkit._linalg import lift, svdvals

__all__ = ["orthonormal"]


def orthonormal(basis: object, n_0: int, batch: int, device: torch.device) -> Float[Tensor, "batch n_0 k"]:
    """Orthonormal columns in float64, (B, n_0, k); all of R^n_0 where `basis` is None.

    Raises:
        TypeError: if `basis` is no floating-point tensor.
        ValueError: if its size does not fit, or its columns are dependent or not orthonormal.
    """
    if basis is None:
        unit = torch.eye(n_0, dtype=torch.float64, device=lift(torch.empty(0, device=device)).device)
        return unit.expand(batch, n_0, n_0)
    if not isinstance(basis, Tensor) or not basis.is_floating_point():
        given = str(basis.dtype) if isinstance(basis, Tensor) else type(basis).__name__
        raise TypeError(f"basis is {given}; pass orthonormal columns as a floating-point tensor")
    shape = tuple(basis.shape)
    fits = basis.ndim in (2, 3) and shape[-2] == n_0 and 1 <= shape[-1] <= n_0 and shape[:-2] in ((), (batch,))
    if not fits:
        raise ValueError(
            f"basis has shape {shape}; pass orthonormal columns ({n_0}, k) or ({batch}, {n_0}, k), k <= {n_0}"
        )
    if not basis.isfinite().all():
        raise ValueError("basis holds NaN or infinity; pass orthonormal columns")
    columns = lift(basis.to(device))
    eps = torch.finfo(basis.dtype).eps
    gram = columns.detach().mT @ columns.detach()
    if not (gram - torch.eye(shape[-1]).to(gram)).abs().max() <= 64 * n_0**0.5 * eps:
        values = svdvals(columns.detach())
        dependent = not (values[..., -1] > n_0 * eps * values[..., 0]).all()
        said = "dependent" if dependent else "not orthonormal"
        cure = "drop the superfluous ones" if dependent else "pass torch.linalg.qr(basis).Q"
        raise ValueError(f"the columns of basis are {said} (to {basis.dtype} rounding); {cure}")
    return columns.expand(batch, -1, -1)
