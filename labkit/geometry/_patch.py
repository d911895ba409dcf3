"""A patch, the surface c ↦ f(origin + basis·c) that a chain makes of a flat piece of its input space.

Paths, shots and transport ask it for images, tangent frames and second derivatives, all in float64.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from labkit._automatic import forward_mode_allowed
from labkit._kinks import is_smooth
from labkit._linalg import lift
from labkit._memory import available_bytes
from labkit._rules import linearize, to_matrix
from labkit.chain import Chain
from labkit.geometry._arguments import as_basis

__all__ = ["Patch", "check_path_memory", "check_same", "outside_inference_mode", "patch_at", "pulled"]

P = ParamSpec("P")
R = TypeVar("R")

_AT_ONCE = 2**24  # numbers of a frame that is alive at once


@dataclass(frozen=True)
class Patch:
    """The surface over k coordinates, one for every sample.

    Attributes:
        chain: maps (B, *s) to (B, *s').
        x: (B, *s), where the coordinates are zero, in the chain's dtype and on its device.
        basis: (B, n, k) orthonormal columns in float64; None for all of R^n.
    """

    chain: Chain
    x: Tensor
    basis: Tensor | None

    @property
    def k(self) -> int:
        """The number of coordinates."""
        return self.x[0].numel() if self.basis is None else self.basis.shape[-1]

    def take(self, samples: Tensor) -> "Patch":
        """The patch of some of the samples."""
        basis = None if self.basis is None else self.basis[samples]
        return replace(self, x=self.x[samples.to(self.x.device)], basis=basis)

    def points(self, c: Float[Tensor, "batch *time k"]) -> Tensor:
        """The inputs (B, *time, *s) at coordinates c, in the chain's dtype."""
        moved = c if self.basis is None else torch.einsum("bnk,b...k->b...n", self.basis, c)
        start = lift(self.x).reshape(len(c), *[1] * (c.ndim - 2), -1)
        return (start + moved).reshape(*c.shape[:-1], *self.x.shape[1:]).to(self.x)

    def coordinates(self, x: Tensor, name: str) -> Float[Tensor, "batch k"]:
        """The coordinates of inputs (B, *s); refuses inputs beside the plane by the argument's name."""
        return self.components(lift(x).flatten(1) - lift(self.x).flatten(1), x, name)

    def components(self, v: Float[Tensor, "batch n"], given: Tensor, name: str) -> Float[Tensor, "batch k"]:
        """The components of flat vectors; refuses vectors that the basis does not span."""
        if self.basis is None:
            return v
        c: Tensor = (self.basis.mT @ v[..., None])[..., 0]
        beside = (v - (self.basis @ c[..., None])[..., 0]).norm(dim=-1)
        allowed = torch.finfo(given.dtype).eps * v.shape[-1] * (v.norm(dim=-1) + lift(given.detach()).abs().max())
        if bool((beside > 64 * allowed).any()):
            worst = int((beside - allowed).argmax())
            raise ValueError(
                f"{name} leaves the plane of the basis by {float(beside[worst]):.2g} in sample {worst}; "
                "let the basis span it, or leave basis out"
            )
        return c

    def images(self, c: Float[Tensor, "batch *time k"]) -> Float[Tensor, "batch *time m"]:
        """f at coordinates c."""
        points = self.points(c).flatten(0, c.ndim - 2)
        found = torch.cat([lift(self.chain(block)).flatten(1) for block in torch.split(points, 4096)])
        return found.reshape(*c.shape[:-1], -1)

    def frames(
        self, c: Float[Tensor, "batch *time k"]
    ) -> tuple[Float[Tensor, "batch *time m"], Float[Tensor, "batch *time m k"]]:
        """f at coordinates c, and its derivative along every coordinate."""
        values, frames = [], []
        with forward_mode_allowed():
            for block, basis in self._blocks(c):
                value, push = linearize(self.chain, block)
                values.append(lift(value).flatten(1))
                frames.append(lift(to_matrix(push(basis), block)))
        images, flat = torch.cat(values).reshape(*c.shape[:-1], -1), torch.cat(frames)
        return images, flat.reshape(*c.shape[:-1], *flat.shape[1:])

    def hessian(
        self, c: Float[Tensor, "batch *time k"], w: Float[Tensor, "batch *time m"]
    ) -> Float[Tensor, "batch *time k k"]:
        """The second derivatives of ⟨w, f⟩ at coordinates c, by reverse over reverse, which torch has right."""
        found = []
        weights = torch.split(w.flatten(0, -2).to(self.x), self._block_size())
        with torch.enable_grad(), forward_mode_allowed():
            for (block, basis), weight in zip(self._blocks(c), weights, strict=True):
                block = block.requires_grad_()
                images = self.chain(block)
                slope = pulled(images, block, weight.reshape(1, *images.shape), again=True)[0]
                columns = torch.eye(self.k).to(self.x).expand(len(block), -1, -1) if basis is None else basis
                rows = columns.movedim(-1, 0).reshape(-1, *block.shape)
                turned = lift(pulled(slope, block, rows).flatten(2).movedim(0, -1))
                found.append(turned if basis is None else lift(basis).mT @ turned)
        return torch.cat(found).reshape(*c.shape, self.k)

    def pulled_acceleration(
        self, c: Float[Tensor, "batch k"], v: Float[Tensor, "batch k"], frame: Float[Tensor, "batch m k"]
    ) -> Float[Tensor, "batch k"]:
        """frameᵀ D²f(v, v) at coordinates c.

        Column by column the second derivative of t ↦ ⟨frame, f(c + tv)⟩ by reverse over reverse: forward mode nested in
        itself is silently wrong through a layer norm.
        """
        along, again = self.vectors(v), torch.is_grad_enabled()
        with torch.enable_grad(), forward_mode_allowed():
            time = torch.zeros(len(c), *[1] * (self.x.ndim - 1)).to(self.x).requires_grad_()
            images = self.chain(self.points(c) + time * along)
            rows = frame.movedim(-1, 0).to(self.x).reshape(-1, *images.shape)
            slopes = pulled(images, time, rows, again=True).flatten(1)
            each = torch.eye(len(slopes)).to(self.x)[..., None].expand(-1, -1, len(c))
            return lift(pulled(slopes, time, each, again=again).flatten(1).mT)

    def vectors(self, v: Float[Tensor, "batch *time k"]) -> Tensor:
        """The input vectors (B, *time, *s) with components v, in the chain's dtype."""
        moved = v if self.basis is None else torch.einsum("bnk,b...k->b...n", self.basis, v)
        return moved.reshape(*v.shape[:-1], *self.x.shape[1:]).to(self.x)

    def is_smooth(self, c: Float[Tensor, "batch k"]) -> bool:
        """Whether no link shows a kink around the states at c."""
        with torch.no_grad():
            states = self.chain.states(self.points(c))
            return all(is_smooth(link, h) for link, h in zip(self.chain, states, strict=False))

    def _block_size(self) -> int:
        return max(1, _AT_ONCE // (self.x[0].numel() * self.k))

    def _blocks(self, c: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Points and their bases, few enough at once."""
        points = self.points(c).flatten(0, c.ndim - 2)
        sample = torch.arange(len(c), device=c.device).repeat_interleave(c.shape[1:-1].numel())
        size = self._block_size()
        for block, own in zip(torch.split(points, size), torch.split(sample, size), strict=True):
            yield block, None if self.basis is None else self.basis[own].to(self.x)


def pulled(outputs: Tensor, inputs: Tensor, rows: Tensor, *, again: bool = False) -> Tensor:
    """Gradients (r, *inputs) of the outputs weighted by each of r rows; zero where the outputs do not depend."""
    if not outputs.requires_grad:
        return torch.zeros(len(rows), *inputs.shape).to(inputs)
    try:
        (found,) = torch.autograd.grad(
            outputs, inputs, rows, True, create_graph=again, allow_unused=True, is_grads_batched=True
        )
    except (RuntimeError, NotImplementedError):  # what vmap cannot trace, a loop can
        each = [torch.autograd.grad(outputs, inputs, row, True, again, allow_unused=True)[0] for row in rows]
        found = None if each[0] is None else torch.stack(each)
    return torch.zeros(len(rows), *inputs.shape).to(inputs) if found is None else found


def outside_inference_mode(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function differentiate inside: inference mode would silently give second derivatives of zero."""

    @functools.wraps(function)
    def outside(*args: P.args, **kwargs: P.kwargs) -> R:
        if not torch.is_inference_mode_enabled():
            return function(*args, **kwargs)
        with torch.inference_mode(False), torch.no_grad():
            ordinary: Any = [_ordinary(a) for a in args]
            named: Any = {key: _ordinary(a) for key, a in kwargs.items()}
            return function(*ordinary, **named)

    return outside


def _ordinary(argument: object) -> object:
    return argument.clone() if isinstance(argument, Tensor) and argument.is_inference() else argument


def patch_at(chain: Chain, x: Tensor, basis: Tensor | None) -> Patch:
    """The patch of a chain at x, after every check of x, of the chain's behaviour there and of the basis."""
    lin = chain.linearize(x, dense=False)
    frame = None if basis is None else as_basis(lin, basis).detach()
    return Patch(chain, x.detach(), frame)


def check_same(x: Tensor, other: object, name: str, expected: torch.Size | None = None) -> None:
    """Refuse an argument of another kind, dtype or shape than that of x, or not finite."""
    expected = x.shape if expected is None else expected
    if not isinstance(other, Tensor) or other.dtype != x.dtype:
        came = str(other.dtype) if isinstance(other, Tensor) else type(other).__name__
        raise TypeError(f"{name} is {came}; a tensor of {x.dtype}, like the points of the chain, would do")
    if other.shape != expected:
        raise ValueError(f"{name} has shape {tuple(other.shape)}; {tuple(expected)} would do")
    if not other.isfinite().all():
        bad = int((~other.isfinite()).reshape(len(other), -1).any(1).nonzero()[0])
        raise ValueError(f"{name} holds NaN or Inf in sample {bad}; remove or repair this sample")


def check_path_memory(patch: Patch, points: int, images: int) -> None:
    """Refuse paths whose frames and blocks would not fit, with the figure and the way out."""
    need = 8 * len(patch.x) * points * patch.k * (3 * images + 5 * patch.k)
    free = available_bytes(patch.x.device) if need > 2**26 else need
    if need > free:
        raise MemoryError(
            f"frames of {len(patch.x)} paths of {points} points in {patch.k} coordinates need {need / 1e9:.3g} GB, "
            f"{free / 1e9:.3g} GB are free; pass a basis of fewer directions, fewer points, or fewer samples"
        )
