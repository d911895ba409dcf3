r"""How the singular values of a wide random network's Jacobian are distributed, by free probability.

The law of J = D_L W_L ⋯ D_1 W_1 at infinite width, where slopes and weights are free, for Gaussian or orthogonal
weights and any activation; and the universal laws of great depth.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from labkit.theory._arguments import between
from labkit.theory._spectral_curve import Nodes, lay, mass_above, support
from labkit.theory._spectral_forms import BernoulliLimit, ExponentialLimit, Form, FreeProduct
from labkit.theory._spectral_slopes import slopes
from labkit.theory.meanfield import MeanField

__all__ = ["SpectralLaw", "density", "resnet_law", "universal_limit"]

_LARGEST = 700.0  # log of what float64 holds, with room
_HONEST = 1e-6  # relative error of mass and two moments, past which a law is refused


@dataclass(frozen=True)
class SpectralLaw:
    """A law of singular values s, or of λ = s² where `squared`: a density on intervals, and atoms.

    Means are Σ weights·values·f(s) + Σ mass·f(place). The grid is dense at the edges and, on a logarithmic scale, at
    zero. It ends where s would leave float64, or where a curved activation's slopes are too small to be told apart;
    what mass lies below is carried by the smallest s, so weights[0]·values[0] shows it.

    Attributes:
        s: (n,) float64, ascending; the values λ themselves where `squared`.
        values: (n,), the density there, in 1/s (or 1/λ).
        weights: (n,), of a quadrature in s (or λ).
        atoms: pairs (place, mass), ascending.
        edges: (m, 2), the intervals that carry the density, ascending.
        squared: whether λ is meant.

    Example:
        >>> law = density("linear", 1, sigma_w=1.0, sigma_b=0.0)  # the quarter circle √(4 - s²)/π
        >>> law.edges, law.atoms
        (tensor([[0., 2.]], dtype=torch.float64), ())
        >>> law.pdf(1.0)
        tensor(0.5513, dtype=torch.float64)
    """

    s: Float[Tensor, " n"]
    values: Float[Tensor, " n"]
    weights: Float[Tensor, " n"]
    atoms: tuple[tuple[float, float], ...]
    edges: Float[Tensor, "m 2"]
    squared: bool
    _form: Form = field(repr=False, compare=False)
    _nodes: tuple[Nodes, ...] = field(repr=False, compare=False)

    def moment(self, k: object) -> float:
        """E s^k (E λ^k where `squared`) by the weights; k ≥ 0.

        Example:
            >>> law = density("relu", 10, sigma_w=2**0.5, sigma_b=0.0)
            >>> round(law.moment(2), 9), round(law.moment(4), 9)  # 1 and 1 + 2L
            (1.0, 21.0)
        """
        order = _number("k", k)
        if order < 0:
            raise ValueError(f"k={k!r}; the smallest singular values may be 0, so pass k ≥ 0.")
        continuous = float((self.weights * self.values * self.s**order).sum())
        return continuous + sum(mass * float(place**order) for place, mass in self.atoms)

    def pdf(self, at: object) -> Tensor:
        """The density at any points, without the atoms: solved there, not interpolated; 0 outside `edges`.

        Args:
            at: numbers ≥ 0, s or (where `squared`) λ, of any shape.

        Returns:
            Shaped like `at`, float64; at 0, where the density may be infinite, nan if an edge is there.

        Example:
            >>> universal_limit("smooth", 1.0).pdf([0.5, 1.0, 3.0])
            tensor([1.1070, 0.5935, 0.0000], dtype=torch.float64)
        """
        points, shape = self._flat(at)
        found = torch.zeros_like(points)
        for inside, s in self._solve(points):
            log_density = self._form.at(s).one_plus_w.imag / math.pi
            found[inside] = self._jacobian * log_density / points[inside]
        found[(points == 0) & bool((self.edges == 0).any())] = torch.nan
        return found.reshape(shape)

    def cdf(self, at: object) -> Tensor:
        """The probability of a value ≤ `at`, atoms included; shaped like `at`, float64.

        Example:
            >>> law = density("relu", 10, sigma_w=2**0.5, sigma_b=0.0)
            >>> law.cdf([0.0, 1.0, 20.0])
            tensor([0.5000, 0.9018, 1.0000], dtype=torch.float64)
        """
        points, shape = self._flat(at)
        found = torch.zeros_like(points)
        for place, mass in self.atoms:
            found += mass * (points >= place)
        solved = self._solve(points)
        for nodes, (_, high), (inside, s) in zip(self._nodes, self.edges.flip(0).tolist(), solved, strict=False):
            total = float((nodes.density * nodes.weight).sum()) + nodes.below
            found += total * (points >= high)
            above = sum(mass for place, mass in self.atoms if place >= high)
            above += sum(float((n.density * n.weight).sum()) + n.below for n in self._nodes if n.t[0] < nodes.t[0])
            part = total + above - mass_above(self._form, s.real, s.imag)
            found[inside] += part.clamp(0, total)
        return found.reshape(shape)

    @property
    def _jacobian(self) -> int:
        """d log λ over d log of the variable."""
        return 1 if self.squared else 2

    @staticmethod
    def _flat(at: object) -> tuple[Tensor, torch.Size]:
        points = between("at", at, (0.0, math.inf))
        return points.reshape(-1), points.shape

    def _solve(self, points: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each interval, which points lie in it, and the complex s = log u of each: Newton from the grid."""
        found = []
        for nodes, (low, high) in zip(self._nodes, self.edges.flip(0).tolist(), strict=False):
            inside = (points > low) & (points < high) & (points > 0)
            target = self._jacobian * points[inside].log()
            later = torch.searchsorted(-nodes.log_value, -target).clamp(1, len(nodes.t) - 1)
            first, second = nodes.log_value[later - 1], nodes.log_value[later]
            share = ((target - first) / (second - first)).clamp(0, 1)
            s = torch.complex(*(torch.lerp(v[later - 1], v[later], share) for v in (nodes.t, nodes.theta)))
            for _ in range(12):
                place = self._form.at(s)
                s = s - (place.log_value - target) / place.slope
                s = torch.complex(s.real, s.imag.clamp(1e-150, math.pi))
            found.append((inside, s))
        return found


def density(
    activation: Any,
    depth: Any,
    sigma_w: Any,
    sigma_b: Any,
    ensemble: Any = "gaussian",
    squared: Any = False,
) -> SpectralLaw:
    r"""The law of the singular values of J = D_L W_L ⋯ D_1 W_1 at q = q*, in the limit of infinite width.

    $S_{JJ^\top} = \prod_l S_{W_l W_l^\top} S_{D_l^2}$ with D² = φ'(√q* z)², so that λ has mean χ₁^L, and variance
    over mean squared L (μ₂/μ₁² - 1), L more for Gaussian weights (Pennington, Schoenholz & Ganguli 2017). Nothing
    need be critical. Assumed are independence (free) of slopes and weights, all layers at q*, and square layers. At λ
    = 0 lies an atom of 1 - P(φ' ≠ 0) *whatever the depth*. A finite network of width N has a few per cent less at the
    top edge, O(N^{-2/3}), and lower rank.

    Args:
        activation: a name or an elementwise callable. Piecewise linear ones have closed forms, others a quadrature over
            the law of φ'².
        depth: L ≥ 1.
        sigma_w: σ_w > 0; weights have variance σ_w²/N, or are σ_w times orthogonal.
        sigma_b: σ_b ≥ 0.
        ensemble: of the weights, "gaussian" or "orthogonal".
        squared: the law of λ = s² instead.

    Returns:
        A SpectralLaw whose weights give mass 1 and the first two moments of λ within 1e-6.

    Raises:
        ValueError: For a depth below 1, negative or zero σ_w, negative σ_b, an unknown ensemble or activation, where q
            diverges, where singular values exceed float64, and for one orthogonal layer with a curved activation.
        TypeError: For what is no number or no activation.

    Example:
        >>> law = density("relu", 50, sigma_w=2**0.5, sigma_b=0.0, ensemble="orthogonal")
        >>> law.atoms, law.edges
        (((0.0, 0.5),), tensor([[ 0.0000, 11.5997]], dtype=torch.float64))
    """
    _check(depth, sigma_w, sigma_b, ensemble)
    q = float(MeanField(activation, sigma_w, sigma_b).q_star)
    if not math.isfinite(q):
        raise ValueError(
            f"q has no stable fixed point for {activation!r} at sigma_w={sigma_w:g}, sigma_b={sigma_b:g}; pass sigmas "
            "for which q converges (for linear and relu other sigma_w only scale s by a power)."
        )
    law = slopes(activation, q)
    if depth == 1 and ensemble == "orthogonal" and not law.finite:
        raise ValueError(
            f"depth=1 with orthogonal weights leaves σ_w|φ'(h)| itself, which is no free product for {activation!r}; "
            "pass depth ≥ 2 or Gaussian weights."
        )
    return _law(FreeProduct(law, depth, float(sigma_w), ensemble == "gaussian"), squared)


def universal_limit(kind: Any, variance: Any, squared: Any = False) -> SpectralLaw:
    """What orthogonal networks tend to as depth grows at fixed variance σ₀² = L (μ₂/μ₁² - 1) of λ, and mean 1.

    With w = λ G(λ) - 1, λ = (1 + w)/w · exp(σ₀² w) for activations smooth at 0 (q* shrinking with depth), and
    λ = (1 + w)/w · exp(σ₀² w/(1 + w)) for slopes that are 0 or 1 (Pennington, Schoenholz & Ganguli 2018).

    Args:
        kind: "smooth" or "bernoulli".
        variance: σ₀² > 0. Below 1 the Bernoulli class keeps an atom 1 - σ₀² at λ = exp(σ₀²).
        squared: the law of λ = s² instead of s.

    Raises:
        ValueError: For another kind, or a variance that is not positive and finite.
        TypeError: If the variance is no number.

    Example:
        >>> universal_limit("smooth", 1.0, squared=True).edges
        tensor([[0.0757, 4.8572]], dtype=torch.float64)
    """
    forms = {"smooth": ExponentialLimit, "bernoulli": BernoulliLimit}
    if not isinstance(kind, str) or kind not in forms:
        raise ValueError(f"kind={kind!r} is no universality class; pass 'smooth' or 'bernoulli'.")
    return _law(forms[kind](_positive("variance", variance)), squared)


def resnet_law(c: Any, squared: Any = False) -> SpectralLaw:
    """The law of a deep residual network x ↦ x + L^{-1/2} φ(W x + b), λ = (1 + w)/w · exp(c (1 + 2w)).

    c is the mean over layers of σ_w² E φ'(h)². log s is symmetric about 0 under λ-weighting: λ ρ(λ) is even in log λ
    and the edges are inverses of each other; the mean of λ is e^c, its variance 2c e^{2c} (Tarnowski et al. 2019).
    Assumed is that E φ(h) = 0: with a ReLU inside, one singular value leaves the law and dominates the mean.

    Args:
        c: > 0.
        squared: the law of λ = s² instead of s.

    Raises:
        ValueError: If c is not positive and finite, or so large that s exceeds float64.
        TypeError: If c is no number.

    Example:
        >>> resnet_law(0.5, squared=True).edges
        tensor([[0.1249, 8.0081]], dtype=torch.float64)
    """
    c = _positive("c", c)
    return _law(ExponentialLimit(2 * c, log_mean=c), squared)


def _law(form: Form, squared: object) -> SpectralLaw:
    if not isinstance(squared, bool):
        raise TypeError(f"squared={squared!r}; pass True for the law of λ = s², False for that of s.")
    scale = 1 if squared else 2
    intervals = support(form) if form.exact else support(form)[:1]
    ends = [[_log_value(form, t) for t in interval] for interval in intervals]
    highest = max([high for high, _ in ends] + [place for place, _ in form.atoms])
    if abs(highest) > scale * _LARGEST:
        raise ValueError(
            f"the largest singular value is e^{highest / 2:.0f}, beyond float64; pass a smaller depth, or sigma_w and "
            "other arguments nearer to criticality."
        )
    nodes = tuple(lay(form, intervals, -scale * _LARGEST))
    log_s = torch.cat([n.log_value for n in nodes] or [torch.zeros(0, dtype=torch.float64)]) / scale
    s = log_s.exp()
    values = scale * torch.cat([n.density for n in nodes] or [s]) / s
    weights = torch.cat([n.weight for n in nodes] or [s]) * s / scale
    last = -1
    for n in reversed(nodes):
        weights[last] += n.below / values[last]
        last -= len(n.t)
    atoms = ([(0.0, form.zero_mass)] if form.zero_mass else []) + sorted(
        (math.exp(place / scale), mass) for place, mass in form.atoms
    )
    edges = [
        [0.0 if form.to_zero and n == len(ends) - 1 else math.exp(low / scale), math.exp(high / scale)]
        for n, (high, low) in enumerate(ends)
    ]
    found = SpectralLaw(
        s.flip(0), values.flip(0), weights.flip(0), tuple(atoms),
        torch.tensor(edges, dtype=torch.float64).reshape(-1, 2).flip(0), squared, form, nodes,
    )  # fmt: skip
    _refuse_unless_honest(found)
    return found


def _log_value(form: Form, t: float) -> float:
    if t == math.inf:
        return -math.inf
    return float(form.at(torch.tensor([t], dtype=torch.complex128)).log_value.real)


def _refuse_unless_honest(law: SpectralLaw) -> None:
    """Compare mass and two moments of λ by the weights with what they are."""
    form, places = law._form, torch.cat([n.log_value for n in law._nodes] or [law.s])
    mass = torch.cat([n.density * n.weight for n in law._nodes] or [law.s])
    below = sum(n.below for n in law._nodes)
    for k, exact in enumerate((1.0, 1.0, 1 + form.relative_variance)):
        found = float((mass * (k * (places - form.log_mean)).exp()).sum()) + (below + form.zero_mass) * (k == 0)
        found += sum(share * math.exp(k * (place - form.log_mean)) for place, share in form.atoms)
        if not abs(found / exact - 1) <= _HONEST:
            raise RuntimeError(
                f"the law was not resolved: moment {k} of its weights is {found / exact:.9g} times what it should "
                "be, a limit of the method (slopes very unlike, or almost all equal); pass other sigmas or depth."
            )


def _check(depth: object, sigma_w: object, sigma_b: object, ensemble: object) -> None:
    if isinstance(depth, bool) or not isinstance(depth, int):
        raise TypeError(f"depth={depth!r}; pass an integer, the number of layers.")
    if depth < 1:
        raise ValueError(f"depth={depth}; a Jacobian has at least 1 layer.")
    _positive("sigma_w", sigma_w)
    if _number("sigma_b", sigma_b) < 0:
        raise ValueError(f"sigma_b={sigma_b!r} is negative; pass a standard deviation ≥ 0.")
    if ensemble not in ("gaussian", "orthogonal"):
        raise ValueError(f"ensemble={ensemble!r} is not known; pass 'gaussian' or 'orthogonal'.")


def _positive(name: str, value: object) -> float:
    number = _number(name, value)
    if number <= 0:
        raise ValueError(f"{name}={value!r}; pass a number > 0.")
    return number


def _number(name: str, value: object) -> float:
    if isinstance(value, bool | complex | str) or (isinstance(value, Tensor) and value.dim()):
        raise TypeError(f"{name}={value!r}; pass one number.")
    try:
        number = float(value)  # type: ignore[arg-type]  # anything is tried
    except (TypeError, ValueError):
        raise TypeError(f"{name}={value!r}; pass one number.") from None
    if not math.isfinite(number):
        raise ValueError(f"{name}={value!r}; pass a finite number.")
    return number
