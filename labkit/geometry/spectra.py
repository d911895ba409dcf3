"""Spectra of a chain's prefixes, right at any depth: log singular values, and what is read off them.

Values are natural logarithms in float64, with an honest error estimate beside them; the matrix-free part is detached.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from labkit._lanczos import Eigen, Singular
from labkit._linalg import departure_from_normality, lift, split_scale
from labkit._product_factors import Jiggle
from labkit._product_svd import log_singular_values, log_volumes
from labkit._quadrature import Estimate
from labkit.geometry._arguments import Depths, Lin, as_basis, as_depths, check_linearization
from labkit.geometry._densities import (
    Density,
    EigenvalueDensity,
    eigenvalue_density,
    log_volume_estimate,
    spectral_density,
)
from labkit.geometry._matrix_free import squared_norm, top_eigenvalues, top_singular_values, trace
from labkit.linearization import Linearization

__all__ = [
    "Density",
    "Eigen",
    "EigenvalueDensity",
    "Estimate",
    "LogSpectrum",
    "Singular",
    "effective_rank",
    "eigenvalue_density",
    "log_spectrum",
    "log_volume",
    "log_volume_estimate",
    "nonnormality",
    "spectral_density",
    "squared_norm",
    "top_eigenvalues",
    "top_singular_values",
    "trace",
]

Rank = int | str | None

_REFOLDS = 3
_NO_DIGITS = 0.1  # nats of error beyond which a value has none
_ULP = 2.0**-52  # the logarithm itself is rounded


@dataclass(frozen=True)
class LogSpectrum:
    """Log singular values of the prefixes of a chain.

    Attributes:
        values: ([D,] B, k) in float64, descending along the last axis; -inf where rank is lost.
        error: like `values`, in nats; see there.
        rank: ([D,] B), how many values are finite.

    Example:
        >>> from labkit import Linearization
        >>> spec = log_spectrum(Linearization([torch.diag(torch.tensor([4.0, 1.0, 0.0]))[None]]))
        >>> spec.values.exp().round(decimals=6), spec.rank, bool((spec.error < 1e-5).all())
        (tensor([[4., 1., 0.]], dtype=torch.float64), tensor([2]), True)
        >>> spec.log_distortion(), spec.log_distortion(rank=2).exp()
        (tensor([inf], dtype=torch.float64), tensor([4.0000], dtype=torch.float64))
        >>> spec.log_volume(), spec.log_volume(rank="numerical").exp()
        (tensor([-inf], dtype=torch.float64), tensor([4.0000], dtype=torch.float64))
        >>> spec.isometry_gap(rank=1)
        tensor([0.], dtype=torch.float64)
    """

    values: Float[Tensor, "*depths batch k"]
    _refold: Callable[[], Tensor] = field(repr=False, compare=False)

    @cached_property
    def error(self) -> Float[Tensor, "*depths batch k"]:
        """The estimated error of each value, in nats, detached; computed when first asked, then kept.

        Stochastic arithmetic: the chain is folded three more times with every entry of every link moved at random by
        one ulp of its dtype, and the largest change of the value or its neighbours, times three, is the error. inf
        where that passes 0.1, for such a value has no digits, and where rank is lost in some folds only; 0 where it is
        lost in all.
        """
        values, refolds = self.values.detach(), self._refold()
        lost = values.isneginf()
        change = (refolds - torch.where(lost, 0.0, values)).abs().amax(0)
        change = _REFOLDS * torch.where(lost, 0.0, change)
        # three draws may agree by chance: neighbours in the spectrum, if they have digits, speak for each other
        sound = torch.where(change <= _NO_DIGITS, change, 0.0)
        beside = torch.nn.functional.max_pool1d(sound.flatten(0, -2)[:, None], 3, stride=1, padding=1)
        error = torch.where(lost, 0.0, torch.maximum(change, beside.view_as(sound)) + _ULP * values.abs())
        agree = (refolds.isneginf() == lost).all(0)
        return torch.where(agree & (error <= _NO_DIGITS), error, torch.inf)

    @property
    def rank(self) -> Int[Tensor, "*depths batch"]:
        """The numerical rank: how many values are finite."""
        return self.values.isfinite().sum(-1)

    def log_distortion(self, rank: Rank = None) -> Float[Tensor, "*depths batch"]:
        """log s_1 - log s_r, the logarithm of the condition number on the r strongest directions.

        Args:
            rank: r, or "numerical" for each sample's own rank; None for all k, hence inf where rank is lost.

        Raises:
            ValueError: If `rank` is neither None, "numerical" nor one of 1 … k.
        """
        values, kept = self._strongest(rank)
        last = values.gather(-1, (kept.sum(-1, keepdim=True) - 1).clamp(min=0))[..., 0]
        return torch.where(kept.any(-1), _finite(values[..., 0]) - last, torch.nan)

    def log_volume(self, rank: Rank = None) -> Float[Tensor, "*depths batch"]:
        """The sum of the r largest log singular values, ½ log det g for r = k; `rank` as in `log_distortion`."""
        values, kept = self._strongest(rank)
        return torch.where(kept, values, 0.0).sum(-1)

    def isometry_gap(self, rank: Rank = None) -> Float[Tensor, "*depths batch"]:
        """log mean s² - mean log s² over the r largest: 0 for a similarity, and scale-free; `rank` as above."""
        values, kept = self._strongest(rank)
        count = kept.sum(-1)
        finite = torch.where(kept & values.isfinite(), values, -torch.inf)
        top = _finite(finite.detach()[..., :1])
        total = (2 * (finite - top)).exp().sum(-1)
        log_mean = torch.where(total > 0, total, 1.0).log() - count.double().log()
        mean_log = 2 * torch.where(kept, values - top, 0.0).sum(-1) / count
        return torch.where(count > 0, log_mean - mean_log, torch.nan)

    def _strongest(self, rank: Rank) -> tuple[Tensor, Tensor]:
        k = self.values.shape[-1]
        if rank == "numerical":
            return self.values, self.values.isfinite()
        if rank is not None and (isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= k):
            raise ValueError(f'rank={rank!r}; pass one of 1 … {k}, "numerical", or None for all {k} values')
        return self.values, torch.arange(k, device=self.values.device).expand(self.values.shape) < (rank or k)


def log_spectrum(
    lin: Lin,
    basis: Tensor | None = None,
    depths: Depths = None,
    generator: torch.Generator | None = None,
) -> LogSpectrum:
    """Log singular values of the prefix J_l ⋯ J_1 at each depth, right however far apart they lie.

    All depths come from one pass. Rank is decided link by link: a direction is lost where what a link leaves of it is
    no larger than rounding in the rows of that link, so a value far below all others is kept as long as each link
    keeps it; where that is less than rounding at its worst but more than as a rule, `error` is inf. Differentiable
    in the Jacobians where the values are finite and simple.

    Args:
        lin: the chain at x; `lin.mT` gives the spectra of the suffixes.
        basis: orthonormal columns (B, n_0, k) or (n_0, k); all of R^n0 by default.
        depths: depths 0 … L to answer at; the end by default.
        generator: of the perturbations behind `error`, on the CPU; by default a new one seeded 0.

    Returns:
        A LogSpectrum with values ([D,] B, k), the axis D only where depths are given. On a device without float64 it
        lives on the CPU. A backward pass through a value of -inf raises RuntimeError and names `rank=`.

    Raises:
        TypeError: If `lin` is no linearization, or `basis` or `depths` of the wrong kind.
        ValueError: If `basis` is not orthonormal or does not fit, a depth is out of range, or a link holds NaN.

    Example:
        >>> from labkit import Linearization
        >>> shear = torch.tensor([[[1e-3, 1.0], [0.0, 1.0]]], dtype=torch.float64)
        >>> spec = log_spectrum(Linearization([shear] * 20))
        >>> spec.values  # their sum is 20 log 1e-3 = -138.155
        tensor([[   0.3471, -138.5022]], dtype=torch.float64)
        >>> bool(spec.error.max() < 1e-10)
        True
    """
    check_linearization(lin)
    frame, asked = as_basis(lin, basis), as_depths(lin, depths)

    @torch.no_grad()
    def refold() -> Tensor:
        jiggle = Jiggle(_REFOLDS, generator or torch.Generator().manual_seed(0))
        found = log_singular_values(lin, frame, asked, jiggle)
        copies = torch.stack(found.chunk(_REFOLDS, dim=1))
        return copies[:, 0] if depths is None else copies

    values = log_singular_values(lin, frame, asked)
    return LogSpectrum(_refuse_lost(values[0] if depths is None else values, lin), refold)


def log_volume(lin: Lin, basis: Tensor | None = None, depths: Depths = None) -> Float[Tensor, "*depths batch"]:
    """The log-volume that `log_spectrum(…).log_volume()` gives, from the QR fold alone: cheaper.

    Args:
        lin: the chain at x.
        basis: orthonormal columns (B, n_0, k) or (n_0, k); all of R^n0 by default.
        depths: depths 0 … L to answer at; the end by default.

    Returns:
        ([D,] B) in float64, ½ log det of the pullback metric; -inf where rank is lost. Differentiable where finite; a
        backward pass through -inf raises RuntimeError.

    Raises:
        TypeError: If `lin` is no linearization, or `basis` or `depths` of the wrong kind.
        ValueError: If `basis` is not orthonormal or does not fit, a depth is out of range, or a link holds NaN.

    Example:
        >>> from labkit import Linearization
        >>> log_volume(Linearization([2 * torch.eye(3).expand(1, 3, 3)] * 4))  # 12 log 2
        tensor([8.3178], dtype=torch.float64)
    """
    check_linearization(lin)
    volumes = _refuse_lost(log_volumes(lin, as_basis(lin, basis), as_depths(lin, depths)), lin)
    return volumes[0] if depths is None else volumes


def effective_rank(spec: LogSpectrum) -> Float[Tensor, "*depths batch"]:
    """The effective rank exp(-Σ p log p), p = s / Σ s, in [1, k] (Roy & Vetterli 2007); nan for a zero matrix.

    Example:
        >>> from labkit import Linearization
        >>> effective_rank(log_spectrum(Linearization([torch.eye(4)[None]])))
        tensor([4.], dtype=torch.float64)
    """
    finite = spec.values.isfinite()
    some = finite.any(-1)
    log_p = torch.where(finite, spec.values, -torch.inf)
    log_p = torch.where(finite, torch.log_softmax(torch.where(some[..., None], log_p, 0.0), -1), 0.0)
    entropy = -torch.where(finite, log_p.exp() * log_p, 0.0).sum(-1)
    return torch.where(some, entropy.exp(), torch.nan)


def nonnormality(lin: Lin) -> Float[Tensor, " batch"]:
    """Henrici's departure from normality √(1 - Σ|λ|² / ‖J‖_F²) of the whole product: 0 normal, near 1 a shear.

    Returns:
        (B,) in float64, detached; 0 for a zero matrix. Scale-free, so it does not overflow at any depth.

    Raises:
        TypeError: If `lin` is no linearization.
        ValueError: If J is not square, or a link holds NaN.

    Example:
        >>> from labkit import Linearization
        >>> nonnormality(Linearization([torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])]))
        tensor([1.], dtype=torch.float64)
    """
    check_linearization(lin)
    if lin.sizes[0] != lin.sizes[-1]:
        raise ValueError(
            f"lin maps {lin.sizes[0]} numbers to {lin.sizes[-1]}; nonnormality needs a square J, such as a slice of lin"
        )
    product = as_basis(lin, None)
    with torch.no_grad():
        for index, jac in enumerate(lin):
            matrix = jac if isinstance(jac, Tensor) else jac.dense()
            if not matrix.isfinite().all():
                raise ValueError(f"lin[{index}] holds NaN or infinity; nonnormality needs finite Jacobians")
            scaled, _ = split_scale(lift(matrix))
            product, _ = split_scale(scaled @ product)
    return departure_from_normality(product)


def _finite(values: Tensor) -> Tensor:
    return torch.where(values.isfinite(), values, 0.0)


def _refuse_lost(values: Tensor, lin: Linearization) -> Tensor:
    if not values.requires_grad:
        tracked = any(isinstance(jac, Tensor) and jac.requires_grad for jac in lin)
        if not (tracked and torch.is_grad_enabled()):
            return values
        values = values.requires_grad_()  # all is lost, and so is the graph: backward must still say why
    found: Tensor = _RefuseLost.apply(values)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return found


class _RefuseLost(torch.autograd.Function):
    """The identity, whose backward pass refuses to go through -inf instead of returning nan."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values.isneginf())
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (lost,) = ctx.saved_tensors
        if (lost & (grads[0] != 0)).any():
            raise RuntimeError(
                "rank is lost here, and log 0 has no derivative; differentiate the finite values only, with rank=r or "
                'rank="numerical" on log_spectrum(...)'
            )
        return torch.where(lost, 0.0, grads[0])
