"""Sums over a whole spectrum from products alone: stochastic Lanczos quadrature, and Hutch++ for traces.

A random unit probe z sees every eigenvalue λᵢ with weight (vᵢᵀz)², and a few Lanczos steps find the Gauss rule of that.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from labkit._linalg import eigh, qr, svd
from labkit._memory import available_bytes
from labkit._operator import Directions, Products, check_symmetric, refuse_memory

__all__ = ["Estimate", "Quadrature", "eigenvalue_quadrature", "hutchinson", "mean_and_error", "singular_quadrature"]

_AT_ONCE = 2.0**30  # bytes of basis, where more probes could be run together
_NOTHING = 1e-24  # a weight that is the square of rounding
_SETTLED = 1e-9  # relative change of a mean that is no longer looked at
_FALLING = 0.8  # ratio of two changes beyond which their series may have any sum

Rule = tuple[Tensor, Tensor]  # nodes and weights


@dataclass(frozen=True)
class Estimate:
    """A number estimated from random probes; all detached, in float64.

    Attributes:
        value: (*batch,).
        stderr: (*batch,), the standard error over probes.
        truncation: (*batch,), a bias that more probes do not lower, since the steps were few: estimated from what the
            last two doublings of the steps changed; inf where that did not fall, 0 where the rule is exact.

    Example:
        >>> from labkit.geometry import spectra
        >>> found = spectra.trace(torch.eye(100), probes=8)
        >>> bool((found.value - 100).abs() <= 4 * found.stderr + 1e-9), found.truncation
        (True, tensor(0., dtype=torch.float64))
    """

    value: Float[Tensor, "*batch"]
    stderr: Float[Tensor, "*batch"]
    truncation: Float[Tensor, "*batch"]


@dataclass(frozen=True)
class Quadrature:
    """The Gauss rule of every probe: Σ weights·f(nodes) estimates the mean of f over a spectrum of `size` values.

    Attributes:
        nodes: (batch, probes, steps), in the unit of `products`.
        weights: alike, summing to one over the steps.
        residual: alike: by it, at most, a value of the spectrum differs from the node.
        fewer: nodes and weights from a half and from a quarter of the steps.
        exhausted: (batch, probes), whether the probe's rule is exact, for its Krylov space ends.
        floor: (batch, 1, 1), the rounding of products: a node this small may as well be zero.
        size: how many values the spectrum has.
        products: the operator, which knows the unit.
    """

    nodes: Float[Tensor, "batch probes steps"]
    weights: Float[Tensor, "batch probes steps"]
    residual: Float[Tensor, "batch probes steps"]
    fewer: tuple[Rule, Rule]
    exhausted: Bool[Tensor, "batch probes"]
    floor: Float[Tensor, "batch 1 1"]
    size: int
    products: Products

    def mean(self, function: Callable[[Tensor], Tensor]) -> Estimate:
        """The mean of function(value) over the spectrum, (batch,)."""
        full, half, quarter = (
            torch.where(weights > _NOTHING, weights * function(nodes), 0.0).sum(-1)
            for nodes, weights in ((self.nodes, self.weights), *self.fewer)
        )
        value, stderr = mean_and_error(full)
        half, quarter = (torch.where(self.exhausted, full, part) for part in (half, quarter))
        before, last = (half - quarter).mean(-1).abs(), (full - half).mean(-1).abs()
        ratio = last / before
        ahead = torch.where(ratio < _FALLING, last * (ratio / (1 - ratio)).clamp(min=1.0), torch.inf)
        return Estimate(value, stderr, torch.where(last <= _SETTLED * (1 + value.abs()), last, ahead))


def mean_and_error(samples: Float[Tensor, "... probes"]) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """The mean over probes, and its standard error."""
    return samples.mean(-1), samples.std(-1) / samples.shape[-1] ** 0.5


@torch.no_grad()
def singular_quadrature(operator: Any, probes: int, steps: int, generator: torch.Generator | None) -> Quadrature:
    """Gauss rules of the min(m, n) singular values of J, by Golub-Kahan bidiagonalisation from its smaller side.

    Raises:
        TypeError: If `operator` is none.
        ValueError: If `probes` or `steps` is below 2, the operator is zero, or a product is not finite.
        MemoryError: If the bases of one probe would not fit.
    """
    J = Products(operator)
    J = Products(operator.mT) if J.m < J.n else J
    alphas, betas, beyond = [], [], []
    random = Directions(J, generator)
    chunks, steps = _starts(J, probes, steps, J.m + J.n, random)
    for start in chunks:
        right, left = _Basis(J, J.n, steps, random), _Basis(J, J.m, steps, random)
        right.extend(start)
        alpha, beta = [left.extend(J.push(right.last))], []
        for _ in range(steps - 1):
            beta.append(right.extend(J.pull(left.last)))
            alpha.append(left.extend(J.push(right.last)))
        alphas.append(torch.stack(alpha, -1))
        betas.append(torch.stack(beta, -1) if beta else alphas[-1][..., :0])
        beyond.append(right.beyond(J.pull(left.last)))
    B = torch.cat(alphas, 1).diag_embed() + torch.cat(betas, 1).diag_embed(offset=1)

    def rule(count: int) -> tuple[Tensor, Tensor, Tensor]:
        W, nodes, Vh = svd(B[..., :count, :count])
        return nodes, Vh[..., 0].square(), W[..., -1, :].abs()

    broken = (torch.cat(alphas, 1) == 0).any(-1) | (torch.cat(betas, 1) == 0).any(-1)
    return _quadrature(J, rule, steps, torch.cat(beyond, 1), broken)


@torch.no_grad()
def eigenvalue_quadrature(operator: Any, probes: int, steps: int, generator: torch.Generator | None) -> Quadrature:
    """Gauss rules of the eigenvalues of a symmetric operator, by Lanczos tridiagonalisation.

    Raises:
        TypeError: If `operator` is none.
        ValueError: If it is not square or not symmetric, `probes` or `steps` is below 2, the operator is zero, or a
            product is not finite.
        MemoryError: If the basis of one probe would not fit.
    """
    A = Products(operator)
    alphas, betas, beyond = [], [], []
    random = Directions(A, generator)
    chunks, steps = _starts(A, probes, steps, A.n, random, symmetric=True)
    for start in chunks:
        basis, alpha, beta = _Basis(A, A.n, steps, random), [], []
        basis.extend(start)
        for step in range(steps):
            image = A.push(basis.last)
            alpha.append((basis.last * image).sum(-2))
            if step < steps - 1:
                beta.append(basis.extend(image))
        beyond.append(basis.beyond(image))
        alphas.append(torch.stack(alpha, -1))
        betas.append(torch.stack(beta, -1) if beta else alphas[-1][..., :0])
    above = torch.cat(betas, 1).diag_embed(offset=1)
    T = torch.cat(alphas, 1).diag_embed() + above + above.mT

    def rule(count: int) -> tuple[Tensor, Tensor, Tensor]:
        nodes, W = eigh(T[..., :count, :count])
        return nodes, W[..., 0, :].square(), W[..., -1, :].abs()

    return _quadrature(A, rule, steps, torch.cat(beyond, 1), (torch.cat(betas, 1) == 0).any(-1))


def hutchinson(
    J: Products,
    apply: Callable[[Tensor], Tensor],
    forms: Callable[[Tensor], Tensor],
    probes: int,
    generator: torch.Generator | None,
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """The trace of an n × n operator A by Hutch++ (Meyer et al. 2021): exact on a sketched range, sampled beside it.

    Args:
        J: for sizes and device.
        apply: columns (B, n, j) to A columns.
        forms: columns (B, n, j) to vᵀAv of each, (B, j).
        probes: of the sketch, and again of the samples.
        generator: on the CPU; None for a new one seeded 0.

    Returns:
        The unbiased estimate and its standard error, from the samples beside the sketch.
    """
    _check_least("probes", probes)
    cure = "{share} times fewer probes or samples at once would do"
    refuse_memory(8.0 * 4 * J.batch * probes * (J.m + J.n), J.device, f"probes={probes} of {J.n} numbers", cure)
    random = Directions(J, generator)
    Q, _ = qr(apply(random(J.n, min(probes, J.n))))
    rest = random(J.n, probes)
    mean, error = mean_and_error(forms(rest - Q @ (Q.mT @ rest)))
    return forms(Q).sum(-1) + mean, error


class _Basis:
    """Orthonormal vectors of every probe, kept whole: without all of them Lanczos finds its values again and again.

    Args:
        J: for batch, device and rounding.
        size: of a vector.
        steps: how many there will be.
        random: where a vector comes from that no product gives.
    """

    def __init__(self, J: Products, size: int, steps: int, random: Directions):
        self._J, self._size, self._steps, self._random = J, size, steps, random
        self._count, self._kept, self._scale = 0, torch.empty(0), torch.ones(())

    @property
    def last(self) -> Float[Tensor, "batch size probes"]:
        """The vectors added last, as columns."""
        return self._kept[:, :, self._count - 1].mT

    def extend(self, columns: Float[Tensor, "batch size probes"]) -> Float[Tensor, "batch probes"]:
        """Add what columns have beside the basis, a random direction where that is rounding; its length, then 0."""
        if self._count == 0:
            self._kept = columns.new_empty(columns.shape[0], columns.shape[-1], self._steps, self._size)
        rest = self._beside(columns.mT)
        length = rest.square().sum(-1).sqrt()
        self._scale = torch.maximum(self._scale.to(length), length)
        broken = length <= self._size**0.5 * self._J.eps * self._scale
        if bool(broken.any()):
            fresh = self._random(self._size, columns.shape[-1]).mT
            rest = torch.where(broken[..., None], self._beside(fresh), rest)
        rest = rest / rest.square().sum(-1, keepdim=True).sqrt()
        self._kept[:, :, self._count] = rest
        self._count += 1
        return torch.where(broken, 0.0, length)

    def beyond(self, columns: Float[Tensor, "batch size probes"]) -> Float[Tensor, "batch probes"]:
        """The length of what columns have beside the basis, which stays as it is."""
        return self._beside(columns.mT).square().sum(-1).sqrt()

    def _beside(self, rows: Float[Tensor, "batch probes size"]) -> Float[Tensor, "batch probes size"]:
        kept = self._kept[:, :, : self._count]
        for _ in range(2):
            rows = rows - ((kept @ rows[..., None]).mT @ kept)[..., 0, :]
        return rows


def _starts(
    J: Products, probes: Any, steps: Any, length: int, random: Directions, symmetric: bool = False
) -> tuple[Iterator[Tensor], int]:
    """The unit probes, in chunks whose bases fit, and the steps that there are; sets the unit of J."""
    if symmetric and J.m != J.n:
        raise ValueError(f"operator is {J.m} × {J.n}; eigenvalues need a square symmetric one")
    _check_least("probes", probes)
    _check_least("steps", steps)
    steps = min(steps, J.n)
    need = 8.0 * J.batch * steps * length
    cure = "{share} times fewer steps or samples at once would do"
    refuse_memory(need, J.device, f"the Lanczos basis of one probe, steps={steps} on {J.m} × {J.n},", cure)
    fit = max(1, int(min(_AT_ONCE, available_bytes(J.device) / 2) // need))
    start = random(J.n, probes)
    start = start / start.square().sum(-2, keepdim=True).sqrt()
    images = J.measure(start[..., :2])
    zero = (images == 0).all(-1).all(-1)
    if zero.any():
        sample = int(zero.nonzero()[0])
        raise ValueError(f"operator is zero in sample {sample}, so no singular value has a logarithm; leave it out")
    if symmetric:
        check_symmetric(start[..., :2].mT @ images, J)
    return iter(torch.split(start, fit, -1)), steps


def _quadrature(
    J: Products, rule: Callable[[int], tuple[Tensor, Tensor, Tensor]], steps: int, beyond: Tensor, broken: Tensor
) -> Quadrature:
    """From the rule of so many steps (nodes, weights, share of the last vector), and its coupling to what is beyond."""
    nodes, weights, last = rule(steps)
    floor = 4 * J.m**0.5 * J.eps * nodes.abs().amax((-2, -1), keepdim=True)
    half, quarter = rule(math.ceil(steps / 2)), rule(math.ceil(steps / 4))
    exhausted = broken | (beyond <= floor[..., 0])
    return Quadrature(nodes, weights, beyond[..., None] * last, (half[:2], quarter[:2]), exhausted, floor, J.n, J)


def _check_least(name: str, count: Any) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 2:
        raise ValueError(f"{name}={count!r}; pass an integer of at least 2, or there is no error to estimate")
