"""What the tests of geometry share: the exact oracle of the spectra, and the plain model of the Fisher matrix.

Float64 links are rational numbers, so their product and its rank are exact.
"""

import math
from collections.abc import Callable, Sequence

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor, nn


def exact_product(links: Sequence[Tensor]) -> tuple[np.ndarray, int]:
    """Integers P and e with J_L ⋯ J_1 = P 2^e exactly; each link a matrix (n_l, n_{l-1})."""
    product, exponent = None, 0
    for J in links:
        ratios = [[x.as_integer_ratio() for x in row] for row in J.double().tolist()]
        shift = max(q.bit_length() - 1 for row in ratios for _, q in row)
        whole = np.array([[p << (shift - q.bit_length() + 1) for p, q in row] for row in ratios], dtype=object)
        product = whole if product is None else whole.dot(product)
        exponent -= shift
    return product, exponent


def exact_rank(P: np.ndarray) -> tuple[int, int]:
    """Rank of an integer matrix, and the last pivot, ± the determinant of a regular one (Bareiss elimination)."""
    A, rank, pivot = [list(row) for row in P], 0, 1
    for column in range(len(A[0])):
        swap = next((i for i in range(rank, len(A)) if A[i][column]), None)
        if swap is None:
            continue
        A[rank], A[swap] = A[swap], A[rank]
        top = A[rank]
        for row in A[rank + 1 :]:
            lead = row[column]
            row[:] = [(top[column] * x - lead * y) // pivot for x, y in zip(row, top, strict=True)]
        pivot, rank = top[column], rank + 1
        if rank == len(A):
            break
    return rank, pivot


def exact_log_singular_values(links: Sequence[Tensor]) -> Tensor:
    """Log singular values of the product of matrices, (n_0,), -inf beyond the exact rank.

    The r nonzero eigenvalues of the integer Gram matrix G have an integer product, so the least is at least
    λ_max^(1-r): with r log10 λ_max digits it is resolved. Fewer do where the determinant confirms them.
    """
    P, exponent = exact_product(links)
    n_0 = P.shape[1]
    gram = P.dot(P.T) if P.shape[0] < P.shape[1] else P.T.dot(P)
    rank, det = exact_rank(gram)
    logs: list[float] = []
    largest = len(gram) * max(abs(x) for x in gram.ravel())
    enough = 40 + rank * int(1 + largest.bit_length() * math.log10(2))
    digits = 100
    while rank:
        digits = min(2 * digits, enough)
        with mpmath.workdps(digits):
            found = mpmath.eigsy(mpmath.matrix(gram.tolist()), eigvals_only=True)
            found = sorted((mpmath.log(abs(x)) for x in found if x), reverse=True)[:rank]
            regular = len(found) == rank == len(gram)
            if digits == enough or (regular and abs(mpmath.fsum(found) - mpmath.log(det)) < 1e-20):
                logs = [float(x / 2 + exponent * mpmath.log(2)) for x in found]
                break
    return torch.tensor(logs + [-torch.inf] * (n_0 - rank), dtype=torch.float64)


@pytest.fixture(scope="session")
def exact() -> Callable[[Sequence[Tensor]], Tensor]:
    return exact_log_singular_values


@pytest.fixture(scope="session")
def mlp() -> Callable[..., nn.Module]:
    def make(n_in: int = 6, width: int = 8, n_out: int = 4) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(n_in, width), nn.Tanh(), nn.Linear(width, n_out)).double()

    return make
