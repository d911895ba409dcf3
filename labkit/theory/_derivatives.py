"""An activation with its derivatives and the places where they jump, all found by behaviour.

No list of classes: a tailored activation and a module get the same treatment as a name.
"""

import functools
import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from labkit.theory.activations import Elementwise, resolve

__all__ = ["Pieces", "derivative", "pieces"]

_FAR = 1e3  # places beyond are not searched
_JUMP = 1e-5  # relative to the derivative that jumps; softplus's switch to h at 20 jumps by 2e-9
_MOST = 32  # kinks that a quadrature rule is cut at


@dataclass(frozen=True)
class Pieces:
    """φ and its derivatives between kinks.

    Attributes:
        phi: φ itself, in float64 whatever a module's own dtype.
        first: φ', vectorised and differentiable again; at a kink one-sided, without a delta.
        second: φ'', alike.
        kinks: places where φ or one of its first three derivatives jumps, ascending.
        smooth: whether φ and φ' are continuous, so that E φ''² is finite.
    """

    phi: Elementwise
    first: Elementwise
    second: Elementwise
    kinks: tuple[float, ...]
    smooth: bool


def pieces(activation: object) -> Pieces:
    """φ, φ', φ'' and the kinks of an activation: a name, or any elementwise callable.

    Raises:
        ValueError: For an unknown name, a callable that mixes entries, or one with more than 32 kinks.
        TypeError: For what is neither a name nor a callable.

    Example:
        >>> found = pieces("hardtanh")
        >>> found.kinks, found.smooth
        ((-1.0, 1.0), False)
        >>> found.first(torch.tensor([0.5, 2.0]))
        tensor([1., 0.])
    """
    return _of_name(activation) if isinstance(activation, str) else _of_callable(resolve(activation))


@functools.lru_cache(maxsize=64)
def _of_name(name: str) -> Pieces:
    return _of_callable(resolve(name))


def _of_callable(function: Elementwise) -> Pieces:
    phi = _in_dtype_of_argument(function) if isinstance(function, nn.Module) else function
    orders = [phi]
    while len(orders) < 4 and _works(derivative(orders[-1]), orders[-1]):
        orders.append(derivative(orders[-1]))
    if len(orders) == 1:
        raise ValueError(
            "activation has no derivative that torch.func can take; write it with differentiable operations."
        )
    places = _jumps(orders)
    kinks = sorted({place for order in places for place in order})
    if len(kinks) > _MOST:
        raise ValueError(
            f"activation has {len(kinks)} kinks or steps; integrals are cut at up to {_MOST}, so pass one with fewer."
        )
    second = orders[2] if len(orders) > 2 else _no_second
    return Pieces(phi, orders[1], second, tuple(kinks), smooth=not (places[0] or places[1]))


def _works(slope: Elementwise, function: Elementwise) -> bool:
    """Whether `slope` is the derivative of `function`; operations that differentiate once only may give 0 instead."""
    u, step = torch.tensor([-1.37, -0.71, 0.32, 1.93], dtype=torch.float64), 1e-5
    difference = (function(u + step) - function(u - step)) / (2 * step)
    try:
        found = slope(u)
    except (RuntimeError, NotImplementedError):
        return False
    return bool(torch.isclose(found, difference, rtol=1e-3, atol=1e-6, equal_nan=True).any())


def _no_second(u: Tensor) -> Tensor:
    raise ValueError(
        "activation has no second derivative, as chi_2 and gamma need; use operations that are twice differentiable."
    )


def derivative(function: Elementwise) -> Elementwise:
    """The derivative of an elementwise function, differentiable again in every mode."""

    def slope(u: Tensor) -> Tensor:
        found: Tensor = torch.func.grad(lambda v: function(v).sum())(u)
        return found

    return slope


def _in_dtype_of_argument(module: nn.Module) -> Elementwise:
    """The module with its parameters lifted to the argument's dtype and device; gradients still reach them."""

    def call(u: Tensor) -> Tensor:
        state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        lifted = {name: t.to(u) if t.is_floating_point() else t.to(u.device) for name, t in state.items()}
        return cast(Tensor, torch.func.functional_call(module, lifted, (u,)))

    return call


@torch.no_grad()
def _jumps(derivatives: list[Elementwise]) -> list[list[float]]:
    """Where each of `derivatives` (of orders 0, 1, …) jumps, found by halving intervals across which it changes."""
    outer = torch.logspace(math.log10(8.05), math.log10(_FAR), 60, dtype=torch.float64)
    edges = torch.cat([-outer.flip(0), torch.linspace(-8.0123, 8.0456, 514, dtype=torch.float64), outer])
    found: list[list[float]] = [[] for _ in derivatives]
    for order, function in enumerate(derivatives):
        following = derivatives[order + 1] if order + 1 < len(derivatives) else None
        cuts = sorted({place for places in found for place in places})
        while new := _new_jumps(function, following, edges, cuts):
            found[order] += new
            cuts = sorted([*cuts, *new])
            if len(cuts) > 8 * _MOST:
                break
    return found


def _new_jumps(function: Elementwise, following: Elementwise | None, edges: Tensor, cuts: list[float]) -> list[float]:
    """One jump at most from each interval between `edges` and `cuts`; those at `cuts` are known."""
    known = torch.tensor(cuts, dtype=edges.dtype)
    gap = 1e-9 * (1 + known.abs())
    points = torch.cat([edges, known - gap, known + gap]).sort().values
    lower, upper = points[:-1], points[1:]
    across = ((lower[:, None] < known) & (known < upper[:, None])).any(1)
    lower, upper = lower[~across], upper[~across]
    for _ in range(64):
        middle = (lower + upper) / 2
        low, mid, high = function(lower), function(middle), function(upper)
        left, right = mid - low, high - mid
        if following is not None:  # what a smooth function changes by anyway
            slope = following(middle)
            left, right = (change - slope * (upper - lower) / 2 for change in (left, right))
        to_left = left.abs() > right.abs()
        lower, upper = torch.where(to_left, lower, middle), torch.where(to_left, middle, upper)
        kept = torch.maximum(left.abs(), right.abs()) > _JUMP * (1 + mid.abs())
        lower, upper = lower[kept], upper[kept]
        if not len(lower):
            return []
    return sorted({_snap(place) for place in ((lower + upper) / 2).tolist()} - set(cuts))


def _snap(place: float) -> float:
    """A round number where `place` is one up to rounding."""
    near = round(place, 6) + 0.0
    return near if abs(place - near) <= 1e-13 else place
