"""The kernel of a random network at c = 1, to second order: what width predicts for any sequence of layers.

Plain and residual layers may be mixed, and q need not be at a fixed point; everything broadcasts over grids.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from labkit.theory._gaussian import expectation
from labkit.theory._kernel_layers import KernelLayer, as_layers, covariance, mean_of, mean_squared_slope

__all__ = ["KernelJet", "correlations", "kernel_jet"]


@dataclass(frozen=True)
class KernelJet:
    """Value, slope and curvature of the correlation map C at c = 1, layer by layer and composed.

    C_l(c) is the cosine with which two inputs of equal norm leave layer l if they enter it with cosine c. The mean
    squared gain E|Df u|²/|u|² for u ⊥ x is `chi_tot * q / q[0]`. Unpacks as `chi_tot, gamma_tot = kernel_jet(…)`.

    Attributes:
        q: (L+1, *grid), |h_l|²/n at depths 0 … L; inf past the depth where it leaves float64.
        chi: (L, *grid), C_l'(1) of each layer.
        gamma: (L, *grid), C_l''(1) of each layer; inf at kinks.
        p: (L, *grid), C_l(0) of each layer.
        chi_tot: (L+1, *grid), C'(1) of the layers up to depth l; 1 at depth 0.
        gamma_tot: (L+1, *grid), C''(1) of the layers up to depth l; 0 at depth 0.

    Example:
        >>> jet = kernel_jet([("tanh", 1.0, 0.0)] * 2, q0=1.0)
        >>> jet.q.shape, jet.gamma.shape
        (torch.Size([3]), torch.Size([2]))
    """

    q: Float[Tensor, "depths *grid"]
    chi: Float[Tensor, "layers *grid"]
    gamma: Float[Tensor, "layers *grid"]
    p: Float[Tensor, "layers *grid"]
    chi_tot: Float[Tensor, "depths *grid"]
    gamma_tot: Float[Tensor, "depths *grid"]

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.chi_tot, self.gamma_tot))


def kernel_jet(layers: Any, q0: Any) -> KernelJet:
    """(χ_tot, γ_tot) = (C'(1), C''(1)) at every depth of a sequence of layers in the limit of infinite width.

    A plain layer W φ(h) + b takes q to q' = σ_w² E φ² + σ_b² and has χ = q σ_w² E φ'²/q', γ = q² σ_w² E φ''²/q',
    p = (σ_w² (E φ)² + σ_b²)/q' at h = √q z; a residual one, h + α (W φ(h) + b), adds α² times these kernels to the
    one that enters. Composed, χ_tot ← χ χ_tot and γ_tot ← γ χ_tot² + χ γ_tot; only where every χ = 1 do the γ add.

    Args:
        layers: For each layer, first applied first, `(activation, sigma_w, sigma_b)` or, for a residual one,
            `(activation, sigma_w, sigma_b, alpha)`. An affine first layer is `("linear", sigma_w, sigma_b)`.
        q0: |h|²/n of the input, finite and not negative. Numbers and tensors, all σ, α and `q0`, broadcast to a
            grid.

    Returns:
        The jets, float64, on the device of `q0`. Differentiable in q0, σ and α. nan where C is not defined: past a
        depth with q = 0 (a contraction to the origin has no angles) or q = inf, and where φ oscillates too fast to
        be integrated.

    Raises:
        TypeError: For what is no number.
        ValueError: For no layers, a layer of another form, σ < 0, q0 < 0, numbers that are not finite or shapes
            that do not broadcast.

    References:
        Poole et al. 2016, arXiv:1606.05340 (q, χ); Zhang, Botev & Martens 2022, arXiv:2203.08120 (C''(1) of a
        network as a budget); for residual layers Yang & Schoenholz 2017, arXiv:1712.08969.

    Example:
        >>> chi_tot, gamma_tot = kernel_jet([("tanh", 1.0, 0.0)] * 3, q0=1.0)
        >>> chi_tot
        tensor([1.0000, 1.1778, 1.2502, 1.2891], dtype=torch.float64)
    """
    sequence, q = as_layers(layers, q0=q0)
    lengths, own, chi_tot, gamma_tot = [q], [], [torch.ones_like(q)], [torch.zeros_like(q)]
    for layer in sequence:
        chi, gamma, p, q = _one(layer, q)
        gamma_tot.append(_times(gamma, chi_tot[-1] ** 2) + _times(gamma_tot[-1], chi))
        chi_tot.append(chi * chi_tot[-1])
        lengths.append(q)
        own.append((chi, gamma, p))
    chis, gammas, ps = (torch.stack(column) for column in zip(*own, strict=True))
    return KernelJet(torch.stack(lengths), chis, gammas, ps, torch.stack(chi_tot), torch.stack(gamma_tot))


def correlations(layers: Any, q0: Any, c0: Any) -> Tensor:
    """The cosine c_l of two inputs of equal norm at every depth: the correlation maps, iterated.

    Args:
        layers: As in `kernel_jet`.
        q0: |h|²/n of both inputs.
        c0: Their cosine, in [-1, 1]; broadcasts with the grid.

    Returns:
        (L+1, *grid), float64; c_0 first. nan where `kernel_jet` is, and past q = 1e60 but for ReLU. Its
        gap 1 - c has an absolute error of some 1e-16.

    Raises:
        ValueError: As `kernel_jet`, and for |c0| > 1.

    References:
        Poole et al. 2016, arXiv:1606.05340, eq. 5.

    Example:
        >>> correlations([("relu", 2**0.5, 0.0)] * 2, q0=1.0, c0=0.0)
        tensor([0.0000, 0.3183, 0.4937], dtype=torch.float64)
    """
    sequence, q, c = as_layers(layers, q0=q0, c0=c0)
    path = [c]
    for layer in sequence:
        q_next = layer.length(q)
        c, q = layer.cosine(q, q_next, c, covariance(layer.act, layer.act.phi, q, c)), q_next
        path.append(c)
    return torch.stack(path)


def _one(layer: KernelLayer, q: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """χ, γ, p of one layer at the length q that enters it, and the length that leaves it."""
    act, q_next = layer.act, layer.length(q)
    mean = expectation(act.phi, q, act.kinks)
    slope = _times(layer.weight, mean_squared_slope(act, q))
    if act.smooth:
        bend = layer.weight * mean_of(lambda h: act.second(h) ** 2, act, q)
    else:
        bend = torch.where(layer.weight * q > 0, torch.inf, 0.0)
    skip, weight = (0.0, torch.ones_like(q)) if layer.alpha2 is None else (q, layer.alpha2)
    chi = (skip + _times(weight * q, slope)) / q_next
    gamma = _times(bend, weight * q**2) / q_next
    p = weight * layer.branch(mean**2) / q_next
    defined = q.isfinite() & q_next.isfinite() & (q_next > 0)
    chi, gamma, p = (torch.where(defined, value, torch.nan) for value in (chi, gamma, p))
    return chi, gamma, p, q_next


def _times(a: Tensor, b: Tensor) -> Tensor:
    """a b, with 0 · inf = 0: what a kink would add to a map that is constant."""
    return torch.where((a == 0) | (b == 0), 0.0, a * b)
