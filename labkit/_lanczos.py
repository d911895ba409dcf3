"""The one matrix-free engine: products in, the dominant singular triplets or eigenpairs out, by block Lanczos.

Every new block is orthogonalised against the whole basis, and a full basis is cut back to its best directions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from labkit._linalg import column_norms, eigh, qr, svd
from labkit._operator import Directions, Products, check_symmetric, refuse_memory

__all__ = ["Eigen", "Singular", "eigenpairs", "singular_triplets"]

_STEPS = 500  # blocks before a stubborn spectrum is returned as it is, its residual telling
_PATIENCE = 40  # blocks without progress: what is left is the rounding of the products
_SPARE = 4  # directions beyond those asked, which speed up the last of them
_FULL, _KEPT = 6, 2  # blocks in a basis before it is cut back, and after

Extract = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]
_ORDERS: dict[str, Callable[[Tensor], Tensor]] = {
    "largest": lambda values: values,
    "smallest": lambda values: -values,
    "magnitude": torch.abs,
}


@dataclass(frozen=True)
class Singular:
    """The largest singular values of an operator J, descending, with their vectors; all detached, in float64.

    Attributes:
        values: (*batch, k), s.
        left: (*batch, m, k), orthonormal columns u.
        right: (*batch, n, k), orthonormal columns v.
        residual: (*batch, k), ‖Jᵀu - s v‖ and the rounding of one product, √max(m, n)·eps·s_1; J v = s u to that
            rounding. Some singular value of J lies within it of s.

    Example:
        >>> from labkit.geometry import spectra
        >>> J = torch.diag(torch.tensor([1.0, 5.0, 3.0]))
        >>> found = spectra.top_singular_values(J, 2)
        >>> found.values.round(decimals=4), found.left.shape, found.right.shape
        (tensor([5., 3.], dtype=torch.float64), torch.Size([3, 2]), torch.Size([3, 2]))
        >>> bool((found.residual < 1e-5).all())
        True
    """

    values: Float[Tensor, "*batch k"]
    left: Float[Tensor, "*batch m k"]
    right: Float[Tensor, "*batch n k"]
    residual: Float[Tensor, "*batch k"]


@dataclass(frozen=True)
class Eigen:
    """Eigenvalues of a symmetric operator A at one end of its spectrum, with their vectors; all detached, in float64.

    Attributes:
        values: (*batch, k), λ, in the order asked.
        vectors: (*batch, n, k), orthonormal columns v.
        residual: (*batch, k), ‖A v - λ v‖ and the rounding of one product, √n·eps·max|λ|. Some eigenvalue of A lies
            within it of λ.

    Example:
        >>> from labkit.geometry import spectra
        >>> found = spectra.top_eigenvalues(torch.diag(torch.tensor([1.0, 5.0, -7.0])), 1)
        >>> found.values.round(decimals=4), found.vectors.abs().round(decimals=4).mT
        (tensor([5.], dtype=torch.float64), tensor([[0., 1., 0.]], dtype=torch.float64))
    """

    values: Float[Tensor, "*batch k"]
    vectors: Float[Tensor, "*batch n k"]
    residual: Float[Tensor, "*batch k"]


@torch.no_grad()
def singular_triplets(
    operator: Any, k: int, generator: torch.Generator | None = None, tolerance: float | None = None
) -> Singular:
    """The k largest singular triplets of an operator J (see `labkit._operator`).

    Args:
        operator: the operator J.
        k: how many.
        generator: of the random directions, on the CPU, the same for all samples; by default a new one seeded 0.
        tolerance: the residual to stop at, relative to the largest value; by default the rounding of products.

    Raises:
        TypeError: If `operator` is none.
        ValueError: If k exceeds the size or the rank that products can resolve, the operator is zero, a product is not
            finite, or `tolerance` is not between 0 and 1.
        MemoryError: If the basis would not fit.
    """
    J = Products(operator)
    _check_count(k, J, "singular values")

    def extract(V: Tensor, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        U, s, Wh = svd(images)
        right, count = V @ Wh.mT, min(_width(k, J), s.shape[-1])
        rest = J.pull(U[..., :count]) - right[..., :count] * s[..., None, :count]
        return s[..., :1], right, U * s[..., None, :], rest

    right = _dominant(J, k, extract, generator, tolerance)
    U, s, Wh = svd(J.push(right))  # afresh, for the sums of all steps carry their rounding
    right = right @ Wh.mT
    rounding = max(J.m, J.n) ** 0.5 * J.eps * s[..., :1]
    lost = s <= 4 * rounding
    if (zero := s[..., 0] == 0).any():
        sample = int(zero.nonzero()[0])
        raise ValueError(f"operator is zero in sample {sample}, so no k is within its rank; leave that sample out")
    if lost.any():
        rank = int((~lost).sum(-1).min())
        raise ValueError(f"k={k} exceeds the rank that products can resolve, {rank} here; ask for at most that many")
    residual = column_norms(J.pull(U) - right * s[..., None, :]) + rounding
    found = (J.times_scale(s), U, right, J.times_scale(residual))
    return Singular(*(J.unbatched(part) for part in found))


@torch.no_grad()
def eigenpairs(
    operator: Any,
    k: int,
    generator: torch.Generator | None = None,
    which: str = "largest",
    tolerance: float | None = None,
) -> Eigen:
    """The k eigenvalues of a symmetric operator A that come first in an order, with their vectors.

    Args:
        operator: the operator A, square and symmetric; only `@` is used.
        k: how many.
        generator: of the random directions, on the CPU, the same for all samples; by default a new one seeded 0.
        which: "largest", "smallest" (both with their sign) or "magnitude".
        tolerance: the residual to stop at, relative to the largest |λ|; by default the rounding of products.

    Raises:
        TypeError: If `operator` is none.
        ValueError: If k exceeds the size, `which` is unknown, the operator is not square or not symmetric, a product is
            not finite, or `tolerance` is not between 0 and 1.
        MemoryError: If the basis would not fit.
    """
    A = Products(operator)
    if A.m != A.n:
        raise ValueError(f"operator is {A.m} × {A.n}; eigenvalues need a square symmetric one")
    _check_count(k, A, "eigenvalues")
    if which not in _ORDERS:
        raise ValueError(f'which={which!r}; pass "largest", "smallest" or "magnitude"')

    def rayleigh_ritz(V: Tensor, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        T = V.mT @ images
        check_symmetric(T, A)
        values, W = eigh((T + T.mT) / 2)
        order = _ORDERS[which](values).argsort(-1, descending=True)
        W = W.gather(-1, order[..., None, :].expand_as(W))
        return values.gather(-1, order), V @ W, images @ W

    def extract(V: Tensor, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        values, vectors, images = rayleigh_ritz(V, images)
        count = _width(k, A)
        rest = (images - vectors * values[..., None, :])[..., :count]
        return values.abs().amax(-1, keepdim=True), vectors, images, rest

    vectors = _dominant(A, k, extract, generator, tolerance)
    values, vectors, images = rayleigh_ritz(vectors, A.push(vectors))
    rounding = A.n**0.5 * A.eps * values.abs().amax(-1, keepdim=True)
    residual = column_norms(images - vectors * values[..., None, :]) + rounding
    found = (A.times_scale(values), vectors, A.times_scale(residual))
    return Eigen(*(A.unbatched(part) for part in found))


def _dominant(
    J: Products, k: int, extract: Extract, generator: torch.Generator | None, tolerance: float | None
) -> Float[Tensor, "batch n k"]:
    """The first k directions of a restarted block Krylov space.

    `extract` finds in a basis V with images J V: the scale of J, the directions in their order, their images, and what
    the first few leave over, which is the block to come.
    """
    if tolerance is not None and not 0 < tolerance < 1:
        raise ValueError(f"tolerance={tolerance!r}; pass a relative residual between 0 and 1, or None for rounding")
    random, width = Directions(J, generator), _width(k, J)
    need = 8.0 * J.batch * min(J.n, _FULL * width) * 3 * (J.m + J.n)  # basis and images, each with a rotated copy
    cure = "{share} times fewer samples at once, or a smaller k, would do"
    refuse_memory(need, J.device, f"the basis for k={k} on {J.batch} operator(s) of {J.m} × {J.n}", cure)
    V, _ = qr(random(J.n, width))
    images = J.measure(V)
    relative = 4 * J.n**0.5 * J.eps if tolerance is None else tolerance
    best, idle = torch.inf, 0
    for _ in range(_STEPS):
        scale, ordered, kept, rest = extract(V, images)
        residual, goal = column_norms(rest), relative * scale
        worst = float((residual[..., :k] / scale.clamp(min=1e-300)).max())
        best, idle = (worst, 0) if worst < 0.9 * best else (best, idle + 1)
        if V.shape[-1] == J.n or (residual[..., :k] <= goal).all() or idle == _PATIENCE:
            break
        if V.shape[-1] >= _FULL * width:
            V, images = ordered[..., : _KEPT * width], kept[..., : _KEPT * width]
        # a direction that has converged leaves only rounding: a random one takes its place
        spent = (residual <= 4 * J.n**0.5 * J.eps * scale)[..., None, :]
        fresh = random(J.n, rest.shape[-1])
        block = torch.where(spent, fresh, rest / residual.clamp(min=1e-300)[..., None, :])
        block = orthonormal(block[..., : J.n - V.shape[-1]], V)
        V, images = torch.cat([V, block], -1), torch.cat([images, J.push(block)], -1)
    return ordered[..., :k]


def orthonormal(block: Float[Tensor, "*batch n j"], V: Float[Tensor, "*batch n p"]) -> Float[Tensor, "*batch n j"]:
    """The block made orthonormal, and orthogonal to V: thrice, for what one pass leaves may be mostly rounding."""
    for _ in range(3):
        block, _ = qr(block - V @ (V.mT @ block))
    return block


def _width(k: int, J: Products) -> int:
    return min(k + _SPARE, J.n)


def _check_count(k: Any, J: Products, what: str) -> None:
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= min(J.m, J.n):
        raise ValueError(f"k={k!r}; a {J.m} × {J.n} operator has {what} 1 … {min(J.m, J.n)}")
