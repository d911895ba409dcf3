"""The neural tangent kernel of a random network of any sequence of layers, and what it becomes at criticality.

Gradients with respect to all weights and biases, each weighted by its prior variance (NTK parametrisation).
"""

from typing import Any

import torch
from torch import Tensor

from labkit.theory._arguments import grid
from labkit.theory._kernel_layers import as_layers, covariance, jumps

__all__ = ["critical_ratio", "neural_tangent_kernel"]


def neural_tangent_kernel(layers: Any, q0: Any, c0: Any) -> Tensor:
    """Θ between two inputs of equal norm at every depth, in the limit of infinite width.

    A layer with branch kernel B and its slope Ḃ = σ_w² E φ'φ' takes Θ to B + Ḃ Θ, a residual one to
    Θ + α² (B + Ḃ Θ). Divide by the same at c0 = 1 for the kernel's cosine.

    Args:
        layers: As in `kernel_jets.kernel_jet`; an affine first layer on the inputs is `("linear", sigma_w, sigma_b)`.
        q0: |h|²/n of both inputs.
        c0: Their cosine, in [-1, 1].

    Returns:
        (L+1, *grid), float64; 0 at depth 0. nan where q leaves float64 or C is not defined.

    Raises:
        ValueError: As `kernel_jets.correlations`, and for an activation that jumps, whose Θ is infinite.

    References:
        Jacot, Gabriel & Hongler 2018, arXiv:1806.07572.

    Example:
        >>> neural_tangent_kernel([("linear", 1.0, 0.0)] * 2, q0=1.0, c0=0.5)
        tensor([0.0000, 0.5000, 1.0000], dtype=torch.float64)
    """
    sequence, q, c = as_layers(layers, q0=q0, c0=c0)
    if any(jumps(layer.act) for layer in sequence):
        raise ValueError("layers has an activation that jumps, whose tangent kernel is infinite; pass continuous ones")
    theta = torch.zeros_like(q)
    path = [theta]
    for layer in sequence:
        act = layer.act
        slope = layer.weight * covariance(act, act.first, q, c)
        q_next, shared = layer.length(q), covariance(act, act.phi, q, c)
        branch = layer.branch(shared) + slope * theta
        theta = branch if layer.alpha2 is None else theta + layer.alpha2 * branch
        q, c = q_next, layer.cosine(q, q_next, c, shared)
        path.append(theta)
    return torch.stack(path)


def critical_ratio(gap: Any, budget: Any) -> Tensor:
    """Θ(u)/Θ(0) at χ = 1 as a function of u = 1 - c_0 and T = γL/2 alone, for correlation maps that are near quadratic.

    (1 + x + x²/3)/(1 + x)² - u (1 + x/2)/(1 + x)² with x = uT: from c_0 at T = 0 to 1/3 as T → ∞, so the kernel of a
    critical network stays well conditioned at any depth.

    Args:
        gap: u, in [0, 2].
        budget: T = γL/2, γ of one layer, small, and L layers.

    Returns:
        float64, broadcast. Far off where C has high degree (much γ, little p): then use `neural_tangent_kernel`.

    Raises:
        ValueError: For negative or infinite numbers.

    References:
        Derived in this course; the limit 1/3 is Xiao, Pennington & Schoenholz 2020, arXiv:1912.13053.

    Example:
        >>> critical_ratio(1.0, torch.tensor([0.0, 1.0, 1e6]))
        tensor([0.0000, 0.2083, 0.3333], dtype=torch.float64)
    """
    u, T = grid({"gap": gap, "budget": budget})
    x = u * T
    return (1 / (1 + x) ** 2 + x / (1 + x) ** 2 + (x / (1 + x)) ** 2 / 3) - u * (1 + x / 2) / (1 + x) ** 2
