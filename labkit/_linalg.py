"""The only file that factorises matrices: QR, singular values, Schur, all in float64.

Matrices of half or single precision are lifted first; a device without float64 hands the work to the CPU.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = [
    "LN2",
    "column_norms",
    "departure_from_normality",
    "eigh",
    "inverse_triangular",
    "lift",
    "qr",
    "row_norms",
    "rows_sorted_qr",
    "split_power",
    "split_scale",
    "svd",
    "svdvals",
    "take_columns",
    "triangular_factor",
]

LN2 = math.log(2.0)
_NO_FLOAT64 = ("mps",)


def lift(tensor: Tensor) -> Tensor:
    """`tensor` in float64, on its own device where that has float64 and on the CPU elsewhere."""
    return (tensor.cpu() if tensor.device.type in _NO_FLOAT64 else tensor).to(torch.float64)


def qr(A: Float[Tensor, "*batch m n"]) -> tuple[Float[Tensor, "*batch m p"], Float[Tensor, "*batch p n"]]:
    """The reduced Householder QR, p = min(m, n)."""
    Q, R = torch.linalg.qr(A)
    return Q, R


def triangular_factor(A: Float[Tensor, "*batch m n"]) -> Float[Tensor, "*batch p n"]:
    """R of the reduced QR alone; Q is formed only where a derivative needs it."""
    R: Tensor = torch.linalg.qr(A, mode="reduced" if A.requires_grad else "r")[1]
    return R


def rows_sorted_qr(
    A: Float[Tensor, "batch m n"],
) -> tuple[Float[Tensor, "batch m p"], Float[Tensor, "batch p n"]]:
    """The reduced QR that eliminates large rows first, which keeps rows of very different size accurate each."""
    order = row_norms(A).detach().argsort(-1, descending=True)
    batch = torch.arange(len(A), device=A.device)[:, None]
    Q, R = qr(A[batch, order])
    return Q[batch, order.argsort(-1)], R


def inverse_triangular(R: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch n n"]:
    """The inverse of a regular upper triangular matrix."""
    eye = torch.eye(R.shape[-1], dtype=R.dtype, device=R.device)
    inverse: Tensor = torch.linalg.solve_triangular(R, eye, upper=True)
    return inverse


def svd(
    A: Float[Tensor, "*batch m n"],
) -> tuple[Float[Tensor, "*batch m p"], Float[Tensor, "*batch p"], Float[Tensor, "*batch p n"]]:
    """The reduced singular value decomposition U, s, Vᵀ."""
    U, s, Vh = torch.linalg.svd(A, full_matrices=False)
    return U, s, Vh


def svdvals(A: Float[Tensor, "*batch m n"]) -> Float[Tensor, "*batch p"]:
    """Singular values, descending."""
    values: Tensor = torch.linalg.svdvals(A)
    return values


def eigh(A: Float[Tensor, "*batch n n"]) -> tuple[Float[Tensor, "*batch n"], Float[Tensor, "*batch n n"]]:
    """Eigenvalues, ascending, and orthonormal eigenvectors of a symmetric matrix."""
    values, vectors = torch.linalg.eigh(A)
    return values, vectors


def column_norms(A: Float[Tensor, "*batch m n"]) -> Float[Tensor, "*batch n"]:
    """Euclidean norms of the columns, also where their squares would not fit."""
    return _norms(A, -2)


def row_norms(A: Float[Tensor, "*batch m n"]) -> Float[Tensor, "*batch m"]:
    """Euclidean norms of the rows, also where their squares would not fit."""
    return _norms(A, -1)


def _norms(A: Tensor, dim: int) -> Tensor:
    found = A.square().sum(dim).sqrt()
    if ((found < 1e-140) | found.isinf()).any():
        largest = A.abs().amax(dim, keepdim=True).clamp(min=torch.finfo(A.dtype).tiny)
        found = (A / largest).square().sum(dim).sqrt() * largest.squeeze(dim)
    return found


def take_columns(A: Float[Tensor, "batch m n"], order: Tensor) -> Float[Tensor, "batch m p"]:
    """The columns of each matrix in its own order, `order` (batch, p)."""
    return A.gather(-1, order[:, None, :].expand(-1, A.shape[-2], -1))


def split_scale(A: Float[Tensor, "batch m n"]) -> tuple[Float[Tensor, "batch m n"], Float[Tensor, " batch"]]:
    """Â and e with A = Â 2^e exactly, the largest entry of each Â in [1/2, 1); e = 0 for a zero matrix."""
    e = torch.frexp(A.detach().abs().amax((-2, -1)))[1].to(A.dtype)
    half = (e / 2).floor()  # 2^-e itself may overflow
    return A * torch.exp2(-half)[:, None, None] * torch.exp2(half - e)[:, None, None], e


def split_power(A: Float[Tensor, "*shape"], axes: int) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*batch"]]:
    """Â and s with A = Â s exactly, s a power of four for each block of the last axes, its largest entry in [½, 4)."""
    e = torch.frexp(A.detach().abs().amax(tuple(range(-axes, 0)), keepdim=True))[1]
    half = torch.exp2(((e - 1) // 2).to(A.dtype))  # 2^e itself may overflow
    return A / half / half, half.square().reshape(A.shape[:-axes])


@torch.no_grad()
def departure_from_normality(A: Float[Tensor, "batch n n"]) -> Float[Tensor, " batch"]:
    """Henrici's ‖N‖_F / ‖T‖_F of the Schur form T = Λ + N; 0 for a zero matrix.

    The strict upper triangle is summed itself: 1 - Σ|λ|²/‖A‖² would round a normal matrix to 1e-8 instead of 0.
    """
    from scipy.linalg import schur  # here, for it would double the time that `from labkit import Chain` takes

    lifted = lift(A)
    found = []
    for a in lifted.cpu().numpy():
        T = torch.from_numpy(schur(a, output="complex")[0])
        size = T.abs().square().sum().sqrt()
        found.append(T.triu(1).abs().square().sum().sqrt() / size if size > 0 else size)
    return torch.stack(found).to(lifted.device)
