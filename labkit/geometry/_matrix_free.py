"""The extreme singular values and eigenvalues of large operators, their traces and norms, from products alone.

Nothing is built and nothing is differentiated: all results are detached, in float64, and carry their error.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from labkit._lanczos import Eigen, Singular, eigenpairs, singular_triplets
from labkit._operator import Products
from labkit._quadrature import Estimate, hutchinson
from labkit.linearization import Jacobian, Linearization

__all__ = ["as_operator", "squared_norm", "top_eigenvalues", "top_singular_values", "trace"]


def top_singular_values(
    operator: Any, k: int, generator: torch.Generator | None = None, *, tolerance: float | None = None
) -> Singular:
    """The k largest singular values and their vectors from products alone, by restarted block Lanczos. Detached.

    Each step takes k + 4 products with J and with its adjoint; the basis holds at most 6(k + 4) vectors of either side.

    Args:
        operator: a linearization, or anything with `shape` ([B,] m, n), `dtype`, `device`, `@` on columns ([B,] n, j)
            and `.mT`.
        k: how many.
        generator: of the starting block, on the CPU; by default a new one seeded 0. All samples share the block, so the
            answer does not depend on what else is in the batch.
        tolerance: the relative residual to stop at, by default the rounding of products. The values are then right to
            about its square over their relative gaps.

    Returns:
        Singular(values, left, right, residual), descending; `residual` says how exact each is: by it, at most, a
        singular value of J differs from s. That no larger value was missed is certain only in probability.

    Raises:
        TypeError: If `operator` is none of these.
        ValueError: If k exceeds the size or the rank that products can resolve, the operator is zero, a product is not
            finite, or `tolerance` is not between 0 and 1.
        MemoryError: Before allocating, if the basis would not fit.

    Example:
        >>> found = top_singular_values(torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)), 2)
        >>> found.values.round(decimals=6), found.left.shape
        (tensor([3., 2.], dtype=torch.float64), torch.Size([3, 2]))
    """
    return singular_triplets(as_operator(operator), k, generator, tolerance)


def top_eigenvalues(
    operator: Any,
    k: int,
    generator: torch.Generator | None = None,
    *,
    which: str = "largest",
    tolerance: float | None = None,
) -> Eigen:
    """Extreme eigenvalues of a symmetric operator (a Fisher, a Hessian) and their vectors, by block Lanczos. Detached.

    Args:
        operator: a symmetric one, as in `top_singular_values`; `.mT` is never used.
        k: how many.
        generator: of the starting block, on the CPU; by default a new one seeded 0.
        which: "largest" or "smallest", with their sign, or "magnitude".
        tolerance: the residual to stop at, relative to the largest |λ|; by default the rounding of products.

    Returns:
        Eigen(values, vectors, residual), in the order asked; by `residual`, at most, an eigenvalue differs from λ.

    Raises:
        TypeError: If `operator` is none of these.
        ValueError: If k exceeds the size, the operator is not square or not symmetric, a product is not finite, or
            `which` or `tolerance` is not one of those above.
        MemoryError: Before allocating, if the basis would not fit.

    Example:
        >>> hessian = torch.diag(torch.tensor([3.0, 1.0, -4.0], dtype=torch.float64))
        >>> top_eigenvalues(hessian, 1).values.round(decimals=6)
        tensor([3.], dtype=torch.float64)
        >>> top_eigenvalues(hessian, 1, which="magnitude").values.round(decimals=6)
        tensor([-4.], dtype=torch.float64)
    """
    return eigenpairs(as_operator(operator), k, generator, which, tolerance)


def trace(operator: Any, probes: int = 16, generator: torch.Generator | None = None) -> Estimate:
    """The trace of a square operator by Hutch++, without bias; of Df, the divergence. Detached.

    Exact where the rank is at most `probes`; for a positive semidefinite operator the error falls like 1/probes.

    Args:
        operator: a square one, as in `top_singular_values`; `.mT` is never used.
        probes: at least 2; three products each.
        generator: of the probes, on the CPU; by default a new one seeded 0.

    Returns:
        Estimate(value, stderr, truncation), the last zero.

    Raises:
        TypeError: If `operator` is none of these.
        ValueError: If it is not square, `probes` is below 2, or a product is not finite.
        MemoryError: Before allocating, if the probes would not fit.

    Example:
        >>> trace(torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))).value.round(decimals=6)
        tensor(6., dtype=torch.float64)
    """
    A = Products(as_operator(operator))
    if A.m != A.n:
        raise ValueError(f"operator is {A.m} × {A.n}; a trace needs a square one, squared_norm takes any")
    return _hutchinson(A, A.measure, lambda V: (V * A.push(V)).sum(-2), 1, probes, generator)


def squared_norm(operator: Any, probes: int = 16, generator: torch.Generator | None = None) -> Estimate:
    """‖J‖_F² = tr JᵀJ, the sum of all squared singular values, by Hutch++, without bias. Detached.

    Args:
        operator: as in `top_singular_values`.
        probes: at least 2; three products with J and one with its adjoint each.
        generator: of the probes, on the CPU; by default a new one seeded 0.

    Returns:
        Estimate(value, stderr, truncation), the last zero.

    Raises:
        TypeError: If `operator` is none of these.
        ValueError: If `probes` is below 2, or a product is not finite.
        MemoryError: Before allocating, if the probes would not fit.

    Example:
        >>> squared_norm(torch.ones(3, 4, dtype=torch.float64)).value.round(decimals=6)
        tensor(12., dtype=torch.float64)
    """
    J = Products(as_operator(operator))
    return _hutchinson(J, lambda V: J.pull(J.measure(V)), lambda V: J.push(V).square().sum(-2), 2, probes, generator)


def as_operator(given: Any) -> Any:
    """A linearization as one operator, of shape (B, n_L, n_0); whatever else came as it is."""
    if not isinstance(given, Linearization):
        return given
    shape = torch.Size((given.batch, given.sizes[-1], given.sizes[0]))
    return Jacobian(given.__matmul__, given.mT.__matmul__, shape, given.dtype, given.device)


def _hutchinson(
    J: Products,
    apply: Callable[[Tensor], Tensor],
    forms: Callable[[Tensor], Tensor],
    power: int,
    probes: int,
    generator: torch.Generator | None,
) -> Estimate:
    with torch.no_grad():
        found = (J.times_scale(part, power) for part in hutchinson(J, apply, forms, probes, generator))
        value, stderr = (J.unbatched(part) for part in found)
    return Estimate(value, stderr, torch.zeros_like(value))
