"""A link as the factors that a frame is pushed through one after the other, with the noise that rounding leaves.

It is also where links are jiggled by an ulp, for error estimates by stochastic arithmetic.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from labkit._linalg import column_norms, lift, row_norms, split_scale
from labkit.linearization import Jacobian

__all__ = ["TINY", "Jiggle", "Links", "Push", "factors"]

Links = Iterable[Tensor | Jacobian]
Matrices = Float[Tensor, "batch m n"]

TINY = 1e-300  # a divisor for what is zero
_ROUNDING = 4 * 2.0**-52  # of a row, times the terms of a sum: what is smaller is taken for noise


class Jiggle(NamedTuple):
    """How to perturb: `copies` folds side by side, every entry of every link moved by one ulp of its own dtype.

    What rounding leaves of a cancellation is a small multiple of one ulp, and folds may agree in it by chance; so each
    of them runs in a unit of its own, a `gauge` in [1, 2) that is divided out of the exponent.
    """

    copies: int
    generator: torch.Generator

    def gauge(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """A random factor for each matrix of (B, m, n), shaped (B, 1, 1), and its logarithm to base 2, (B,)."""
        factor = 1 + torch.rand(len(like), generator=self.generator, dtype=torch.float64).to(like)
        return factor[:, None, None], factor.log2()


def _rounding(shape: torch.Size, mild: bool) -> float:
    """Noise relative to a row: n roundings at worst, their root as a rule. Folds for errors judge by the rule.

    A direction between the two is then lost in the fold and kept in the folds beside it, and its error is inf.
    """
    n = max(shape[1:])
    return _ROUNDING * (n**0.5 if mild else n)


class Push(NamedTuple):
    """A frame after one link, J X = M 2^exponent; `noise` is what rounding may leave in each row of M."""

    M: Matrices
    noise: Float[Tensor, "batch m"]
    exponent: Float[Tensor, " batch"]


class Matrix(NamedTuple):
    """The factor Â 2^exponent."""

    A: Matrices
    exponent: Float[Tensor, " batch"]
    mild: bool

    def push(self, X: Float[Tensor, "batch n q"]) -> Push:
        """The factor times X."""
        noise = _rounding(self.A.shape, self.mild) * row_norms(self.A.detach())
        return Push(self.A @ X, noise, self.exponent)


class Diagonal(NamedTuple):
    """The factor diag(c)."""

    c: Float[Tensor, "batch n"]

    def push(self, X: Float[Tensor, "batch n q"]) -> Push:
        """The factor times X."""
        return Push(self.c[:, :, None] * X, _ROUNDING * self.c.shape[-1] * self.c, self.c.new_zeros(len(self.c)))


class Operator(NamedTuple):
    """A factor known by what it does to a narrow frame: its rows are taken to be as large as those of J X."""

    J: Jacobian
    link: int
    jiggle: Jiggle | None

    def push(self, X: Float[Tensor, "batch n q"]) -> Push:
        """The factor times X."""
        copies = self.jiggle.copies if self.jiggle else 1
        gauge, logarithm = self.jiggle.gauge(X) if self.jiggle else (1.0, 0.0)
        beside = torch.cat((X * gauge).chunk(copies), -1)  # copies·B frames as B wide ones
        M = torch.cat(lift(self.J @ beside.to(self.J.device, self.J.dtype)).chunk(copies, -1))
        _check_finite(M, self.link)
        M, exponent = split_scale(M)
        size = row_norms(M.detach())
        if self.jiggle:
            M = M + torch.finfo(self.J.dtype).eps * size[:, :, None] * _signs(M, self.jiggle)
        return Push(M, _rounding(torch.Size(self.J.shape), bool(self.jiggle)) * size, exponent - logarithm)


def factors(
    link: Tensor | Jacobian, index: int, k: int, jiggle: Jiggle | None = None
) -> list[Matrix | Diagonal | Operator]:
    """The link as what is pushed through one after the other; an operator is built only for a frame as wide as it."""
    if not isinstance(link, Tensor):
        if k < link.shape[-1]:
            return [Operator(link, index, jiggle)]
        link = link.dense()
    _check_finite(link, index)
    J, exponent = split_scale(lift(link))
    if jiggle:
        J, exponent = J.repeat(jiggle.copies, 1, 1), exponent.repeat(jiggle.copies)
        J = J * (1 + torch.finfo(link.dtype).eps * _signs(J, jiggle))
    # Tiny columns of J would drown in J X: their scale goes first, as a factor of its own.
    c = column_norms(J.detach())
    c = torch.where(c > 0, c, c.amax(-1, keepdim=True).clamp(min=TINY))
    graded = bool((c.amax(-1) > 100 * c.amin(-1)).any())
    A = J / c[:, None, :] if graded else J
    if jiggle:
        gauge, logarithm = jiggle.gauge(J)
        A, exponent = A * gauge, exponent - logarithm
    matrix = Matrix(A, exponent, mild=jiggle is not None)
    return [Diagonal(c), matrix] if graded else [matrix]


def _check_finite(J: Matrices, index: int) -> None:
    bad = ~J.detach().isfinite().flatten(1).all(1)
    if bad.any():
        sample = int(bad.nonzero()[0])
        raise ValueError(f"lin[{index}] holds NaN or infinity in sample {sample}; a spectrum needs finite Jacobians")


def _signs(like: Tensor, jiggle: Jiggle) -> Tensor:
    """±1 at random, drawn on the CPU so that every device sees the same."""
    bits = torch.randint(0, 2, like.shape, generator=jiggle.generator, dtype=torch.int8)
    return bits.to(like) * 2 - 1
