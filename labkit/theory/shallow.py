"""The geometry that a wide random layer gives its inputs: metric, volume and scalar curvature in closed form.

One function of |x| decides everything, since random features see no direction before another.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from labkit.theory._gaussian import derivative, expectation, pieces
from labkit.theory.activations import Elementwise

__all__ = ["ShallowGeometry", "shallow_geometry"]

_F64 = torch.float64
_FLAT = {"linear": 1.0, "relu": 0.5, "leaky_relu": 0.5 + 0.5 * 0.01**2}  # E φ'², the same at every variance
_GAP = 1e-7  # to either side of a kink
_JUMP = 1e-5  # across it
_LEAST = 1e-16  # of a variance, below which a kink at 0 leaves the curvature no digits
_AGREE = 1e-9  # relative, of a mean with twice the nodes


@dataclass(frozen=True)
class ShallowGeometry:
    """The geometry of inputs under infinitely many random features.

    Attributes:
        metric: (B, d, d) in float64, the mean of the pullback metric; its limit, with probability one.
        log_volume: (B,), ½ log det of the metric.
        scalar_curvature: (B,), twice the Gaussian curvature if d = 2, +k(k-1) on a unit k-sphere.

    Example:
        >>> found = shallow_geometry(torch.zeros(1, 2), "relu", sigma_w=2**0.5, sigma_b=0.0)
        >>> found.metric[0], found.scalar_curvature
        (tensor([[0.5000, 0.0000],
                [0.0000, 0.5000]], dtype=torch.float64), tensor([0.], dtype=torch.float64))
    """

    metric: Float[Tensor, "batch d d"]
    log_volume: Float[Tensor, " batch"]
    scalar_curvature: Float[Tensor, " batch"]


def shallow_geometry(x: Tensor, activation: object, sigma_w: float | int, sigma_b: float | int) -> ShallowGeometry:
    """The pullback geometry of x ↦ φ(Wx + b)/√n as n → ∞, W_ij ~ N(0, σ_w²/d), b_i ~ N(0, σ_b²).

    With a = σ_w²/d, s = |x|², v = a s + σ_b², e^Ω = a E φ'(√v z)² and ' = d/ds it is g = e^Ω (I + 2Ω' x xᵀ),
    det g = e^(dΩ) (1 + 2sΩ'), and

        R = -(d-1) e^(-Ω) sΩ' / (1+2sΩ')² · [(d-2) Ω' (1+2sΩ') + 4(Ω' + sΩ'')].

    The metric is Zavatone-Veth et al.'s (2023), the curvature derived here from it. erf has closed forms, piecewise
    linear φ with their kink at 0 a flat metric; others take one Gaussian mean, and Ω', Ω'' follow by parts, so that
    only φ' is needed: a φ with kinks has a smooth metric at infinite width.

    Args:
        x: (B, d), floating.
        activation: A name, or any elementwise callable that does not jump.
        sigma_w: σ_w > 0.
        sigma_b: σ_b ≥ 0.

    Returns:
        A ShallowGeometry, differentiable in x. The curvature is nan where the metric vanishes, and at v < 1e-16 if φ
        has a kink at 0, for such a metric has no second derivative at v = 0; all are nan where φ oscillates too fast
        for the Gaussian means (sin at v > 300).

    Raises:
        TypeError: If `activation` is neither a name nor callable.
        ValueError: For an x that is not (B, d) or not finite, a σ out of range, an activation unknown or with a jump.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
        >>> shallow_geometry(x, "erf", sigma_w=1.0, sigma_b=1.0).scalar_curvature  # negative away from the origin
        tensor([ 0.0000, -0.4750], dtype=torch.float64)
    """
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"x has shape {tuple(x.shape)}; (B, d) would do.")
    if not bool(x.isfinite().all()):
        raise ValueError("x holds nan or inf; finite inputs would do.")
    if not 0 < sigma_w < math.inf or not 0 <= sigma_b < math.inf:
        raise ValueError(f"sigma_w={sigma_w!r} and sigma_b={sigma_b!r}; σ_w > 0 and σ_b ≥ 0 would do.")
    points, d = x.to(_F64), x.shape[1]
    a = sigma_w**2 / d
    from_input = a * points.square().sum(1)
    v = from_input + sigma_b**2
    share = from_input / torch.where(v > 0, v, 1.0)
    profile = _profile(activation, v)
    scale, first = a * profile.mean, a * profile.first / torch.where(v > 0, v, 1.0)  # e^Ω and Ω'
    radial = share * profile.second_moment + (1 - share)  # 1 + 2sΩ'
    towards = points / torch.where(from_input > 0, points.square().sum(1), 1.0).sqrt()[:, None]
    outer = towards[:, :, None] * towards[:, None, :]
    metric = scale[:, None, None] * (torch.eye(d).to(outer) - outer + radial[:, None, None] * outer)
    log_volume = 0.5 * (d * scale.log() + radial.log())
    bend = share * profile.bend + (1 - share) * profile.first  # with Ω' + sΩ'' = (a/v) bend
    bracket = share * ((d - 2) * profile.first * radial + 4 * bend)
    curvature = -(d - 1) * first / scale * bracket / radial.square()
    return ShallowGeometry(metric, log_volume, curvature + 0.0)  # no -0


class _Profile(NamedTuple):
    """F = E φ'(√v z)² and, scale-free, its derivatives in log v; M_k = E φ'² z^k / F."""

    mean: Tensor  # F
    first: Tensor  # v F'/F = (M_2 - 1)/2
    second_moment: Tensor  # M_2
    bend: Tensor  # vF'/F + v²F''/F - (vF'/F)² = (M_4 - 2M_2 - M_2²)/4


def _profile(activation: object, v: Tensor) -> _Profile:
    """The profile at variances v (B,): in closed form, by derivatives near v = 0, else by moments."""
    if isinstance(activation, str) and activation in _FLAT:
        flat = torch.zeros_like(v)
        return _Profile(flat + _FLAT[activation], flat, flat + 1, flat)
    if activation == "erf":
        narrow = 1 / (1 + 4 * v)
        return _Profile(4 / math.pi * narrow.sqrt(), -2 * v * narrow, narrow, -2 * v * narrow.square())
    found = pieces(activation)
    for kink in found.kinks:
        sides = found.phi(torch.tensor([kink - _GAP, kink + _GAP], dtype=_F64))
        if float((sides[1] - sides[0]).detach().abs()) > _JUMP:
            raise ValueError(f"activation jumps at {kink:g}, so its metric is infinite; a continuous one would do.")

    def squared_slope(u: Tensor) -> Tensor:
        return found.first(u).square()

    nearest = min((abs(kink) for kink in found.kinks), default=math.inf)
    edge = min(0.05, nearest**2 / 80) if nearest > _GAP else 0.0  # below, no kink is seen
    far = _by_moments(squared_slope, v.clamp(min=edge), found.kinks)
    if edge == 0:
        return far._replace(bend=torch.where(v < _LEAST, torch.nan, far.bend))
    if not bool((v < edge).any()):
        return far
    near = _by_derivatives(squared_slope, v.clamp(max=edge))
    return _Profile(*(torch.where(v < edge, *pair) for pair in zip(near, far, strict=True)))


def _by_moments(f: Elementwise, v: Tensor, kinks: tuple[float, ...]) -> _Profile:
    """Nothing cancels where v is large; nan where twice the nodes disagree, as for fast oscillations."""

    def moment(power: int) -> Tensor:
        once, twice = (expectation(lambda u: f(u) * u**power, v, kinks, refine) for refine in (1, 2))
        return torch.where((once - twice).abs() <= _AGREE * twice, twice, torch.nan)

    mean, some = moment(0), v > 0
    scale, unit = torch.where(some, v, 1.0), _unless_zero(mean)
    second = torch.where(some, moment(2) / scale / unit, 1.0)
    fourth = torch.where(some, moment(4) / scale.square() / unit, 3.0)
    return _Profile(mean, (second - 1) / 2, second, (fourth - 2 * second - second.square()) / 4)


def _by_derivatives(f: Elementwise, v: Tensor) -> _Profile:
    """Nothing cancels where v is small: the heat equation, dF/dv = ½ E f''."""
    second = derivative(derivative(f))
    mean = expectation(f, v)
    unit = _unless_zero(mean)
    first = v * expectation(second, v) / (2 * unit)
    bend = first + v.square() * expectation(derivative(derivative(second)), v) / (4 * unit) - first.square()
    return _Profile(mean, first, 1 + 2 * first, bend)


def _unless_zero(mean: Tensor) -> Tensor:
    return torch.where(mean == 0, 1.0, mean)  # where the metric vanishes, its shape does not matter
