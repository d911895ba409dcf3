"""First derivatives of curves that were found without a graph: shots, and the paths that join given points.

Around a shot its flow is affine in the state at every stage, and all stages are linearized at once; around a polygon at
rest one Newton step whose slope keeps its graph is the implicit function theorem.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from labkit._memory import available_bytes
from labkit.chain import Chain
from labkit.geometry._flow import Flow, acceleration, retrace
from labkit.geometry._patch import Patch, pulled
from labkit.geometry._relaxation import Factor

__all__ = ["WIDEST", "FirstOrderFlow", "attach", "newton_step", "wants_graph"]

WIDEST = 16  # coordinates in which shots are differentiated: the cost grows with their cube
_AT_ONCE = 2**25  # numbers of the frames' graph that are pulled back at once


def wants_graph(chain: Chain, *given: Tensor) -> bool:
    """Whether a result of the chain at these tensors, the first of them inputs, is to be differentiated."""
    return torch.is_grad_enabled() and (any(t.requires_grad for t in given) or bool(chain(given[0]).requires_grad))


def attach(value: Tensor, twin: Tensor, sound: Bool[Tensor, "batch"], why: str) -> Tensor:
    """The value with the first derivative of its twin; `backward` refuses samples that are not sound, saying why."""
    twin = twin if twin.requires_grad else twin.clone().requires_grad_()  # else nobody would ask, nor be refused
    attached: Tensor = _Attach.apply(value, twin, sound, why)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return attached


class _Attach(torch.autograd.Function):
    """The identity on the value, whose gradient goes to the twin instead."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, twin: Tensor, sound: Tensor, why: str) -> Tensor:
        ctx.save_for_backward(sound)
        ctx.why = why
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None, None]:
        if torch.is_grad_enabled():
            raise RuntimeError("create_graph asks for second derivatives of geodesics, which have first ones only")
        (sound,) = ctx.saved_tensors
        asked = (grads[0] != 0).flatten(1).any(1)
        if (asked & ~sound).any():
            raise RuntimeError(f"sample {int((asked & ~sound).nonzero()[0])} has no derivative: {ctx.why}")
        return None, grads[0], None, None


def newton_step(
    factor: Factor, path: Float[Tensor, "batch time k"], energy: Callable[[Tensor], Tensor]
) -> Float[Tensor, "batch time k"]:
    """The path one Newton step on: itself up to rounding at rest, with the derivatives of the path at rest.

    Args:
        factor: of half the Hessian of Σ|y_{t+1} − y_t|² in the inner points.
        path: coordinates at rest, whose ends keep their graph.
        energy: that sum times T − 1 (B,), of coordinates like the path.
    """
    inner = path[:, 1:-1].detach().requires_grad_()
    whole = torch.cat([path[:, :1], inner, path[:, -1:]], 1)
    (slope,) = torch.autograd.grad(energy(whole).sum() / (2 * path.shape[1] - 2), inner, create_graph=True)
    return torch.cat([path[:, :1], inner.detach() - factor.solve(slope), path[:, -1:]], 1)


@dataclass(frozen=True)
class FirstOrderFlow:
    """The flow around one that arrived everywhere: the same steps, with slopes that are affine in the state.

    Attributes:
        found: the flow.
        states: (N, 2k), where it was asked for slopes: at the start, then stage after stage of every step.
        accelerations: (N, k) there, with their graph.
        turns: (N, k, 2k), the derivatives of the accelerations there.
    """

    found: Flow
    states: Tensor
    accelerations: Tensor
    turns: Tensor

    @classmethod
    def around(cls, patch: Patch, found: Flow) -> "FirstOrderFlow":
        """The flow around `found`, which passed on this patch, whose x keeps its graph.

        Raises:
            MemoryError: if the derivatives at all stages would not fit, with the figure and the way out.
        """
        start = torch.cat([found.path[:, 0], found.velocity[:, 0]], -1)
        everyone = torch.arange(len(start), device=start.device)
        samples = torch.cat([everyone, *[step.samples for step in found.steps for _ in step.stages]])
        states = torch.cat([start, *[stage for step in found.steps for stage in step.stages]]).requires_grad_()
        at_once = max(1, _AT_ONCE // _check_memory(patch, len(states)))
        slopes = acceleration(patch.take(samples), states)
        each = torch.eye(patch.k).to(slopes)[:, None].expand(-1, len(states), -1)
        with torch.no_grad():
            turns = torch.cat([pulled(slopes, states, rows) for rows in torch.split(each, at_once)])
        return cls(found, states.detach(), slopes, turns.movedim(0, 1))

    def __call__(self, c: Float[Tensor, "batch k"], v: Float[Tensor, "batch k"]) -> Float[Tensor, "batch time 2*k"]:
        """Positions and velocities at the moments of the path, from a start near that of `found`."""
        steps, sizes = self.found.steps, [len(c)]
        sizes += [len(step.samples) for step in steps for _ in step.stages]
        ends = list(accumulate(sizes))
        pieces = iter([slice(end - size, end) for end, size in zip(ends, sizes, strict=True)])
        return retrace(steps, partial(self._slope, pieces), torch.cat([c, v], -1), self.found.path.shape[1])

    def aim(self, c: Float[Tensor, "batch k"], end: Float[Tensor, "batch k"]) -> Float[Tensor, "batch k"]:
        """The velocity that leads from c to the end, near that of `found`: one Newton step on, exact to first order."""
        k = c.shape[-1]
        v = self.found.velocity[:, 0].detach().requires_grad_()
        reached = self(c, v)[:, -1, :k]
        each = torch.eye(k).to(c)[:, None].expand(-1, len(c), -1)
        with torch.no_grad():
            inverse = torch.linalg.inv(pulled(reached, v, each).movedim(0, 1))
        aimed: Tensor = v.detach() + (inverse @ (end - reached)[..., None])[..., 0]
        return aimed

    def _slope(self, pieces: Iterator[slice], state: Tensor) -> Tensor:
        here = next(pieces)
        turned = (self.turns[here] @ (state - self.states[here])[..., None])[..., 0]
        return torch.cat([state.chunk(2, -1)[1], self.accelerations[here] + turned], -1)


def _check_memory(patch: Patch, states: int) -> int:
    """Refuse derivatives at so many states that would not fit; else how many numbers the frames there have."""
    with torch.no_grad():
        widths = [h[0].numel() for h in patch.chain.states(patch.x[:1])]
    frames = states * patch.k * sum(widths)
    need = 8 * (8 * frames + 4 * states * patch.k**2)
    free = available_bytes(patch.x.device) if need > 2**26 else need
    if need > free:
        raise MemoryError(
            f"derivatives of these geodesics, at {states} stages in {patch.k} coordinates, need {need / 1e9:.3g} GB, "
            f"{free / 1e9:.3g} GB are free; call this under torch.no_grad(), or pass a basis of fewer directions"
        )
    return frames
