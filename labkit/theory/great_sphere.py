"""The shape of a great sphere of pre-activations after a random network, from its kernel jet alone.

A sphere |h_0|² = n q_0 stays round in the mean, of squared radius n q_L A, and wrinkles as K/A grows; A = C'(1) and
K = C''(1) of the layers.
"""

import math
from typing import Any

import torch
from torch import Tensor

from labkit.theory._arguments import whole
from labkit.theory.kernel_jets import KernelJet

__all__ = [
    "circle_curvature",
    "circle_length",
    "extrema",
    "mean_curvature",
    "relu_extrema",
    "second_fundamental_form",
    "sectional_curvature",
    "zeros",
]


def circle_length(jet: KernelJet) -> Tensor:
    """The length of the image of a great circle, over √n: 2π √(q_L A), at every depth.

    Args:
        jet: Of the layers that the circle of radius √(n q_0) passes, A = `jet.chi_tot`.

    Returns:
        (L+1, *grid).

    References:
        Poole et al. 2016, arXiv:1606.05340, where g = q_L A; exact in the limit of infinite width.

    Example:
        >>> from labkit.theory.kernel_jets import kernel_jet
        >>> circle_length(kernel_jet([("relu", 2**0.5, 0.0)], q0=1.0)) / torch.pi
        tensor([2., 2.], dtype=torch.float64)
    """
    return 2 * torch.pi * (jet.q * jet.chi_tot).sqrt()


def circle_curvature(jet: KernelJet) -> Tensor:
    """n κ², the mean squared curvature of the image of a great circle: (3K + A)/(q_L A²), at every depth.

    The closed form of Poole's recursion κ̄² ← 3 χ₂/χ₁² + κ̄²/χ₁ from 1/q*, valid away from q* too.

    Args:
        jet: Of the layers that the circle passes.

    Returns:
        (L+1, *grid); inf at kinks, whose turning is finite at finite width only (`relu_extrema`); nan where the circle
        has shrunk to a point.

    References:
        Poole et al. 2016, arXiv:1606.05340, eq. 10. The closed form is derived in this course.

    Example:
        >>> from labkit.theory.kernel_jets import kernel_jet
        >>> circle_curvature(kernel_jet([("tanh", 1.0, 0.0)], q0=1.0))
        tensor([1.0000, 6.3292], dtype=torch.float64)
    """
    A, K = jet.chi_tot, jet.gamma_tot
    return (3 * K + A) / (jet.q * A**2)


def second_fundamental_form(jet: KernelJet, dimension: Any) -> Tensor:
    """n |II|² = (d + d (d+2) K/A)/(q_L A) of the image of a great d-sphere, in the mean, at every depth.

    Args:
        jet: Of the layers that the sphere passes.
        dimension: d of the sphere, 1 for a circle.

    Returns:
        (L+1, *grid). The round sphere of squared radius q_L A has d/(q_L A); what exceeds that is wrinkles.

    Raises:
        ValueError: If `dimension` is not a whole number above 0.

    References:
        Derived in this course: E⟨II(u,u), II(u,u)⟩ = 3K + A, E⟨II(u,u), II(v,v)⟩ = K + A, E|II(u,v)|² = K in units of
        n q_L, for u, v orthonormal on the unit sphere. At width n the ratio measured/predicted rises by
        about 1.5 (2 + 3ι) L/n, ι the isometry defect E φ'⁴/(E φ'²)² - 1.

    Example:
        >>> from labkit.theory.kernel_jets import kernel_jet
        >>> second_fundamental_form(kernel_jet([("linear", 1.0, 0.0)], q0=1.0), 2)
        tensor([2.0000, 2.0000], dtype=torch.float64)
    """
    d = whole("dimension", dimension, "which is that of a circle")
    return (d + d * (d + 2) * jet.gamma_tot / jet.chi_tot) / (jet.q * jet.chi_tot)


def mean_curvature(jet: KernelJet, dimension: Any) -> Tensor:
    """n |tr II|² = (d² + d (d+2) K/A)/(q_L A) of the image of a great d-sphere, in the mean, at every depth.

    Args, returns, raises and source as in `second_fundamental_form`.

    Example:
        >>> from labkit.theory.kernel_jets import kernel_jet
        >>> mean_curvature(kernel_jet([("linear", 1.0, 0.0)], q0=1.0), 2)
        tensor([4.0000, 4.0000], dtype=torch.float64)
    """
    d = whole("dimension", dimension, "which is that of a circle")
    return (d**2 + d * (d + 2) * jet.gamma_tot / jet.chi_tot) / (jet.q * jet.chi_tot)


def sectional_curvature(jet: KernelJet) -> Tensor:
    """n times the sectional curvature of the image of a great sphere, 1/(q_L A): the wrinkles cancel, whatever K.

    Gauss' equation subtracts two numbers of size K, so at finite width this is the worst quantity to test; compare
    `second_fundamental_form` and `mean_curvature`.

    Args:
        jet: Of the layers that the sphere passes.

    Returns:
        (L+1, *grid).

    Example:
        >>> from labkit.theory.kernel_jets import kernel_jet
        >>> sectional_curvature(kernel_jet([("linear", 2.0, 0.0)], q0=1.0))
        tensor([1.0000, 0.2500], dtype=torch.float64)
    """
    return 1 / (jet.q * jet.chi_tot)


def zeros(jet: KernelJet) -> Tensor:
    """How often one output unit vanishes on a great circle, in the mean over networks: 2 √A, at every depth.

    Args:
        jet: Of the layers that the circle passes, the last with the bias of the unit.

    Returns:
        (L+1, *grid). A circle of *inputs* before a first affine layer with a bias is the circle before a layer
        `("linear", sigma_w, sigma_b)`: put it into the jet.

    References:
        Rice 1945; Di Lillo, Marinucci, Salvi & Vigogna 2025, arXiv:2504.06250.

    Example:
        >>> from labkit.theory.kernel_jets import kernel_jet
        >>> zeros(kernel_jet([("linear", 1.0, 1.0)], q0=1.0))
        tensor([2.0000, 1.4142], dtype=torch.float64)
    """
    return 2 * jet.chi_tot.sqrt()


def extrema(jet: KernelJet) -> Tensor:
    """How many extrema one output unit has on a great circle, in the mean over networks: 2 √((3K + A)/A).

    π times this is the total curvature of the image in the limit of infinite width (Milnor: exact at any width for
    the mean over directions of the readout).

    Args:
        jet: Of the layers that the circle passes.

    Returns:
        (L+1, *grid); inf at kinks, nan where the circle has shrunk to a point.

    References:
        Rice 1945 applied to the derivative; on spheres Di Lillo 2025, arXiv:2505.17000; Milnor 1950.

    Example:
        >>> from labkit.theory.kernel_jets import kernel_jet
        >>> extrema(kernel_jet([("sin", 1.0, 0.0)], q0=1.0))
        tensor([2.0000, 3.6248], dtype=torch.float64)
    """
    return 2 * (3 * jet.gamma_tot / jet.chi_tot + 1).sqrt()


def relu_extrema(depth: Any, width: Any) -> float:
    """Total curvature over π of the image of a great circle in a ReLU network of finite width: 2 + 2 l √(n/π).

    Kinks make γ infinite, so the count grows with the width: each of n units of each layer bends the curve where it
    vanishes, and weights of variance 2/fan-in keep the number of zeros.

    Args:
        depth: l, the number of ReLU layers W relu(h) without bias.
        width: n of every layer.

    Returns:
        The leading order for wide layers; measured 2 to 4 % lower by l = 4 at n = 200.

    Raises:
        ValueError: If `depth` or `width` is below 1.

    References:
        Derived in this course.

    Example:
        >>> round(relu_extrema(1, 200), 1)
        18.0
    """
    layers, units = whole("depth", depth, "of layers"), whole("width", width, "of units")
    return 2 + 2 * layers * math.sqrt(units / math.pi)
