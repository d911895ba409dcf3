"""How fast two inputs merge: bounds of 1 - c_l from both sides, its law, and the price of not merging.

All follow from one fact: a correlation map C(c) = Σ w_k c^k has w_k ≥ 0 and Σ w_k = 1, the offspring law of a
branching process.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from labkit.theory._arguments import check, grid, real, whole
from labkit.theory.kernel_jets import KernelJet

__all__ = [
    "MergingBounds",
    "curvature_price",
    "merging_bounds",
    "merging_law",
    "relu_gap_law",
    "relu_gaps",
    "smooth_gap_law",
]


@dataclass(frozen=True)
class MergingBounds:
    """Bounds of the gap 1 - c_l at every depth: `lower` ≤ 1 - c_l ≤ `upper`.

    Attributes:
        lower: (L+1, *grid); 0 behind a kink, where γ is infinite.
        upper: (L+1, *grid).

    Example:
        >>> from labkit.theory.kernel_jets import kernel_jet
        >>> bounds = merging_bounds(kernel_jet([("tanh", 1.0, 0.0)] * 3, q0=1.0), c0=0.3)
        >>> bounds.upper.shape
        torch.Size([4])
    """

    lower: Float[Tensor, "depths *grid"]
    upper: Float[Tensor, "depths *grid"]


def merging_bounds(jet: KernelJet, c0: Any) -> MergingBounds:
    """Bounds of 1 - c_l from each layer's own χ, γ and p, at any depth and whatever the layers are.

    Each layer obeys (p + χ - 1)/χ² ≤ 1/(1 - c_l) - 1/(χ (1 - c_{l-1})) ≤ γ/(2χ (1 - p)); where every χ = 1 these add to
    Σ p_l ≤ 1/(1 - c_L) - 1/(1 - c_0) ≤ ½ Σ γ_l/(1 - p_l).

    Args:
        jet: Of the layers.
        c0: The cosine between the inputs, in [0, 1]; the bounds are false below 0.

    Returns:
        The bounds, shapes of `jet.chi_tot`.

    Raises:
        ValueError: For a `c0` outside [0, 1] or of a shape that does not broadcast with the jet's grid.

    References:
        The function 1/(1 - C) - 1/(χ(1 - s)) and a two-sided bound of it are Kersting's (branching processes in varying
        environment, 2020); the constants are derived in this course.

    Example:
        >>> from labkit.theory.kernel_jets import correlations, kernel_jet
        >>> layers = [("tanh", 1.0, 0.3)] * 3
        >>> bounds, gap = merging_bounds(kernel_jet(layers, 1.0), 0.3), 1 - correlations(layers, 1.0, 0.3)
        >>> bool((bounds.lower[1:] < gap[1:]).all() and (gap[1:] < bounds.upper[1:]).all())
        True
    """
    least = most = 1 / (1 - _as_cosine(c0, jet))
    lower, upper = [1 / most], [1 / least]
    for chi, gamma, p in zip(jet.chi, jet.gamma, jet.p, strict=True):
        # p = 1 is a layer that sends all inputs to one: nothing remains of the gap
        merged = (p >= 1) | (chi == 0)
        least = torch.where(merged, torch.inf, least / chi + (p + chi - 1) / chi**2)
        most = torch.where(merged, torch.inf, most / chi + gamma / (2 * chi * (1 - p)))
        lower.append(1 / most)
        upper.append(1 / least)
    return MergingBounds(torch.stack(lower), torch.stack(upper))


def merging_law(jet: KernelJet, c0: Any) -> Tensor:
    """1 - c_l by the law 1/(1 - c_l) = 1/(A (1 - c_0)) + K/(2A²), A = C'(1) and K = C''(1) of the layers up to l.

    At χ = 1 that is 1/(1 - c_0) + ½ Σ γ_l. It is the limit of small γ in every layer, not an identity, and it knows C
    at c = 1 only: maps of high degree are far from it.

    Args:
        jet: Of the layers.
        c0: The cosine between the inputs, in [0, 1].

    Returns:
        1 - c_l, shape of `jet.chi_tot`.

    Raises:
        ValueError: As `merging_bounds`.

    References:
        Derived in this course; the rate 2/(γ l) at large l is that of Hayou, Doucet & Rousseau 2019, arXiv:1902.06853.

    Example:
        >>> from labkit.theory.kernel_jets import kernel_jet
        >>> 1 - merging_law(kernel_jet([("softplus", 1.0, 0.0)] * 2, q0=1.0), 0.3)
        tensor([0.3000, 0.7884, 0.9369], dtype=torch.float64)
    """
    A, K = jet.chi_tot, jet.gamma_tot
    return 1 / (1 / (A * (1 - _as_cosine(c0, jet))) + K / (2 * A**2))


def curvature_price(jet: KernelJet) -> Tensor:
    """γ/(p + χ - 1) of each layer: at least m, the lowest degree above 1 in C; 2 in general, 3 for odd φ.

    A network that keeps far points apart (small p) without stretching near ones (χ = 1) pays in γ. A residual link
    scales γ, p and χ - 1 alike, so its price is that of its branch.

    Args:
        jet: Of the layers.

    Returns:
        (L, *grid), ≥ 2; inf at kinks, nan for a linear layer without bias, which has nothing to pay. For nearly linear
        layers digits go as p + χ - 1 does, whose absolute error is some 1e-15, and nan where none is left.

    References:
        Derived in this course, from p + χ - 1 = Σ_{k≥2} (k-1) w_k and γ = Σ k(k-1) w_k.

    Example:
        >>> from labkit.theory.kernel_jets import kernel_jet
        >>> curvature_price(kernel_jet([("tanh", 1.0, 0.0), ("gelu", 2.0, 0.0)], q0=1.0))
        tensor([4.2820, 2.1498], dtype=torch.float64)
    """
    excess = jet.p + jet.chi - 1
    price = jet.gamma / excess
    # a linear map leaves rounding here, whose ratio would be a number
    return torch.where((excess <= 4e-15) & (jet.gamma <= 1e-14) | (price < 2 - 1e-3), torch.nan, price)


def smooth_gap_law(gamma: Any, depth: Any) -> Tensor:
    """1 - c_l → 2/(γ l), where merging ends at χ = 1 with a finite γ: an asymptote, from any c_0 < 1.

    Args:
        gamma: C''(1) per layer, above 0.
        depth: l.

    Returns:
        float64, broadcast. 50 to 600 % too large where γ l is of order 1: then iterate the map, `correlations`.

    References:
        Hayou, Doucet & Rousseau 2019, arXiv:1902.06853.

    Example:
        >>> smooth_gap_law(0.5, 400)
        tensor(0.0100, dtype=torch.float64)
    """
    g, layers = grid({"gamma": gamma, "depth": depth})
    return 2 / (g * layers)


def relu_gaps(depth: Any, share: Any = 1.0, gap0: Any = 1.0) -> Tensor:
    """1 - c_l at every depth of a ReLU network without biases, by its arc-cosine map, with all digits of the gap.

    Args:
        depth: L.
        share: The branch's share of the variance that leaves a layer: 1 for plain layers at any σ_w, and for residual
            ones h + α W relu(h) a²/(1 + a²) with a² = α² σ_w²/2.
        gap0: 1 - c_0, in [0, 2].

    Returns:
        (L+1, *grid), float64.

    Raises:
        ValueError: For a depth below 1, a share outside [0, 1] or a gap outside [0, 2].

    References:
        Cho & Saul 2009; Yang & Schoenholz 2017, arXiv:1712.08969.

    Example:
        >>> relu_gaps(2)
        tensor([1.0000, 0.6817, 0.5063], dtype=torch.float64)
    """
    weight, gap = grid({"share": share, "gap0": gap0}, {"share": (0.0, 1.0), "gap0": (0.0, 2.0)})
    gaps = [gap]
    for _ in range(whole("depth", depth, "of layers")):
        angle = 2 * (gap / 2).sqrt().asin()
        gap = gap - weight * (angle.sin() - angle * angle.cos()) / torch.pi
        gaps.append(gap)
    return torch.stack(gaps)


def relu_gap_law(depth: Any, share: Any = 1.0) -> Tensor:
    """1 - c_l → 9π²/(2 (share · l)²), where merging of a ReLU network without biases ends.

    Its map has 1 - C = (1-c) - share (2√2/3π)(1-c)^{3/2} + …: γ is infinite, and the power is 2 in place of 1.

    Args:
        depth: l.
        share: As in `relu_gaps`.

    Returns:
        float64; the approach is slow, 3 % at l = 1,000 from c_0 = 0.

    References:
        Hayou, Doucet & Rousseau 2019, arXiv:1902.06853; Yang & Schoenholz 2017, arXiv:1712.08969; the constant is
        derived in this course.

    Example:
        >>> relu_gap_law(1000)
        tensor(4.4413e-05, dtype=torch.float64)
    """
    weight, layers = grid({"share": share, "depth": depth})
    return 4.5 * torch.pi**2 / (weight * layers) ** 2


def _as_cosine(c0: Any, jet: KernelJet) -> Tensor:
    c = real("c0", c0, jet.q.device)
    check("c0", c, (c >= 0) & (c <= 1), "numbers in [0, 1], for at obtuse angles the bounds are false")
    try:
        return c.expand(jet.q.shape[1:])
    except RuntimeError:
        raise ValueError(
            f"c0 has shape {tuple(c.shape)}, which does not broadcast to the jet's grid {tuple(jet.q.shape[1:])}"
        ) from None
