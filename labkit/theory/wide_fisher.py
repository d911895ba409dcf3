"""Eigenvalue statistics of the Fisher matrix on the parameters of a wide random network, from two kernels.

The nonzero ones grow with the width, the zeros multiply with its square: κ₁ sets the mean of all, κ₂ the outlier.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from labkit.theory._arguments import COSINE, grid, whole
from labkit.theory._derivatives import pieces
from labkit.theory._kernel_layers import covariance, jumps, mean_square, mean_squared_slope

__all__ = ["WideFisher", "wide_fisher"]


@dataclass(frozen=True)
class WideFisher:
    """κ₁ and κ₂ of a network of width M, and what follows for F = mean of Σ ∇f_k ∇f_kᵀ over N samples.

    Attributes:
        kappa_1: (*grid), from one sample.
        kappa_2: (*grid), from two; 0 for odd activations without bias and uncorrelated inputs.
        hidden: number of hidden layers, of which hidden · M² is the number of parameters.

    Example:
        >>> law = wide_fisher("tanh", 1.5, 0.5, hidden=3)
        >>> law.largest(width=1500, samples=40)
        tensor(432.4475, dtype=torch.float64)
    """

    kappa_1: Float[Tensor, "*grid"]
    kappa_2: Float[Tensor, "*grid"]
    hidden: int

    def mean(self, width: int, outputs: int = 1) -> Tensor:
        """The mean eigenvalue κ₁ C/M of C outputs, over all parameters."""
        return self.kappa_1 * outputs / width

    def second_moment(self, samples: int, outputs: int = 1) -> Tensor:
        """The mean squared eigenvalue hidden · C ((N-1)/N κ₂² + κ₁²/N), whatever the width."""
        share = 1 / samples
        return self.hidden * outputs * ((1 - share) * self.kappa_2**2 + share * self.kappa_1**2)

    def largest(self, width: int, samples: int) -> Tensor:
        """The largest eigenvalue hidden · M ((N-1)/N κ₂ + κ₁/N); where κ₂ = 0 there is no outlier, and it is larger.

        Gradient descent on the squared loss needs a step below 2 over it.
        """
        share = 1 / samples
        return self.hidden * width * ((1 - share) * self.kappa_2 + share * self.kappa_1)


def wide_fisher(
    activation: Any,
    sigma_w: Any,
    sigma_b: Any = 0.0,
    *,
    hidden: Any,
    q_in: Any = 1.0,
    c_in: Any = 0.0,
) -> WideFisher:
    """κ₁ and κ₂ of a network of equal widths, input and hidden, with a linear readout.

    κ₁ = (1/hidden) Σ_l q̃_l q̂_{l-1} over all weight matrices, readout included: q̂ = E φ² forward from |x|²/M, and
    backward q̃_l = σ_w² q̃_{l+1} E φ'² from 1. κ₂ is the same with E φφ' and E φ'φ' of two inputs.

    Args:
        activation: A name of `labkit.theory.activations`, or an elementwise callable.
        sigma_w: σ_w, of the readout too; a tensor for a grid.
        sigma_b: σ_b, alike.
        hidden: Number of hidden layers.
        q_in: |x|²/M of the inputs.
        c_in: The cosine of two of them.

    Returns:
        The law, float64; relative corrections of order 1/M.

    Raises:
        TypeError: For what is no number.
        ValueError: For `hidden` below 1, σ < 0, |c_in| > 1, numbers that are not finite or do not broadcast, and an
            activation that jumps.

    References:
        Karakida, Akaho & Amari 2019, arXiv:1806.01316.

    Example:
        >>> wide_fisher("tanh", 1.5, 0.0, hidden=3).kappa_2.abs() < 1e-15
        tensor(True)
    """
    layers = whole("hidden", hidden, "of hidden layers")
    named = {"sigma_w": sigma_w, "sigma_b": sigma_b, "q_in": q_in, "c_in": c_in}
    w, b, forward, c = grid(named, {"c_in": COSINE})
    act = pieces(activation)
    if jumps(act):
        raise ValueError("activation jumps, so its gradients are 0 or infinite; pass a continuous one")
    overlap = forward * c
    signals, slopes = [(forward, overlap)], []
    for _ in range(layers):
        q, k = w**2 * forward + b**2, w**2 * overlap + b**2
        cosine = torch.where(q > 0, k / torch.where(q > 0, q, 1.0), 1.0).clamp(-1, 1)
        forward, overlap = mean_square(act, q), covariance(act, act.phi, q, cosine)
        crossed = covariance(act, act.first, q, cosine)
        signals.append((forward, overlap))
        slopes.append((w**2 * mean_squared_slope(act, q), w**2 * crossed))
    kappa_1 = kappa_2 = torch.zeros_like(w)
    back_1 = back_2 = one = torch.ones_like(w)
    for (own, shared), (slope, crossed) in zip(reversed(signals), [(one, one), *reversed(slopes)], strict=True):
        back_1, back_2 = back_1 * slope, back_2 * crossed
        kappa_1, kappa_2 = kappa_1 + back_1 * own / layers, kappa_2 + back_2 * shared / layers
    return WideFisher(kappa_1, kappa_2, layers)
