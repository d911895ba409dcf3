"""How strongly a random network bends a straight line through an input: second against first derivative.

On a line |h|² grows along with the angle, so the map of lengths V(q) enters beside the correlation map.
"""

from typing import Any

import torch
from torch import Tensor

from labkit.theory._gaussian import expectation
from labkit.theory._kernel_layers import KernelLayer, as_layers, mean_of

__all__ = ["relative_bend"]


def relative_bend(layers: Any, q0: Any) -> Tensor:
    """|x|² E|D²f(u,u)|²/E|Df u|² for u ⊥ x of unit length, at every depth: Taylor's radius is |x| over its root.

    At a fixed point with χ = 1 it is 3γL + δ Σ_{l<L} v^l (v^l - 1), v = V'(q*) and δ = E φ̂'² (z² - 1) of the layer in
    units of q*: √(3γL) once that is large and v < 1; it diverges where v > 1.

    Args:
        layers: As in `kernel_jets.kernel_jet`.
        q0: |x|²/n, above 0.

    Returns:
        (L+1, *grid), float64; 0 at depth 0, inf behind a kink, nan where C is not defined.

    Raises:
        ValueError: As `kernel_jets.kernel_jet`, and for q0 = 0.

    References:
        Derived in this course, by the fourth derivative of the kernel along the line.

    Example:
        >>> relative_bend([("tanh", 1.0, 0.0)] * 2, q0=1.0).shape
        torch.Size([3])
    """
    sequence, q = as_layers(layers, q0=q0)
    if bool((q == 0).any()):
        raise ValueError("q0 must be above 0: a line through the origin has no direction across it")
    # kernel k(s, t) of the points x + su, x + tu with |u| = |x|, q(t) = k(t, t): derivatives at 0
    q_tt, k_tt, k_st, k_sstt = 2 * q, torch.zeros_like(q), q, torch.zeros_like(q)
    path = [torch.zeros_like(q)]
    for layer in sequence:
        q, q_tt, k_tt, k_st, k_sstt = _through(layer, q, q_tt, k_tt, k_st, k_sstt)
        path.append(torch.where(q.isfinite() & (k_st > 0), k_sstt / k_st, torch.nan))
    return torch.stack(path)


def _through(
    layer: KernelLayer, q: Tensor, q_tt: Tensor, k_tt: Tensor, k_st: Tensor, k_sstt: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The length and the derivatives of the kernel after the layer, by Price's theorem."""
    act = layer.act

    def average(function: Any) -> Tensor:
        return expectation(function, q, act.kinks)

    slope = mean_of(lambda h: act.first(h) ** 2, act, q)
    value_bend = average(lambda h: h * act.phi(h) * act.first(h)) / q - slope  # E φφ'', after Stein
    if act.smooth:
        bend = mean_of(lambda h: act.second(h) ** 2, act, q)
        slope_twist = average(lambda h: h * act.first(h) * act.second(h)) / q - bend  # E φ'φ''', alike
        fourth = slope * k_sstt + bend * (2 * k_st**2 + k_tt**2 + q_tt**2 / 4) + slope_twist * k_tt * q_tt
    else:
        fourth = torch.full_like(q, torch.inf)

    def leave(entering: Tensor, change: Tensor) -> Tensor:
        branch = layer.weight * change
        return branch if layer.alpha2 is None else entering + layer.alpha2 * branch

    return (
        layer.length(q),
        leave(q_tt, (slope + value_bend) * q_tt),
        leave(k_tt, slope * k_tt + value_bend * q_tt / 2),
        leave(k_st, slope * k_st),
        leave(k_sstt, fourth),
    )
