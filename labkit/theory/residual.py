"""Growth laws of residual networks x + α·branch at infinite width: lengths, cosines and gradients by depth.

One recursion covers where the nonlinearity sits and whether the branch is normalised; the laws of the literature
stand beside it.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from labkit.theory._arguments import COSINE, FINITE, check, grid, whole
from labkit.theory._derivatives import Pieces, pieces
from labkit.theory._gaussian import expectation
from labkit.theory._kernel_layers import covariance, mean_square, mean_squared_slope

__all__ = [
    "BRANCHES",
    "ResidualPath",
    "StableLimit",
    "residual_path",
    "stable_limit",
    "tanh_gain_law",
]

BRANCHES = ("weights_last", "activation_last", "pre_norm")


@dataclass(frozen=True)
class ResidualPath:
    """A residual network layer by layer.

    Attributes:
        q: (L+1, *grid), |h_l|²/n; inf past the depth where it leaves float64.
        c: (L+1, *grid), the cosine of two inputs of equal norm; nan past q = 1e60 but for ReLU.
        branch_gain: (L, *grid), α² E|B u|²/|u|² of each branch's Jacobian B, for u ⊥ x.

    Example:
        >>> path = residual_path("relu", 2, 1.0)
        >>> path.q
        tensor([1.0000, 1.5000, 2.2500], dtype=torch.float64)
    """

    q: Float[Tensor, "depths *grid"]
    c: Float[Tensor, "depths *grid"]
    branch_gain: Float[Tensor, "layers *grid"]

    @property
    def log_gain(self) -> Float[Tensor, "depths *grid"]:
        """log of the mean squared gain E|Df u|²/|u|² by depth, the same for gradients: Σ log(1 + branch_gain)."""
        start = torch.zeros_like(self.branch_gain[:1])
        return torch.cat([start, torch.log1p(self.branch_gain).cumsum(0)])

    @property
    def spectral_constant(self) -> Float[Tensor, "*grid"]:
        """Σ branch_gain over all layers: the c of the universal law of singular values at α = L^{-1/2}.

        Tarnowski et al. 2019, arXiv:1809.08848; the mean of s² is e^c for many layers.
        """
        return self.branch_gain.sum(0)


@dataclass(frozen=True)
class StableLimit:
    """A residual network with α = L^{-1/2} in the limit of infinitely many layers.

    Attributes:
        q: (*grid), |h|²/n at the end.
        c: (*grid), the cosine of two inputs there.
        log_gain: (*grid), the logarithm of the mean squared gain.

    Example:
        >>> stable_limit("linear", 1.0, q0=1.0, c0=0.5).c
        tensor(0.5000, dtype=torch.float64)
    """

    q: Float[Tensor, "*grid"]
    c: Float[Tensor, "*grid"]
    log_gain: Float[Tensor, "*grid"]


def residual_path(
    activation: Any,
    depth: Any,
    sigma_w: Any,
    sigma_b: Any = 0.0,
    *,
    alpha: Any = 1.0,
    q0: Any = 1.0,
    c0: Any = 0.0,
    branch: Any = "weights_last",
) -> ResidualPath:
    """Lengths, cosines and gains of h + α·branch(h) at every depth, in the limit of infinite width.

    Three branches: `"weights_last"` W φ(h) + b, the block of `labkit.networks.resnet`; `"activation_last"`
    φ(W h + b), whose mean E φ piles up in every unit where φ is not odd; `"pre_norm"` W φ(LN(h)) + b, whose
    gain falls as 1/q. Every W is fresh, N(0, σ_w²/n).

    Args:
        activation: A name of `labkit.theory.activations`, or an elementwise callable.
        depth: L, number of blocks.
        sigma_w: σ_w; a tensor for a grid.
        sigma_b: σ_b, alike.
        alpha: α, a number or a tensor; a function gives the α of block l = 1 … L. 0 at the start is ReZero's and
            SkipInit's identity.
        q0: |h|²/n of both inputs.
        c0: Their cosine.
        branch: One of `BRANCHES`.

    Returns:
        The path, float64, differentiable in σ, α, q0 and c0.

    Raises:
        TypeError: For what is no number.
        ValueError: For a depth below 1, an unknown branch, σ < 0, q0 ≤ 0, |c0| > 1, numbers that are not finite or
            shapes that do not broadcast.

    References:
        Yang & Schoenholz 2017, arXiv:1712.08969 ("activation_last" is their reduced network); Hayou et al. 2021,
        arXiv:2010.12859; Bachlechner et al. 2020, arXiv:2003.04887; Sun et al. 2025, arXiv:2502.05795 ("pre_norm",
        the curse of depth). The drift of the mean is derived in this course.

    Example:
        >>> path = residual_path("tanh", 100, 1.0, branch="activation_last")
        >>> path.q[-1], path.log_gain[-1]
        (tensor(84.4495, dtype=torch.float64), tensor(10.5455, dtype=torch.float64))
    """
    blocks = range(1, whole("depth", depth, "of blocks") + 1)
    if branch not in BRANCHES:
        raise ValueError(f"branch={branch!r} is not known; pass one of {', '.join(BRANCHES)}")
    scales = {f"alpha of block {n}": alpha(n) if callable(alpha) else alpha for n in blocks}
    w, b, q, c, *alphas = _as_grid(sigma_w=sigma_w, sigma_b=sigma_b, q0=q0, c0=c0, scales=scales)
    step = _STEPS[branch]
    act = pieces(activation)
    state = (q, c, torch.zeros_like(q))
    lengths, cosines, gains = [q], [c], []
    for alpha_l in alphas:
        state, gain = step(act, w**2, b**2, alpha_l, state)
        lengths.append(state[0])
        cosines.append(state[1])
        gains.append(gain)
    return ResidualPath(torch.stack(lengths), torch.stack(cosines), torch.stack(gains))


def stable_limit(
    activation: Any,
    sigma_w: Any,
    sigma_b: Any = 0.0,
    *,
    q0: Any = 1.0,
    c0: Any = 0.0,
    time: Any = 1.0,
) -> StableLimit:
    """The flow that a residual network h + L^{-1/2} (W φ(h) + b) follows as L → ∞: lengths, cosines and gains.

    With k = q c: dq/dt = σ_w² E φ² + σ_b², dk/dt = σ_w² E φφ' + σ_b² and d log gain/dt = σ_w² E φ'². For ReLU
    q = q_0 e^{σ_w² t/2} and dc/dt = (σ_w²/2)(κ(c) - c), κ(c) = (√(1-c²) + c (π - arccos c))/π. For fresh weights
    L^{-1/2} is the only scale with a limit that is neither the identity nor infinite.

    Args:
        activation: A name of `labkit.theory.activations`, or an elementwise callable.
        sigma_w: σ_w; a tensor for a grid.
        sigma_b: σ_b, alike.
        q0: |h|²/n at the start.
        c0: The cosine of two inputs of that length.
        time: t, 1 for α = L^{-1/2} and a² for α = a L^{-1/2}.

    Returns:
        The limit, float64, differentiable; some ten digits. nan where σ_w² t is so large, or φ so steep, that the steps
        do not agree within 1e-6.

    Raises:
        ValueError: As `residual_path`.

    References:
        Hayou et al. 2021, arXiv:2010.12859; on the scale Marion et al. 2022, arXiv:2206.06929.

    Example:
        >>> stable_limit("relu", 2**0.5).c
        tensor(0.2539, dtype=torch.float64)
    """
    w, b, q, c, span = _as_grid(sigma_w=sigma_w, sigma_b=sigma_b, q0=q0, c0=c0, scales={"time": time})
    act = pieces(activation)

    def flow(state: Tensor, clock: float) -> Tensor:
        var, cov, slope = _moments(act, state[0], (state[1] / state[0]).clamp(-1, 1))
        # t = span · clock²: a cosine of -1 leaves with a square root of t at a kink, smoothly in the clock
        return 2 * clock * span * torch.stack([w**2 * var + b**2, w**2 * cov + b**2, w**2 * slope])

    start = torch.stack([q, c * q, torch.zeros_like(q)])
    ends = [_runge_kutta(flow, start, steps) for steps in _STEPS_OF_FLOW]
    for order in (4, 5):  # Richardson: what the first powers of the step contribute goes
        near = ends[-1]
        ends = [fine + (fine - coarse) / (2**order - 1) for coarse, fine in itertools.pairwise(ends)]
    (end,) = ends
    size = torch.stack([end[0], end[0], 1 + end[2]])
    agree = ((end - near).abs() <= _AGREE * size).all(0)
    length, cosine, gain = (torch.where(agree, v, torch.nan) for v in (end[0], (end[1] / end[0]).clamp(-1, 1), end[2]))
    return StableLimit(length, cosine, gain)


def tanh_gain_law(depth: Any, sigma_w: Any) -> Tensor:
    """log of the gain of h + tanh(W h + b) → (8 σ_w/(3√(2π))) √l: between polynomial and exponential growth.

    While q_l ~ l, the share of units that are not saturated falls as 1/√q, so each block adds
    σ_w² E tanh'² ~ (4σ_w/3)/√(2π l).

    Args:
        depth: l.
        sigma_w: σ_w.

    Returns:
        float64, broadcast; 2 % from the recursion at l = 1,000.

    References:
        Yang & Schoenholz 2017, arXiv:1712.08969; the constant is derived in this course.

    Example:
        >>> tanh_gain_law(100, 1.0)
        tensor(10.6385, dtype=torch.float64)
    """
    constant = 8 / (3 * math.sqrt(2 * math.pi))
    w, layers = grid({"sigma_w": sigma_w, "depth": depth})
    return constant * w * layers.sqrt()


def _as_grid(*, sigma_w: Any, sigma_b: Any, q0: Any, c0: Any, scales: dict[str, Any]) -> list[Tensor]:
    """The arguments as float64 tensors of one shape: σ_w, σ_b, q0, c0, then `scales`."""
    given = {"sigma_w": sigma_w, "sigma_b": sigma_b, "q0": q0, "c0": c0, **scales}
    signed = {name: FINITE for name in scales if name != "time"}
    w, b, q, *rest = grid(given, {"c0": COSINE, **signed})
    check("q0", q, q > 0, "numbers > 0, for the zero vector has no cosine with another")
    return [w, b, q, *rest]


def _runge_kutta(flow: Callable[[Tensor, float], Tensor], state: Tensor, steps: int) -> Tensor:
    """The state at clock 1 from that at 0, by the classical rule of order four."""
    h = 1 / steps
    for step in range(steps):
        k1 = flow(state, step * h)
        k2 = flow(state + h / 2 * k1, (step + 0.5) * h)
        k3 = flow(state + h / 2 * k2, (step + 0.5) * h)
        k4 = flow(state + h * k3, (step + 1) * h)
        state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return state


State = tuple[Tensor, Tensor, Tensor]  # q, c and the mean over units


def _moments(act: Pieces, q: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """E φ², E φφ' at cosine c, and E φ'², of pre-activations of variance q."""
    return mean_square(act, q), covariance(act, act.phi, q, c), mean_squared_slope(act, q)


def _weights_last(act: Pieces, w: Tensor, b: Tensor, alpha: Tensor, state: State) -> tuple[State, Tensor]:
    q, c, mean = state
    variance, shared, slope = _moments(act, q, c)
    q_next = q + alpha**2 * (w * variance + b)
    return (q_next, (q * c + alpha**2 * (w * shared + b)) / q_next, mean), alpha**2 * w * slope


def _activation_last(act: Pieces, w: Tensor, b: Tensor, alpha: Tensor, state: State) -> tuple[State, Tensor]:
    q, c, mean = state
    v = w * q + b
    inner = torch.where(v > 0, (w * q * c + b) / torch.where(v > 0, v, 1.0), 1.0)
    variance, shared, slope = _moments(act, v, inner)
    drift = alpha * expectation(act.phi, v, act.kinks)
    q_next = q + 2 * mean * drift + alpha**2 * variance
    c_next = (q * c + 2 * mean * drift + alpha**2 * shared) / q_next
    return (q_next, c_next, mean + drift), alpha**2 * w * slope


def _pre_norm(act: Pieces, w: Tensor, b: Tensor, alpha: Tensor, state: State) -> tuple[State, Tensor]:
    q, c, mean = state
    variance, shared, slope = _moments(act, torch.ones_like(q), c)
    q_next = q + alpha**2 * (w * variance + b)
    return (q_next, (q * c + alpha**2 * (w * shared + b)) / q_next, mean), alpha**2 * w * slope / q


_STEPS = {"weights_last": _weights_last, "activation_last": _activation_last, "pre_norm": _pre_norm}
_STEPS_OF_FLOW = (16, 32, 64)
_AGREE = 1e-6  # relative, of the last two extrapolations
