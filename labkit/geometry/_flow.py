"""The geodesic flow on a patch, a differential equation solved to a tolerance, every sample with its own steps.

The method is DOP853, the eighth-order pair of Dormand and Prince with its interpolant of order seven.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from scipy.integrate import DOP853
from torch import Tensor
from tqdm import tqdm

from labkit.geometry._patch import Patch

__all__ = ["Flow", "flow"]


@dataclass(frozen=True)
class Flow:
    """Coordinates and velocities (B, T, k) at equal moments of [0, 1], and whether each sample arrived (B,)."""

    path: Float[Tensor, "batch time k"]
    velocity: Float[Tensor, "batch time k"]
    arrived: Bool[Tensor, "batch"]


def flow(
    patch: Patch,
    c: Float[Tensor, "batch k"],
    v: Float[Tensor, "batch k"],
    points: int,
    tolerance: float | Tensor,
    max_steps: int,
    progress: bool = False,
) -> Flow:
    """Follow geodesics from c with velocity v for a unit of time; a sample that gets stuck stays where it is."""
    k = patch.k
    times = torch.linspace(0, 1, points).to(c)
    state = torch.cat([c, v], -1)
    path = state[:, None].repeat(1, points, 1)
    time, step = torch.zeros(len(c)).to(c), torch.full((len(c),), 1 / 16).to(c)
    slope = _derivative(patch, state)
    allowed = torch.as_tensor(tolerance).to(c).expand(len(c))
    active = slope.isfinite().all(-1).nonzero()[:, 0]
    for _ in tqdm(range(max_steps), desc="shooting", delay=2.0, leave=False, disable=not progress):
        if not len(active):
            break
        part, start, first = patch.take(active), state[active], slope[active]
        h = torch.minimum(step[active], 1 - time[active])
        slopes, end = _step(part, start, first, h)
        scale = torch.maximum(start[:, k:].norm(dim=-1), end[:, k:].norm(dim=-1)) * allowed[active]
        error = torch.where(scale > 0, _error(slopes, h) / scale, 0.0).nan_to_num(nan=torch.inf)
        taken = (error <= 1) & slopes[-1].isfinite().all(-1)
        inside = taken[:, None] & (times > time[active, None])
        between = (times - time[active, None]) / h[:, None]
        if bool((inside & (between < 1)).any()):
            path[active] = torch.where(
                inside[..., None], _interpolant(part, start, end, slopes, h, between.clamp(0, 1)), path[active]
            )
        path[active] = torch.where((inside & (between >= 1))[..., None], end[:, None], path[active])
        moved = active[taken]
        state[moved], slope[moved] = end[taken], slopes[-1][taken]
        arrives = taken & (h >= 1 - time[active])
        time[moved] += h[taken]
        time[active[arrives]] = 1.0
        step[active] = h * (0.9 * error.clamp(min=1e-12) ** -0.125).clamp(0.2, 5.0)
        active = active[~arrives & (step[active] * max_steps > 1e-3)]  # the rest cannot arrive in time
    return Flow(path[..., :k], path[..., k:], time == 1)


def _derivative(patch: Patch, state: Tensor) -> Tensor:
    """(x, v) ↦ (v, −g⁻¹ Jᵀ D²f(v, v)), not finite where the metric has no inverse."""
    c, v = state.chunk(2, -1)
    frame = patch.frames(c)[1]
    root, failed = torch.linalg.cholesky_ex(frame.mT @ frame)
    pulled = patch.pulled_acceleration(c, v, frame)
    acceleration = -torch.cholesky_solve(pulled[..., None], root)[..., 0]
    return torch.cat([v, torch.where(failed[:, None] == 0, acceleration, torch.nan)], -1)


def _stage(patch: Patch, start: Tensor, slopes: list[Tensor], weights: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """The state that a row of the tableau leads to, and the derivative there."""
    moved = torch.einsum("i,ibk->bk", weights[: len(slopes)], torch.stack(slopes))
    end = start + h[:, None] * moved
    return end, _derivative(patch, end)


def _step(patch: Patch, start: Tensor, first: Tensor, h: Tensor) -> tuple[list[Tensor], Tensor]:
    """The derivatives at all stages, the last of them at the end, and the state there."""
    slopes, end = [first], start
    for row in [*DOP853.A[1:], DOP853.B]:
        end, slope = _stage(patch, start, slopes, torch.from_numpy(row).to(start), h)
        slopes.append(slope)
    return slopes, end


def _error(slopes: list[Tensor], h: Tensor) -> Float[Tensor, "batch"]:
    """The error of a step in position or velocity, the larger: Hairer's mixture of those seen by orders 5 and 3."""
    stacked = torch.stack(slopes)
    fifth, third = (
        torch.einsum("i,ibk->bk", torch.from_numpy(weights).to(stacked), stacked).reshape(len(h), 2, -1).norm(dim=-1)
        for weights in (DOP853.E5, DOP853.E3)
    )
    mixed = fifth**2 / (fifth**2 + 0.01 * third**2).sqrt().clamp(min=torch.finfo(h.dtype).tiny)
    error: Tensor = h * mixed.amax(-1)
    return error


def _interpolant(
    patch: Patch, start: Tensor, end: Tensor, slopes: list[Tensor], h: Tensor, s: Float[Tensor, "batch time"]
) -> Float[Tensor, "batch time state"]:
    """The state at the fractions s of a step, at the price of three more derivatives."""
    stages = list(slopes)
    for row in DOP853.A_EXTRA:
        stages.append(_stage(patch, start, stages, torch.from_numpy(row).to(start), h)[1])
    change, h = end - start, h[:, None]
    corrections = torch.einsum("ji,ibk->jbk", torch.from_numpy(DOP853.D).to(start), torch.stack(stages))
    parts = [change, h * slopes[0] - change, 2 * change - h * (slopes[-1] + slopes[0]), *(h * corrections)]
    value, s = torch.zeros_like(s)[..., None], s[..., None]
    for i, part in enumerate(reversed(parts)):
        value = (value + part[:, None]) * (1 - s if i % 2 else s)
    return start[:, None] + value
