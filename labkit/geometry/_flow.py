"""The geodesic flow on a patch, a differential equation solved to a tolerance, every sample with its own steps.

The method is DOP853, the eighth-order pair of Dormand and Prince with its interpolant of order seven.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from scipy.integrate import DOP853
from torch import Tensor
from tqdm import tqdm

from labkit.geometry._patch import Patch

__all__ = ["Flow", "Step", "acceleration", "flow", "retrace"]

Slope = Callable[[Tensor], Tensor]  # of states (b, 2k)


@dataclass(frozen=True)
class Step:
    """A step that some samples took at the same time, each of its own size.

    Attributes:
        samples: (b,), which they are.
        size: (b,).
        moments: (b, T), where the moments of the path lie, as fractions of the step.
        stages: the states (b, 2k) where the flow was asked for its slope, in order; more where the path was read.
    """

    samples: Tensor
    size: Tensor
    moments: Tensor
    stages: list[Tensor]

    def take(self, place: Tensor) -> "Step":
        """The step of the samples that have a new place, which is −1 for the others."""
        kept = place[self.samples] >= 0
        samples, stages = place[self.samples[kept]], [stage[kept] for stage in self.stages]
        return Step(samples, self.size[kept], self.moments[kept], stages)


@dataclass(frozen=True)
class Flow:
    """Coordinates and velocities (B, T, k) at equal moments of [0, 1], which samples arrived (B,), and the steps."""

    path: Float[Tensor, "batch time k"]
    velocity: Float[Tensor, "batch time k"]
    arrived: Bool[Tensor, "batch"]
    steps: list[Step]

    def take(self, samples: Tensor) -> "Flow":
        """The flow of some of the samples."""
        place = torch.full((len(self.path),), -1, device=samples.device)
        place[samples] = torch.arange(len(samples), device=samples.device)
        steps = [step.take(place) for step in self.steps]
        return Flow(self.path[samples], self.velocity[samples], self.arrived[samples], steps)


@torch.no_grad()
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
    time, size = torch.zeros(len(c)).to(c), torch.full((len(c),), 1 / 16).to(c)
    slope = _slope(patch, state)
    allowed = torch.as_tensor(tolerance).to(c).expand(len(c))
    active, steps = slope.isfinite().all(-1).nonzero()[:, 0], []
    for _ in tqdm(range(max_steps), desc="shooting", delay=2.0, leave=False, disable=not progress):
        if not len(active):
            break
        start, h = state[active], torch.minimum(size[active], 1 - time[active])
        stages, slopes = _step(partial(_slope, patch.take(active)), start, slope[active], h)
        scale = torch.maximum(start[:, k:].norm(dim=-1), stages[-1][:, k:].norm(dim=-1)) * allowed[active]
        error = torch.where(scale > 0, _error(slopes, h) / scale, 0.0).nan_to_num(nan=torch.inf)
        taken = (error <= 1) & slopes[-1].isfinite().all(-1)
        moved = active[taken]
        moments = (times - time[moved, None]) / h[taken, None]
        step = Step(moved, h[taken], moments, [stage[taken] for stage in stages])
        _read(path, step, partial(_slope, patch.take(moved)), start[taken], [s[taken] for s in slopes], step.stages)
        steps.append(step)
        state[moved], slope[moved] = step.stages[len(stages) - 1], slopes[-1][taken]
        arrives = taken & (h >= 1 - time[active])
        time[moved] += h[taken]
        time[active[arrives]] = 1.0
        size[active] = h * (0.9 * error.clamp(min=1e-12) ** -0.125).clamp(0.2, 5.0)
        active = active[~arrives & (size[active] * max_steps > 1e-3)]  # the rest cannot arrive in time
    return Flow(path[..., :k], path[..., k:], time == 1, steps)


def retrace(
    steps: list[Step], slope_of: Slope, state: Float[Tensor, "batch state"], points: int
) -> Float[Tensor, "batch time state"]:
    """Take the same steps from another state; slopes are asked for at the start and at the stages, in their order."""
    slope = slope_of(state)
    path = state[:, None].repeat(1, points, 1)
    for step in steps:
        start = state[step.samples]
        stages, slopes = _step(slope_of, start, slope[step.samples], step.size)
        _read(path, step, slope_of, start, slopes, stages)
        state = state.index_put((step.samples,), stages[_LAST])
        slope = slope.index_put((step.samples,), slopes[-1])
    return path


def acceleration(patch: Patch, state: Float[Tensor, "batch state"]) -> Float[Tensor, "batch k"]:
    """−g⁻¹ Jᵀ D²f(v, v) at states (x, v), not finite where the metric has no inverse."""
    c, v = state.chunk(2, -1)
    frame = patch.frames(c)[1]
    root, failed = torch.linalg.cholesky_ex(frame.mT @ frame)
    found = -torch.cholesky_solve(patch.pulled_acceleration(c, v, frame)[..., None], root)[..., 0]
    return torch.where(failed[:, None] == 0, found, torch.nan)


def _slope(patch: Patch, state: Tensor) -> Tensor:
    return torch.cat([state.chunk(2, -1)[1], acceleration(patch, state)], -1)


_LAST = len(DOP853.A) - 1  # of the stages of a step, the one at its end


def _step(slope: Slope, start: Tensor, first: Tensor, h: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The states at the stages after the first, the last of them at the end, and the slopes at all stages."""
    stages: list[Tensor] = []
    slopes = [first]
    for row in [*DOP853.A[1:], DOP853.B]:
        stages.append(_stage(start, slopes, row, h))
        slopes.append(slope(stages[-1]))
    return stages, slopes


def _stage(start: Tensor, slopes: list[Tensor], weights: object, h: Tensor) -> Tensor:
    """The state that a row of the tableau leads to."""
    row = torch.as_tensor(weights).to(start)[: len(slopes)]
    return start + h[:, None] * torch.einsum("i,ibk->bk", row, torch.stack(slopes))


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


def _read(path: Tensor, step: Step, slope: Slope, start: Tensor, slopes: list[Tensor], stages: list[Tensor]) -> None:
    """Write what a step passes into the path; stages that only this needs are appended to `stages`."""
    end = stages[_LAST]
    ahead, passed = step.moments > 0, (step.moments > 0) & (step.moments < 1)
    rows = torch.where(ahead[..., None], end[:, None], path[step.samples])
    if bool(passed.any()):
        slopes = list(slopes)
        for row in DOP853.A_EXTRA:
            stages.append(_stage(start, slopes, row, step.size))
            slopes.append(slope(stages[-1]))
        between = _interpolant(start, end, slopes, step.size, step.moments.clamp(0, 1))
        rows = torch.where(passed[..., None], between, rows)
    path[step.samples] = rows


def _interpolant(
    start: Tensor, end: Tensor, slopes: list[Tensor], h: Tensor, s: Float[Tensor, "batch time"]
) -> Float[Tensor, "batch time state"]:
    """The state at the fractions s of a step, from the slopes at all of its stages."""
    change, h = end - start, h[:, None]
    corrections = torch.einsum("ji,ibk->jbk", torch.from_numpy(DOP853.D).to(start), torch.stack(slopes))
    after = slopes[len(DOP853.A)]
    parts = [change, h * slopes[0] - change, 2 * change - h * (after + slopes[0]), *(h * corrections)]
    value, s = torch.zeros_like(s)[..., None], s[..., None]
    for i, part in enumerate(reversed(parts)):
        value = (value + part[:, None]) * (1 - s if i % 2 else s)
    return start[:, None] + value
