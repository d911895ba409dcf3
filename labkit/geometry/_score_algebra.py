"""Linear algebra of Fisher matrices F = Rᵀ R on their rows R, on whichever side is smaller.

Factorised in float64; what would not fit is refused before it is built.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from labkit._linalg import lift, qr, svd, svdvals
from labkit.geometry._score_rows import ScoreRows

__all__ = ["damped_solution", "dense_matrix", "eigenvalues"]


def dense_matrix(rows: ScoreRows) -> Float[Tensor, "P P"]:
    """F itself, in the dtype of the parameters."""
    P = rows.shape[1]
    copies = 1 + (rows.own_dtype != rows.dtype)
    rows.require_memory(
        copies * P**2 * rows.dtype.itemsize,
        f"the Fisher matrix of {P} parameters",
        "fisher.spectrum gives its eigenvalues without it and fisher.product its products",
    )
    F = torch.zeros(P, P, dtype=rows.dtype, device=rows.device)
    for chunk in rows.chunks():
        F.addmm_(chunk.mT, chunk)
    return F.to(rows.own_dtype)


def eigenvalues(rows: ScoreRows) -> Float[Tensor, " r"]:
    """The eigenvalues of F that rounding does not hide, descending, detached."""
    n, P = rows.shape
    rows.require_memory(
        24 * P**2 if n >= P else n * P * rows.dtype.itemsize + 24 * n**2,
        f"the spectrum from {n} rows by {P} parameters",
        "take fewer samples, or fisher.top_eigenvalues, which holds none of them",
    )
    s = svdvals(rows.triangular_factor())
    return s[s > rows.tolerance * s[0]].square()


@torch.no_grad()
def damped_solution(rows: ScoreRows, gradient: Float[Tensor, " P"], damping: float) -> Float[Tensor, " P"]:
    """(F + damping)⁻¹ gradient in float64; ValueError where damping is 0 and F singular."""
    g = lift(gradient)
    n, P = rows.shape
    rows.require_memory(
        24 * min(n, P) * P,
        f"the natural gradient from {n} × {P} rows",
        "pass a tolerance, such as 1e-5, for conjugate gradients, which hold none of them, or fewer samples",
    )
    Q, T = (None, rows.triangular_factor()) if n >= P else qr(lift(rows.dense()).mT)
    U, s, Vh = svd(T)
    directions = Vh.mT if Q is None else U
    seen = directions.mT @ (g if Q is None else Q.mT @ g)
    rank = int((s > rows.tolerance * s[0]).sum())
    if damping == 0 and rank < P:
        raise ValueError(
            f"damping=0 with a singular Fisher matrix, of rank {rank} on {P} parameters; pass damping > 0, "
            f"such as 1e-3 of its largest eigenvalue {float(s[0] ** 2):.3g}"
        )
    step = directions @ (seen / (s.square() + damping))
    if Q is not None:
        step = Q @ step + (g - Q @ (directions @ seen)) / damping
    return step
