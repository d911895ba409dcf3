"""Densities of large spectra and the log-volume, from products alone, by stochastic Lanczos quadrature.

Nothing is built and nothing is differentiated: all results are detached, in float64, and carry their error.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from labkit._quadrature import Estimate, eigenvalue_quadrature, mean_and_error, singular_quadrature
from labkit.geometry._matrix_free import as_operator

__all__ = ["Density", "EigenvalueDensity", "eigenvalue_density", "log_volume_estimate", "spectral_density"]

_RANGE = 37.0  # nats between the largest value and what float64 resolves
_TAIL = 6.0  # bandwidths of grid beyond the outermost node: 2e-9 of its mass is missed
_SQRT_TWO_PI = 2.5066282746310002


@dataclass(frozen=True)
class Density:
    """The density of log singular values, from random probes; all detached, in float64.

    Attributes:
        log_s: (*batch, G), the grid, ascending.
        mean: (*batch, G), mass per nat at `log_s`, of all n_0 values: its integral and `zero` sum to one.
        stderr: (*batch, G), the standard error of `mean` over probes.
        zero: (*batch,), the mass that is zero to the rounding of products.
        zero_stderr: (*batch,), its standard error.
        unresolved: (*batch,), mass within `mean`, at its low end, that more steps may find to be zero or smaller.
        bandwidth: standard deviation, in nats, of the Gaussian that every node was smoothed with.

    Example:
        >>> found = spectral_density(torch.eye(3, 4), bandwidth=0.5)  # three ones and a zero
        >>> found.log_s.shape == found.mean.shape == found.stderr.shape
        True
        >>> found.zero, found.unresolved
        (tensor(0.2500, dtype=torch.float64), tensor(0., dtype=torch.float64))
    """

    log_s: Float[Tensor, "*batch G"]
    mean: Float[Tensor, "*batch G"]
    stderr: Float[Tensor, "*batch G"]
    zero: Float[Tensor, "*batch"]
    zero_stderr: Float[Tensor, "*batch"]
    unresolved: Float[Tensor, "*batch"]
    bandwidth: float


@dataclass(frozen=True)
class EigenvalueDensity:
    """The density of eigenvalues, from random probes; all detached, in float64.

    Attributes:
        values: (*batch, G), the grid, ascending.
        mean: (*batch, G), mass per unit of eigenvalue; it integrates to one.
        stderr: (*batch, G), the standard error of `mean` over probes.
        bandwidth: (*batch,), standard deviation of the Gaussian that every node was smoothed with.

    Example:
        >>> found = eigenvalue_density(torch.diag(torch.tensor([1.0, -4.0])), bandwidth=0.01)
        >>> found.bandwidth  # 0.01 of the largest |λ|
        tensor(0.0400, dtype=torch.float64)
        >>> bool((found.mean[found.values.abs() < 0.5] < 1e-12).all())  # nothing between the two
        True
    """

    values: Float[Tensor, "*batch G"]
    mean: Float[Tensor, "*batch G"]
    stderr: Float[Tensor, "*batch G"]
    bandwidth: Float[Tensor, "*batch"]


def spectral_density(
    operator: Any,
    probes: int = 16,
    steps: int = 64,
    generator: torch.Generator | None = None,
    *,
    bandwidth: float = 0.1,
    log_s: Tensor | None = None,
) -> Density:
    """The density of log singular values by stochastic Lanczos quadrature (Lin, Saad & Yang 2016). Detached.

    Every probe gives `steps` nodes and weights, which hold the first 2·steps - 1 moments of s² exactly; each node is
    smoothed to a Gaussian of `bandwidth` nats, so what is finer than that, or than the distance of the nodes, is not
    resolved. The n_0 - n_L values that are zero by size are counted exactly; of the others, `zero` holds what lies
    within 4·√n·eps of the largest. Small values are seen last: `unresolved` is the mass of nodes that may yet be zero.

    Args:
        operator: as in `top_singular_values`.
        probes: random directions, at least 2, the same for all samples.
        steps: products with J and its adjoint for each probe, at least 2.
        generator: of the probes, on the CPU; by default a new one seeded 0.
        bandwidth: of the smoothing, in nats.
        log_s: (G,), the grid to answer on; by default one of the sample's own, from end to end.

    Returns:
        Density(log_s, mean, stderr, zero, zero_stderr, unresolved, bandwidth).

    Raises:
        TypeError: If `operator` is none of these.
        ValueError: If `probes` or `steps` is below 2, `bandwidth` not positive, `log_s` not one-dimensional, the
            operator zero, or a product not finite.
        MemoryError: Before allocating, if the bases of one probe would not fit.

    Example:
        >>> found = spectral_density(torch.eye(4, 8, dtype=torch.float64), bandwidth=0.5)
        >>> round(float(torch.trapezoid(found.mean, found.log_s)), 6), found.zero  # 4 ones, 4 zeros
        (0.5, tensor(0.5000, dtype=torch.float64))
    """
    _check_positive(bandwidth)
    if log_s is not None and log_s.ndim != 1:
        raise ValueError(f"log_s has shape {tuple(log_s.shape)}; pass (G,), or None for a grid from end to end")
    operator = as_operator(operator)
    rule = singular_quadrature(operator, probes, steps, generator)
    J, present = rule.products, rule.nodes > rule.floor
    share = rule.size / operator.shape[-1]  # the values beyond n_L are zero by size
    nodes = torch.where(present, J.plus_log_scale(rule.nodes.log()), torch.nan)
    widths = torch.full_like(nodes[:, 0, 0], bandwidth)
    if log_s is None:
        points = 2 * int(_RANGE / bandwidth) + 4 * int(_TAIL)
        grid = _grid(nodes, widths, points)
    else:
        grid = log_s.to(nodes).expand(J.batch, -1)
    weights = share * torch.where(present, rule.weights, 0.0)
    mean, stderr = _smoothed(nodes, weights, grid, widths)
    zero, zero_stderr = mean_and_error(1 - weights.sum(-1))
    unresolved = torch.where(rule.nodes <= rule.residual, weights, 0.0).sum(-1).mean(-1)
    grid, mean, stderr, zero, zero_stderr, unresolved = (
        J.unbatched(part) for part in (grid, mean, stderr, zero, zero_stderr, unresolved)
    )
    return Density(grid, mean, stderr, zero, zero_stderr, unresolved, bandwidth)


def eigenvalue_density(
    operator: Any,
    probes: int = 16,
    steps: int = 64,
    generator: torch.Generator | None = None,
    *,
    bandwidth: float = 0.02,
) -> EigenvalueDensity:
    """The density of eigenvalues of a symmetric operator, of either sign, by Lanczos quadrature. Detached.

    For a positive operator of wide range, `spectral_density` shows the same values on a logarithmic axis.

    Args:
        operator: a symmetric one, as in `top_eigenvalues`.
        probes: random directions, at least 2.
        steps: products for each probe, at least 2.
        generator: of the probes, on the CPU; by default a new one seeded 0.
        bandwidth: of the Gaussian smoothing, relative to the largest |λ|.

    Returns:
        EigenvalueDensity(values, mean, stderr, bandwidth).

    Raises:
        TypeError: If `operator` is none of these.
        ValueError: If it is not square or not symmetric, `probes` or `steps` is below 2, `bandwidth` not positive, the
            operator zero, or a product not finite.
        MemoryError: Before allocating, if the basis of one probe would not fit.

    Example:
        >>> found = eigenvalue_density(torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)))
        >>> round(float(torch.trapezoid(found.mean, found.values)), 6)
        1.0
    """
    _check_positive(bandwidth)
    rule = eigenvalue_quadrature(as_operator(operator), probes, steps, generator)
    A = rule.products
    widths = bandwidth * rule.nodes.abs().amax((-2, -1))
    grid = _grid(rule.nodes, widths, 2 * int(2 / bandwidth) + 4 * int(_TAIL))
    mean, stderr = _smoothed(rule.nodes, rule.weights, grid, widths)
    unit = A.times_scale(torch.ones_like(widths))[:, None]
    found = (A.times_scale(grid), mean / unit, stderr / unit, A.times_scale(widths))
    return EigenvalueDensity(*(A.unbatched(part) for part in found))


def log_volume_estimate(
    operator: Any,
    probes: int = 16,
    steps: int = 64,
    generator: torch.Generator | None = None,
    *,
    rank: str | None = None,
) -> Estimate:
    """½ tr log JᵀJ = Σ log s, the log-volume of `spectra.log_volume`, by Lanczos quadrature. Detached.

    The rule lies above the truth on average, for small singular values are what few steps see last; of a chain as deep
    as its width they see little, and `truncation` then is inf. Where the links are dense, `log_volume` is exact.

    Args:
        operator: as in `top_singular_values`.
        probes: random directions, at least 2.
        steps: products with J and its adjoint for each probe, at least 2.
        generator: of the probes, on the CPU; by default a new one seeded 0.
        rank: None for all n_0 values; "numerical" leaves out those that are zero to the rounding of products.

    Returns:
        Estimate(value, stderr, truncation) in nats; -inf, its errors nan, where a value is zero and rank is None.

    Raises:
        TypeError: If `operator` is none of these.
        ValueError: If `probes` or `steps` is below 2, `rank` is another, the operator zero, or a product not finite.
        MemoryError: Before allocating, if the bases of one probe would not fit.

    Example:
        >>> log_volume_estimate(2 * torch.eye(3, dtype=torch.float64)).value  # 3 log 2
        tensor(2.0794, dtype=torch.float64)
    """
    if rank not in (None, "numerical"):
        raise ValueError(f'rank={rank!r}; pass "numerical", or None for all values')
    operator = as_operator(operator)
    rule = singular_quadrature(operator, probes, steps, generator)
    J, lost = rule.products, 0.0 if rank else -torch.inf

    def log(nodes: Tensor) -> Tensor:
        return torch.where(nodes > rule.floor, J.plus_log_scale(nodes.clamp(min=1e-300).log()), lost)

    found = rule.mean(log)
    value, stderr, truncation = (rule.size * part for part in (found.value, found.stderr, found.truncation))
    if rank is None and operator.shape[-1] > rule.size:
        value = torch.full_like(value, -torch.inf)
    undefined = value.isneginf()
    stderr, truncation = (torch.where(undefined, torch.nan, part) for part in (stderr, truncation))
    return Estimate(*(J.unbatched(part) for part in (value, stderr, truncation)))


def _grid(nodes: Tensor, bandwidth: Tensor, points: int) -> Float[Tensor, "batch G"]:
    low = torch.where(nodes.isnan(), torch.inf, nodes).amin((-2, -1)) - _TAIL * bandwidth
    high = torch.where(nodes.isnan(), -torch.inf, nodes).amax((-2, -1)) + _TAIL * bandwidth
    along = torch.linspace(0, 1, points).to(nodes)
    return low[:, None] + (high - low)[:, None] * along


def _smoothed(nodes: Tensor, weights: Tensor, grid: Tensor, bandwidth: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard error over probes of Σ weights·Gaussian(grid - node); a node that is nan has no weight."""
    width = bandwidth[:, None, None]
    found = []
    for node, weight in zip(nodes.unbind(1), weights.unbind(1), strict=True):  # by probe: their kernels are large
        kernel = (-0.5 * ((grid[..., None] - node.nan_to_num()[:, None, :]) / width).square()).exp()
        found.append((kernel @ weight[..., None])[..., 0] / (_SQRT_TWO_PI * bandwidth[:, None]))
    return mean_and_error(torch.stack(found, -1))


def _check_positive(bandwidth: Any) -> None:
    if not isinstance(bandwidth, (int, float)) or not 0 < bandwidth < float("inf"):
        raise ValueError(f"bandwidth={bandwidth!r}; pass a positive number")
