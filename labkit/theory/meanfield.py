"""Mean field: what infinite width says of lengths, correlations and gradients, by layer and at their fixed points.

Layers h ↦ W φ(h) + b with W_ij ~ N(0, σ_w²/n) and b_i ~ N(0, σ_b²); q = |h|²/n, c the cosine of two such states. A name
or any elementwise callable as φ, σ_w and σ_b of any shapes that broadcast, float64 throughout.
"""

import enum
import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from labkit.theory._arguments import COSINE, between, grid, whole
from labkit.theory._correlations import Settled, follow_correlation, settle
from labkit.theory._critical import CriticalPoints, critical_line, critical_points, half_stable_ends
from labkit.theory._fixed_points import FixedPoints, Found, Lengths, find_fixed_points, follow
from labkit.theory._gaussian import expectation, pair_expectation, pieces, resolved
from labkit.theory._kernel_layers import jumps
from labkit.theory.activations import Elementwise
from labkit.theory.kernel_jets import KernelJet, kernel_jet

__all__ = [
    "Circle",
    "CriticalPoints",
    "FixedPoints",
    "KernelJet",
    "MeanField",
    "Phase",
    "critical_line",
    "critical_points",
    "half_stable_ends",
    "kernel_jet",
]

CRITICAL = 1e-12  # |χ₁ - 1| up to which a network counts as critical
_ZERO, _INFINITY = 1e-60, 1e12  # squared lengths that stand for the limits 0 and ∞
_ENDLESS = 1e300  # lengths that only grow from here leave the numbers
_PERIODS = 2  # of lengths that rounding keeps moving


class Phase(enum.IntEnum):
    """What becomes of two near inputs: the entries of `MeanField.phase`.

    Example:
        >>> Phase(int(MeanField("tanh", 2.5, 0.3).phase)).name
        'CHAOTIC'
    """

    ORDERED = -1
    CRITICAL = 0
    CHAOTIC = 1
    UNBOUNDED = 2  # lengths diverge
    UNKNOWN = 3  # q* is nan: bounded lengths that do not settle, or φ oscillates too fast to be integrated


@dataclass(frozen=True)
class Circle:
    """A circle of inputs of length √(n q*) pushed through the layers.

    Attributes:
        speed: (depth, *grid), ḡ_l = E|dh_l/dθ|²/n from l = 1, where it is q*.
        curvature: (depth, *grid), κ̄_l², its squared extrinsic curvature times n, from 1/q*; inf behind a kink.

    Example:
        >>> MeanField("tanh", 2.5, 0.3).circle(30).curvature[-1]  # 3χ₂/(χ₁(χ₁ - 1))
        tensor(3.8677, dtype=torch.float64)
    """

    speed: Tensor
    curvature: Tensor


class MeanField:
    """Signal propagation in an infinitely wide network (Poole et al. 2016; Schoenholz et al. 2017).

    Everything is computed when first asked and then kept. Fixed points are differentiated implicitly, so derivatives of
    any property in σ_w, σ_b and parameters of φ come by `backward` or `torch.func.grad` (not under `vmap`).

    Args:
        activation: a name from `labkit.theory.activations`, or any elementwise callable.
        sigma_w: σ_w ≥ 0, a number or a tensor of any shape.
        sigma_b: σ_b ≥ 0, which broadcasts with it to the grid.
        keep: probability ρ with which dropout keeps a unit (kept ones are scaled by 1/ρ); 1 is no dropout.

    Raises:
        ValueError: for an unknown activation or one that mixes entries, for σ that are negative, not finite or do not
            broadcast, and for ρ outside (0, 1].
        TypeError: for what is no number, tensor or activation.

    Example:
        >>> mf = MeanField("tanh", [1.3, 2.5], 0.3)
        >>> mf.q_star, mf.c_star
        (tensor([0.6070, 4.0791], dtype=torch.float64), tensor([1.0000, 0.1221], dtype=torch.float64))
        >>> mf.chi_1
        tensor([0.9398, 1.5852], dtype=torch.float64)
    """

    def __init__(self, activation: object, sigma_w: object, sigma_b: object, *, keep: object = 1.0) -> None:
        self._pieces = pieces(activation)
        # copies, for what is computed later must not see what is written into the arguments
        self.sigma_w, self.sigma_b = (s.clone() for s in grid({"sigma_w": sigma_w, "sigma_b": sigma_b}))
        if not isinstance(keep, int | float) or not 0 < keep <= 1:
            raise ValueError(f"keep={keep!r} is no probability of keeping a unit; pass a number in (0, 1].")
        self.keep = float(keep)
        self._lengths = Lengths(self._pieces)
        self._weight, self._bias = self.sigma_w**2, self.sigma_b**2

    # lengths

    def _given_q(self, q: object, name: str) -> Tensor:
        return between(name, q, (0.0, torch.inf), self.sigma_w.device, unknown=True)

    def _given_c(self, c: object, name: str) -> Tensor:
        return between(name, c, COSINE, self.sigma_w.device, unknown=True)

    def q_map(self, q: object) -> Tensor:
        """V(q) = σ_w² E φ(√q z)²/ρ + σ_b², the length after one more layer; q ≥ 0 broadcasts with the grid.

        nan where φ oscillates too fast to be integrated at such a length.
        """
        q = self._given_q(q, "q")
        mean = self._lengths.mean(q)
        mean = torch.where(self._lengths.resolved(q.detach()) | mean.isinf(), mean, torch.nan)
        return self._weight / self.keep * mean + self._bias

    def q_map_slope(self, q: object) -> Tensor:
        """V'(q) = σ_w² E[z φ φ']/(ρ √q), which is χ₁/ρ + σ_w² E[φ φ'']/ρ for smooth φ; nan as `q_map`."""
        q = self._given_q(q, "q")
        slope = torch.where(self._lengths.resolved(q.detach()), self._lengths.slope(q), torch.nan)
        return self._weight / self.keep * slope

    def q_trajectory(self, q0: object, depth: object) -> Tensor:
        """q_0 … q_depth from q0, (depth + 1, *grid); q0 broadcasts with the grid; inf once q outgrows all numbers."""
        layers = whole("depth", depth, "of layers")
        start = self._given_q(q0, "q0")

        def step(q: Tensor) -> Tensor:
            after = self.q_map(q)
            return torch.where((q > _ENDLESS) & ~(after <= q), torch.inf, after)

        return _orbit(step, start.expand_as(start + self.sigma_w), layers)

    @functools.cached_property
    def _found(self) -> Found:
        return find_fixed_points(self._lengths, (self._weight / self.keep).detach(), self._bias.detach())

    @property
    def fixed_points(self) -> FixedPoints:
        """Every fixed point of the length map, with slope, stability and basin; detached."""
        return self._found.points

    @functools.cached_property
    def q_star(self) -> Tensor:
        """The smallest stable fixed point of V.

        inf where there is none and q diverges; nan where none is stable yet q stays bounded, and where φ oscillates too
        fast to be integrated at such a length. Where every q is fixed (ReLU at σ_w² = 2 without bias) it is 1, which
        stands for all.
        """
        points, diverges = self._found
        stable = torch.where(points.stable, points.q, torch.inf)
        none = torch.where(diverges, torch.inf, torch.nan).double()
        if not stable.shape[-1]:
            return none
        q = torch.where(points.stable.any(-1), stable.amin(-1), none)
        if self._tracked:
            q = follow(self._lengths, q, self._weight / self.keep, self._bias)
        return q

    @functools.cached_property
    def q_slope(self) -> Tensor:
        """V'(q*), the factor by which a small deviation from q* shrinks in a layer; nan where q* is not finite."""
        finite = self.q_star.isfinite()
        return torch.where(finite, self.q_map_slope(torch.where(finite, self.q_star, 1.0)), torch.nan)

    @property
    def xi_q(self) -> Tensor:
        """ξ_q = -1/log|V'(q*)|, the depth scale of lengths; finite on the critical line, inf where V'(q*) = 1."""
        return _depth_scale(1 - self.q_slope.abs(), self.q_slope.abs())

    # slopes

    @functools.cached_property
    def chi_1(self) -> Tensor:
        """χ₁ = σ_w² E φ'² at q*, the slope of the C-map at 1; at q* = 0 and inf its limit there; nan as `q_map`.

        Raises:
            ValueError: if φ jumps, as the sign does: C then leaves 1 like a square root.
        """
        if jumps(self._pieces):
            raise ValueError(
                "activation jumps, so that chi_1 is infinite and no correlation settles at 1; "
                "take q_map, c_map and c_trajectory, which have no derivative"
            )
        return self._weight * self.mu(1)

    @functools.cached_property
    def chi_2(self) -> Tensor:
        """χ₂ = σ_w² E φ''² at q*; inf where φ' jumps; nan as `q_map`.

        Raises:
            ValueError: if φ has no second derivative.
        """
        if not self._pieces.smooth:
            return torch.where(self._weight > 0, torch.inf, self._weight)
        return self._weight * self._mean(lambda u: self._pieces.second(u) ** 2)

    @property
    def gamma(self) -> Tensor:
        """γ = C''(1) = q* χ₂, the rate at which an isometric sphere wrinkles; inf where φ' jumps."""
        return self.chi_2 if not self._pieces.smooth else self.q_star * self.chi_2

    def mu(self, k: int) -> Tensor:
        """μ_k = E φ'(h)^{2k} at q*, the moments of squared slopes; nan as `q_map`."""
        if not isinstance(k, int) or k < 1:
            raise ValueError(f"k={k!r} is no order of a moment; pass a whole number from 1.")
        return self._mean(lambda u: self._pieces.first(u) ** (2 * k))

    @property
    def iota(self) -> Tensor:
        """ι = μ₂/μ₁² - 1, the isometry defect: relative variance of squared slopes; 0 for a linear network."""
        return self.mu(2) / self.mu(1) ** 2 - 1

    @property
    def gradient_slope(self) -> Tensor:
        """log(χ₁/ρ): by so much a layer the log of the mean squared gradient grows towards the input."""
        return (self.chi_1 / self.keep).log()

    @property
    def xi_grad(self) -> Tensor:
        """-1/log(χ₁/ρ), signed: negative where gradients explode, inf at criticality."""
        return _depth_scale(1 - self.chi_1 / self.keep, self.chi_1 / self.keep)

    @property
    def phase(self) -> Tensor:
        """(*grid,) int8 of `Phase`: the sign of χ₁ - 1, 0 within 1e-12; 2 where q* is inf, 3 where χ₁ is nan.

        With dropout there is no transition: c* < 1 on either side.
        """
        above = self.chi_1.detach() - 1
        sign = torch.where(above.abs() <= CRITICAL, 0.0, above.sign())
        known = torch.where(above.isnan(), float(Phase.UNKNOWN), sign)
        return torch.where(self.q_star.detach().isinf(), float(Phase.UNBOUNDED), known).to(torch.int8)

    # correlations

    def c_map(self, c: object) -> Tensor:
        """C(c) at length q*, the correlation after one more layer; c in [-1, 1] broadcasts with the grid.

        At q* = 0 and inf the map in the limit, of normalised correlations; nan as `q_map`.
        """
        c, q = self._given_c(c, "c"), self._inner
        shared = pair_expectation(self._pieces.phi, self._pieces.phi, q, q, c, self._pieces.kinks)
        return (self._weight * shared + self._bias) / self.q_map(q)

    def c_map_slope(self, c: object) -> Tensor:
        """C'(c) = σ_w² E φ'(u₁) φ'(u₂) at length q*; at c = 1 this is χ₁; nan as `q_map`."""
        c, q = self._given_c(c, "c"), self._inner
        shared = pair_expectation(self._pieces.first, self._pieces.first, q, q, c, self._pieces.kinks)
        shared = torch.where(resolved(lambda u: self._pieces.first(u) ** 2, q, self._pieces.kinks), shared, torch.nan)
        return self._weight * shared * (q / self.q_map(q))

    def c_trajectory(self, c0: object, depth: object, q0: object | None = None) -> Tensor:
        """c_0 … c_depth of two inputs with cosine c0 and the same length q0 (q* unless given), (depth + 1, *grid).

        nan as `q_map`.
        """
        layers = whole("depth", depth, "of layers")
        phi, kinks = self._pieces.phi, self._pieces.kinks
        q = self._inner if q0 is None else self._given_q(q0, "q0")
        start = self._given_c(c0, "c0")
        blank = torch.zeros_like(start + q + self.sigma_w)

        def step(state: Tensor) -> Tensor:
            q, c = state
            after = self.q_map(q)
            shared = self._weight * pair_expectation(phi, phi, q, q, c, kinks) + self._bias
            return torch.stack([q if q0 is None else after, (shared / after).clamp(-1, 1)])

        return _orbit(step, torch.stack([q + blank, start + blank]), layers)[:, 1]

    @functools.cached_property
    def _settled(self) -> Settled:
        """c* and 1 - C'(c*)."""
        q, chi_1 = self.q_star, self.chi_1
        alive = q.isfinite() & (q > 0)
        lost = torch.zeros_like(q)  # q* (1 - C(1)): what two masks do not share
        if self.keep < 1:
            lost = (1 - self.keep) * (self._weight / self.keep) * self._lengths.mean(torch.where(alive, q, 1.0))
        moves = alive & ((lost > 0) | (chi_1 > 1 + CRITICAL))
        ends = [1.0 if self.keep == 1 and self._bends(place) else torch.nan for place in (_ZERO, _INFINITY)]
        lives = (self._weight > 0) | (self._bias > 0)  # else nothing leaves the first layer
        c = torch.where((q == 0) & lives, ends[0], torch.where(q.isinf(), ends[1], torch.nan)).double()
        c, deficit = torch.where(alive, 1.0, c), torch.where(alive, 1 - chi_1, 1 - c)
        if self._is_linear:  # a critical linear network keeps every correlation
            c = torch.where(alive & ((chi_1 - 1).abs() <= CRITICAL), torch.nan, c)
        if not moves.any():
            return Settled(c, deficit)
        cells = [value[moves] for value in (q, self._weight, self._bias, chi_1, lost / q)]
        found = settle(self._pieces, *(value.detach() for value in cells))
        if self._tracked:
            found = follow_correlation(self._pieces, found, *cells[:3])
        return Settled(c.masked_scatter(moves, found.c), deficit.masked_scatter(moves, found.deficit))

    @property
    def c_star(self) -> Tensor:
        """The correlation that two inputs settle at: 1 up to criticality, below it in chaos and with dropout.

        nan at q* = 0 where φ is smooth at 0, for the map turns linear as q → 0 and what c ends at depends on where it
        began; nan too in a critical linear network, and where q diverges and φ is asymptotically linear. Where φ bends
        at 0, or at infinity, as ReLU does at both, it is 1 (nan with dropout); nan at σ_w = σ_b = 0.
        """
        return self._settled.c

    @property
    def c_slope(self) -> Tensor:
        """C'(c*), the factor by which a small deviation from c* shrinks in a layer; nan where c* is."""
        deficit = self._settled.deficit
        return torch.where(deficit == 1 - self.chi_1, self.chi_1, 1 - deficit)  # where c* = 1, with all digits

    @property
    def xi_c(self) -> Tensor:
        """ξ_c = -1/log C'(c*), the depth scale of correlations; inf where convergence is algebraic, nan where c* is."""
        return _depth_scale(self._settled.deficit, self.c_slope)

    @property
    def algebraic(self) -> Tensor:
        """(*grid,) bool: whether c_l → 1 by a power of l: 1 - c_l ~ 2/(γ l), or l⁻² behind kinks; ξ_c is then inf."""
        return (self.c_star == 1) & (self._settled.deficit.abs() <= CRITICAL)

    def circle(self, depth: object) -> Circle:
        """A circle pushed through `depth` layers: ḡ_l = χ₁ ḡ_{l-1} and κ̄_l² = 3χ₂/χ₁² + κ̄_{l-1}²/χ₁.

        Poole et al. 2016, from ḡ_1 = q* and κ̄_1² = 1/q*; nan where q* is 0 or not finite.

        Raises:
            ValueError: for a depth below 1, and with dropout, whose masks tear the circle.
        """
        layers = whole("depth", depth, "of layers")
        if self.keep < 1:
            raise ValueError(f"keep={self.keep}, but a circle under random masks is no curve; pass keep=1.")
        q = torch.where(self.q_star.isfinite() & (self.q_star > 0), self.q_star, torch.nan)
        speed, curvature = [q], [1 / q]
        for _ in range(layers - 1):
            speed.append(self.chi_1 * speed[-1])
            curvature.append(3 * self.chi_2 / self.chi_1**2 + curvature[-1] / self.chi_1)
        return Circle(torch.stack(speed), torch.stack(curvature))

    @property
    def _tracked(self) -> bool:
        """Whether derivatives are wanted, in σ or in parameters of φ."""
        learned = self._pieces.phi(torch.ones(1, dtype=torch.float64)).requires_grad
        return torch.is_grad_enabled() and (learned or self.sigma_w.requires_grad or self.sigma_b.requires_grad)

    @property
    def _is_linear(self) -> bool:
        slopes = self._pieces.first(torch.linspace(-5, 5, 12, dtype=torch.float64))
        return bool(((slopes - slopes[0]).abs() <= 1e-12 * slopes[0].abs()).all())

    @functools.cached_property
    def _inner(self) -> Tensor:
        """q*, with short and long lengths that stand for the limits 0 and ∞."""
        q = torch.where(self.q_star == 0, _ZERO, self.q_star)
        return torch.where(q.isinf(), _INFINITY, q)

    def _mean(self, function: Elementwise) -> Tensor:
        """E f(h) at q*; where q diverges its limit, from one length that all such cells share."""
        q = self.q_star
        near = torch.where(q.isinf(), 1.0, q)
        finite = expectation(function, near, self._pieces.kinks)
        finite = torch.where(resolved(function, near, self._pieces.kinks), finite, torch.nan)
        if not q.isinf().any():
            return finite
        limit = expectation(function, self.sigma_w.new_tensor(1e30), self._pieces.kinks)
        return torch.where(q.isinf(), limit, finite)

    def _bends(self, length: float) -> bool:
        """Whether φ is about a·u on one side and b·u on the other, a ≠ b, at states of this squared length."""
        u = length**0.5 * torch.tensor([1.0, 2.0, -1.0, -2.0], dtype=torch.float64)
        slopes = self._pieces.first(u)
        straight = bool(slopes.isfinite().all()) and torch.allclose(slopes[::2], slopes[1::2], rtol=1e-5, atol=1e-5)
        return straight and bool((slopes[0] - slopes[2]).abs() > 1e-5)


def _orbit(step: Callable[[Tensor], Tensor], start: Tensor, depth: int) -> Tensor:
    """(depth + 1, …) start and its images; once they repeat to the last bit they are copied, not computed again."""
    path, period = [start], 0
    while len(path) <= depth:
        path.append(path[-period] if period else step(path[-1]))
        if not period:
            period = next((k for k in range(1, min(_PERIODS, len(path) - 1) + 1) if _same(path[-1], path[-1 - k])), 0)
    return torch.stack(path)


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether no later image can differ, in value or, where derivatives are taken, in these."""
    dual = torch.autograd.forward_ad.unpack_dual(a)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    tracked = a.requires_grad or dual.tangent is not None
    return not tracked and bool(((a == b) | (a.isnan() & b.isnan())).all())


def _depth_scale(deficit: Tensor, slope: Tensor) -> Tensor:
    """-1/log of a slope and of what it lacks to 1, whichever has the digits; inf within 1e-12 of no deficit."""
    flat, steep = deficit.abs() <= CRITICAL, deficit > 0.5
    near = torch.log1p(-torch.where(flat | steep, 0.5, deficit))
    return torch.where(flat, torch.inf, -1 / torch.where(steep, torch.where(steep, slope, 0.5).log(), near))
