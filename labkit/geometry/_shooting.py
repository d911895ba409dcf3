"""The exponential map: where a geodesic of the pullback metric goes that starts with a given velocity.

It is ẍ = −g⁻¹ Jᵀ D²f(ẋ, ẋ), so that only second derivatives along one direction are needed, no Christoffel symbols.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from labkit._linalg import lift
from labkit.chain import Chain
from labkit.geometry._flow import flow
from labkit.geometry._frames import tangent_frame
from labkit.geometry._implicit import WIDEST, FirstOrderFlow, attach, wants_graph
from labkit.geometry._patch import check_same, outside_inference_mode, patch_at

__all__ = ["Shot", "shoot", "tolerance_of"]


@dataclass(frozen=True)
class Shot:
    """Geodesics that start with given velocities.

    Attributes:
        path: (B, T, *s), at T equal moments of [0, time]; the last is the exponential of time · v.
        velocity: (B, T, *s), dx/dt at the same moments.
        converged: (B,), whether all of the time passed at constant speed; where it did not, as at a kink, at the border
            of the domain or where the metric loses rank, the path is not to be trusted and stays where it got stuck.

    Example:
        >>> polar = Chain([lambda x: x[:, :1] * torch.cat([x[:, 1:].cos(), x[:, 1:].sin()], 1)])
        >>> shot = shoot(polar, torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), points=2)
        >>> shot.path[0, -1]  # straight ahead, so √2 away at 45°
        tensor([1.4142, 0.7854])
    """

    path: Float[Tensor, "batch time *s"]
    velocity: Float[Tensor, "batch time *s"]
    converged: Bool[Tensor, "batch"]


def tolerance_of(x: Tensor) -> float:
    """The error of a step, relative to the way of a unit of time, that the dtype of x allows."""
    return 1e-9 if x.dtype == torch.float64 else 20 * torch.finfo(x.dtype).eps


@outside_inference_mode
def shoot(
    chain: Chain,
    x: Tensor,
    v: Tensor,
    time: float = 1.0,
    *,
    points: int = 64,
    basis: Tensor | None = None,
    tolerance: float | None = None,
    max_steps: int = 1000,
    progress: bool = True,
) -> Shot:
    """Follow the geodesics that start at x with velocity v; steps adapt to each sample by itself.

    Args:
        chain: maps (B, *s) to (B, *s'), smooth and with a metric of full rank along the way.
        x: (B, *s), floating.
        v: (B, *s), tangent vectors at x in input coordinates.
        time: how long; negative goes backwards.
        points: T ≥ 2, moments at which the path is given.
        basis: orthonormal columns (B, n, k) or (n, k) of the plane that the path is kept in; all inputs by default.
        tolerance: the error of a step relative to the whole way; 1e-9 in float64, 2.4e-6 in float32 by default.
        max_steps: steps tried at most.
        progress: whether a bar shows after two seconds.

    Returns:
        The shots, in the dtype of x, with first derivatives in x, v and the weights that are right to the tolerance.
        `backward` refuses samples that did not converge, and more than 16 coordinates, where it would cost too much;
        under `torch.no_grad()` no graph is kept, which costs less.

    Raises:
        ValueError: at a kink, where the metric at x has no inverse, or for arguments that do not fit.
        TypeError: if v is of another dtype than x.
        MemoryError: if the derivatives would not fit, with the figure.

    Example:
        >>> def sphere(x):
        ...     latitude, longitude = x.unbind(1)
        ...     circle = torch.stack([longitude.cos(), longitude.sin()], 1)
        ...     return torch.cat([latitude.cos()[:, None] * circle, latitude.sin()[:, None]], 1)
        >>> shot = shoot(Chain([sphere]), torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]), points=3)
        >>> shot.path[0, -1], shot.converged
        (tensor([0., 1.]), tensor([True]))
    """
    patch = patch_at(chain, x, basis)
    check_same(x, v, "v")
    if not math.isfinite(time) or time == 0:
        raise ValueError(f"time is {time}; a number other than 0 would do")
    if points < 2 or max_steps < 1:
        raise ValueError(f"points is {points} and max_steps {max_steps}; at least 2 and 1 would do")
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance is {tolerance}; a positive number such as 1e-9 would do")
    speed = time * patch.components(lift(v).flatten(1), v, "v")
    start = torch.zeros_like(speed)
    with torch.no_grad():
        tangent_frame(patch.frames(start)[1].to(x.dtype))  # for its checks
    if not patch.is_smooth(start):
        raise ValueError(
            "chain has a kink near x, where no acceleration is defined; join points by geodesic(), whose polygons need "
            "none, or use smooth activations"
        )
    tolerance = tolerance_of(x) if tolerance is None else tolerance
    found = flow(patch, start, speed.detach(), points, tolerance, max_steps, progress)
    with torch.no_grad():
        pace = (patch.frames(found.path)[1] @ found.velocity[..., None])[..., 0].norm(dim=-1)
    converged = found.arrived & ((pace - pace[:, :1]).abs().amax(1) <= 1e4 * tolerance * pace[:, 0])
    states = torch.cat([found.path, found.velocity], -1)
    if wants_graph(chain, x, v):
        patch, sound, twin = replace(patch, x=x), converged & (patch.k <= WIDEST), states
        ready = sound.nonzero()[:, 0]
        if len(ready):
            near = FirstOrderFlow.around(patch.take(ready), found.take(ready))
            twin = states.index_put((ready,), near(start[ready], speed[ready]))
        why = "its shot did not converge; select by `converged`"
        wide = f"shots in {patch.k} coordinates have none; pass a basis of at most {WIDEST} directions"
        states = attach(states, twin, sound, why if patch.k <= WIDEST else wide)
    path, velocity = states.chunk(2, -1)
    return Shot(patch.points(path), patch.vectors(velocity / time), converged.to(x.device))
