"""What finite width does to the length of a vector that a random chain pushes: exact laws, not leading orders.

Gaussian weights make the squared length a product of independent χ² variables, whatever the vector and the input.
"""

import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from labkit.theory._arguments import ANY, between
from labkit.theory._chi_products import ChiProduct, digamma_excess, factor

__all__ = [
    "LogNorm",
    "expected_breakpoints",
    "expected_length_ratio",
    "log_norm_statistics",
    "lyapunov_exponents",
    "width_for_leading_order",
]

_F64 = torch.float64
_WIDEST = 10**9
_HIGHEST = 1e6  # order of a moment
_SMALLEST_P_OF_WIDTH = 1e-6  # below, the widths sought leave all that is computed
_SMALLEST_P = 1e-100  # below, the scale 1/(p n) of a product leaves float64


@dataclass(frozen=True)
class LogNorm:
    """The law of Y = log((n_0 / n_d) ‖Ju‖²) for a random chain J and a unit vector u; E e^Y = 1.

    Mean, variance, density, distribution and quantiles are conditional on Ju ≠ 0, `moment` is not.

    Attributes:
        mean: E Y, a float64 scalar as all of these.
        variance: Var Y.
        leading_order: β; for wide layers Y is nearly normal with mean -β/2 and variance β, 5 Σ 1/n_l for ReLU.
        p_zero: the probability that Ju = 0.

    Example:
        >>> law = log_norm_statistics([10, 10, 10, 10])
        >>> law.variance, law.leading_order  # at width 10 the leading order misses almost half
        (tensor(2.6002, dtype=torch.float64), tensor(1.5000, dtype=torch.float64))
        >>> law.cdf(law.quantile(0.25)), law.density(0.0)
        (tensor(0.2500, dtype=torch.float64), tensor(0.2664, dtype=torch.float64))
        >>> law.moment(2)  # (1 + 5/10)³
        tensor(3.3750, dtype=torch.float64)
    """

    mean: Float[Tensor, ""]
    variance: Float[Tensor, ""]
    leading_order: Float[Tensor, ""]
    p_zero: Float[Tensor, ""]
    _product: ChiProduct = field(repr=False, compare=False)

    def density(self, y: object) -> Tensor:
        """The density at y (any shape), float64; off by some 1e-14 of its peak."""
        return _at(self._product.density, between("y", y, ANY))

    def cdf(self, y: object) -> Tensor:
        """P(Y ≤ y) for y of any shape, float64; off by some 1e-14, so the far tails have no digits."""
        return _at(self._product.cdf, between("y", y, ANY))

    def quantile(self, u: object) -> Tensor:
        """The y with P(Y ≤ y) = u, for u of any shape: -inf at 0, inf at 1.

        Raises:
            ValueError: If a u lies outside [0, 1].
        """
        return _at(self._product.quantile, between("u", u, (0.0, 1.0)))

    def moment(self, order: float | int) -> Float[Tensor, ""]:
        """E e^(order · Y), a vanished Ju counted as 0: order 2 gives the fourth moment of the length, Π(1 + 5/n_l).

        Raises:
            ValueError: If `order` is not positive, or above 1e6.
        """
        if not 0 < order <= _HIGHEST:
            raise ValueError(f"order={order!r}; a positive number up to 1e6 would do.")
        return torch.tensor(self._product.log_mean_power(float(order)), dtype=_F64).exp()


def log_norm_statistics(widths: object, p: object = 0.5) -> LogNorm:
    """The exact law of the length of Ju, J = D_d W_d ⋯ D_1 W_1 with Gaussian W_l, for any fixed unit vector u.

    W_l has entries N(0, 1 / (p_l n_{l-1})), which keeps the mean squared length; D_l is a diagonal of zeros and ones,
    each 1 with probability p_l. For a ReLU network at He's 2/n that is p = ½, at any input and with any symmetric
    biases: the signs of pre-activations do not depend on their sizes. Then

        (n_0 / n_d) ‖Ju‖² = Π χ²_{B_l} / (p_l n_l),   B_l ~ Bin(n_l, p_l) independent,

    a law that knows neither u nor x (Hanin & Nica 2018, here without their limit). Weights N(0, σ_w²/n) add
    Σ log(p_l σ_w²) to Y; ‖Ju‖² itself has log(n_d / n_0) more.

    Args:
        widths: (n_0, …, n_d) with d ≥ 1, as `Linearization.sizes`; n_0 does not matter.
        p: ½ for ReLU, 1 for linear layers, or one number a layer: `[0.5, 0.5, 1]` has a linear head. Units dropped
            with probability δ besides ReLU have p = (1 - δ)/2.

    Returns:
        A LogNorm.

    Raises:
        TypeError: If `widths` are not whole numbers.
        ValueError: For fewer than two widths, a width below 1 or above 10⁹, a p outside (0, 1], or one p too many.

    Example:
        >>> log_norm_statistics([784, 512, 512, 10], p=[0.5, 0.5, 1]).mean
        tensor(-0.1131, dtype=torch.float64)
    """
    sizes = _as_widths(widths)[1:]
    layers = list(zip(sizes, _as_probabilities(p, len(sizes)), strict=True))
    product = ChiProduct(layers)
    leading = math.fsum((3 / chance - 1) / width for width, chance in layers)
    numbers = (product.mean, product.variance, leading, max(0.0, -math.expm1(product.log_alive)))
    mean, variance, leading_order, p_zero = (torch.tensor(number, dtype=_F64) for number in numbers)
    return LogNorm(mean, variance, leading_order, p_zero, product)


def expected_length_ratio(widths: object, p: object = 0.5) -> Float[Tensor, ""]:
    """By how much a random chain lengthens a curve on average: E‖Ju‖, the same at every point and direction.

    For ReLU at 2/fan-in and equal widths Π E√((2/n) χ²_B), about e^(-5L/(8n)): slightly below 1, so random ReLU
    networks do not stretch curves (Hanin, Jeong & Rolnick 2021), though their mean *squared* length is kept.

    Args:
        widths: (n_0, …, n_d), as in `log_norm_statistics`, which also says what the weights are.
        p: as there.

    Returns:
        √(n_d / n_0) · E e^(Y/2), a float64 scalar.

    Raises:
        TypeError, ValueError: As `log_norm_statistics`.

    Example:
        >>> expected_length_ratio([100] * 11), math.exp(-5 * 10 / 800)
        (tensor(0.9391, dtype=torch.float64), 0.9394130628134758)
    """
    sizes = _as_widths(widths)
    return math.sqrt(sizes[-1] / sizes[0]) * log_norm_statistics(sizes, p).moment(0.5)


def width_for_leading_order(tolerance: float | int = 0.05, p: float | int = 0.5) -> int:
    """The width from which on the leading order gives mean and variance of Y within `tolerance`, relative.

    The ratio of exact to leading order is that of a single layer, so equal widths need the same at every depth.

    Args:
        tolerance: between 1e-6 and 10.
        p: as in `log_norm_statistics`, one number.

    Returns:
        The least n such that the leading order is as good as that at n and at every larger width.

    Raises:
        ValueError: If `tolerance` or `p` is out of range.

    Example:
        >>> width_for_leading_order(0.05), width_for_leading_order(0.05, p=1)
        (79, 21)
    """
    if not 1e-6 <= tolerance <= 10:
        raise ValueError(f"tolerance={tolerance!r}; a number between 1e-6 and 10 would do.")
    (p,) = _as_probabilities(p, 1)
    if p < _SMALLEST_P_OF_WIDTH:
        raise ValueError(f"p={p!r}; a probability of at least 1e-6 would do, for widths grow as 1/p.")

    def far(width: int) -> bool:
        mean, variance = factor(width, p).mean_and_variance()
        leading = (3 / p - 1) / width
        return max(abs(mean / (-leading / 2) - 1), abs(variance / leading - 1)) > tolerance

    above: int = math.ceil(128 / p)  # from here on the deviation falls as 1/n
    while far(above):
        above *= 2
    trials = sorted({round(above ** (k / 100)) for k in range(101)})
    below = max((width for width in trials if far(width)), default=0)
    above = min(width for width in trials if width > below)
    while above - below > 1:
        middle = (above + below) // 2
        below, above = (middle, above) if far(middle) else (below, middle)
    return above


def lyapunov_exponents(width: int, sigma_w: float | int = 1.0) -> Float[Tensor, " width"]:
    """Growth rates a layer of products of Gaussian n×n matrices, entries N(0, σ_w²/n): exact at finite n.

    λ_i = log σ_w + ½[log(2/n) + ψ((n - i + 1)/2)] (Newman 1986). λ_1 + … + λ_k is the mean growth of the log-volume
    of *fixed* k directions, at any depth. The λ_i are limits of log s_i / L, not log singular values: at depth L the
    largest log s_1 lies above L λ_1 and the smallest below L λ_n, by amounts of order one, for s_1 picks its direction
    after the matrices are drawn.

    Args:
        width: n ≥ 1.
        sigma_w: σ_w > 0.

    Returns:
        (n,) in float64, descending, in nats a layer.

    Raises:
        TypeError: If `width` is no whole number.
        ValueError: If it is below 1 or above 10⁹, or σ_w is not positive.

    Example:
        >>> lyapunov_exponents(4)
        tensor([-0.1352, -0.3283, -0.6352, -1.3283], dtype=torch.float64)
    """
    n = _as_width("width", width)
    _check_positive("sigma_w", sigma_w)
    freedom = torch.arange(n, 0, -1, dtype=_F64)
    return math.log(sigma_w) + 0.5 * (digamma_excess(freedom / 2) + torch.log(freedom / n))


def expected_breakpoints(
    x0: Tensor, x1: Tensor, width: int, sigma_w: float | int, sigma_b: float | int
) -> Float[Tensor, " batch"]:
    """The mean number of kinks of one random hidden ReLU layer along the segment from x0 to x1.

    A unit has its kink on the segment if its hyperplane separates the ends, which happens with probability θ/π, θ the
    angle between (σ_w x/√n_0, σ_b) at either end; in one dimension
    n/π · [atan(b σ_w/σ_b) - atan(a σ_w/σ_b)] (Hanin & Rolnick 2019).

    Args:
        x0: (B, n_0), floating.
        x1: like `x0`.
        width: n, the number of hidden units.
        sigma_w: σ_w > 0, the weights are N(0, σ_w²/n_0).
        sigma_b: σ_b ≥ 0, the biases are N(0, σ_b²); at 0 every kink passes the origin, and an end there counts none.

    Returns:
        (B,) in float64.

    Raises:
        TypeError: If `width` is no whole number.
        ValueError: If the ends are not of one shape (B, n_0), or a number is out of range.

    Example:
        >>> expected_breakpoints(torch.tensor([[-1.0]]), torch.tensor([[1.0]]), 100, sigma_w=1.0, sigma_b=1.0)
        tensor([50.], dtype=torch.float64)
    """
    n = _as_width("width", width)
    _check_positive("sigma_w", sigma_w)
    if not 0 <= sigma_b < math.inf:
        raise ValueError(f"sigma_b={sigma_b!r}; a number ≥ 0 would do.")
    if x0.ndim != 2 or x0.shape != x1.shape or x0.shape[1] == 0:
        raise ValueError(f"x0 and x1 have shapes {tuple(x0.shape)} and {tuple(x1.shape)}; both (B, n_0) would do.")
    if not bool((x0.isfinite() & x1.isfinite()).all()):
        raise ValueError("x0 or x1 holds nan or inf; finite points would do.")
    scale = sigma_w / math.sqrt(x0.shape[1]) if sigma_b > 0 else 1.0  # without biases only directions count
    ends = [torch.nn.functional.pad(scale * x.double(), (0, 1), value=sigma_b) for x in (x0, x1)]
    ends = [end / end.abs().amax(1, keepdim=True) for end in ends]  # no square under- or overflows
    first, last = (end / end.norm(dim=1, keepdim=True) for end in ends)
    angle = 2 * torch.atan2((last - first).norm(dim=1), (last + first).norm(dim=1))
    return torch.where(angle.isnan(), 0.0, n / math.pi * angle)


def _as_widths(widths: object) -> list[int]:
    if not isinstance(widths, Iterable):
        raise TypeError(f"widths={widths!r}; a sequence (n_0, …, n_d) of whole numbers would do.")
    sizes = [_as_width("widths", width) for width in widths]
    if len(sizes) < 2:
        raise ValueError(f"widths has {len(sizes)} entries; at least one layer, (n_0, n_1), would do.")
    return sizes


def _as_width(name: str, width: object) -> int:
    try:
        size = operator.index(width)  # type: ignore[arg-type]  # anything is tried
    except TypeError:
        size = None
    if size is None or isinstance(width, bool):
        raise TypeError(f"{name} holds {width!r}; whole numbers would do.")
    if not 1 <= size <= _WIDEST:
        raise ValueError(f"{name} holds {size}; numbers from 1 to 10⁹ would do.")
    return size


def _as_probabilities(p: object, layers: int) -> list[float]:
    try:
        several = isinstance(p, Iterable) and getattr(p, "ndim", 1) > 0
        chances = [float(chance) for chance in p] if several else [float(p)] * layers  # type: ignore[arg-type, attr-defined]  # tried
    except (TypeError, ValueError):
        raise TypeError(f"p={p!r}; a probability, or a sequence of one a layer, would do.") from None
    if len(chances) != layers:
        raise ValueError(f"p has {len(chances)} entries for {layers} layers; one number, or one a layer, would do.")
    if not all(_SMALLEST_P <= chance <= 1 for chance in chances):
        raise ValueError(f"p={p!r}; probabilities in (0, 1], at least 1e-100, would do.")
    return chances


def _check_positive(name: str, value: float | int) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name}={value!r}; a positive number would do.")


def _at(law: Callable[[Tensor], Tensor], numbers: Tensor) -> Tensor:
    return law(numbers.detach().cpu()).to(numbers.device)  # the law's tables live on the CPU
