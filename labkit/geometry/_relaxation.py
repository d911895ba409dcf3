"""Paths of least energy between fixed ends, as polygons of images: Newton's method, damped, every sample by itself.

What is minimised is Σ|f(x_{t+1}) − f(x_t)|², defined for smooth and for kinked networks alike.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from labkit.geometry._patch import Patch

__all__ = ["Factor", "polygon_energy", "relax", "second_variation"]

_FIRST_DAMPING, _LAST_DAMPING, _ROUNDS = 1e-3, 1e9, 5


@dataclass(frozen=True)
class Factor:
    """The Cholesky factor of a symmetric block tridiagonal matrix.

    Attributes:
        lower: N factors (B, k, k) on the diagonal.
        beside: N − 1 blocks (B, k, k), the transposes of those below the diagonal.
        definite: (B,), whether the matrix was positive definite; a solution is meaningless elsewhere.
    """

    lower: list[Tensor]
    beside: list[Tensor]
    definite: Bool[Tensor, "batch"]

    @classmethod
    def of(cls, diagonal: Float[Tensor, "batch n k k"], above: Float[Tensor, "batch m k k"]) -> "Factor":
        """Factor the matrix with these blocks on its diagonal and above it."""
        lower: list[Tensor] = []
        beside: list[Tensor] = []
        definite = torch.ones(len(diagonal), dtype=torch.bool, device=diagonal.device)
        for i, block in enumerate(diagonal.unbind(1)):
            if i:
                beside.append(torch.linalg.solve_triangular(lower[-1], above[:, i - 1], upper=False))
                block = block - beside[-1].mT @ beside[-1]
            root, failed = torch.linalg.cholesky_ex(block)
            definite = definite & (failed == 0)
            lower.append(root)
        return cls(lower, beside, definite)

    def solve(self, rhs: Float[Tensor, "batch n k"]) -> Float[Tensor, "batch n k"]:
        """The solution of matrix · x = rhs."""
        columns: list[Tensor] = []
        for i, column in enumerate(rhs[..., None].unbind(1)):
            if i:
                column = column - self.beside[i - 1].mT @ columns[-1]
            columns.append(torch.linalg.solve_triangular(self.lower[i], column, upper=False))
        for i in reversed(range(len(columns))):
            if i + 1 < len(columns):
                columns[i] = columns[i] - self.beside[i] @ columns[i + 1]
            columns[i] = torch.linalg.solve_triangular(self.lower[i].mT, columns[i], upper=True)
        return torch.stack(columns, 1)[..., 0]


@dataclass(frozen=True)
class Model:
    """The energy of a path to second order in its inner points: half its gradient and the blocks of half its Hessian.

    Attributes:
        slope: (B, N, k).
        diagonal: (B, N, k, k).
        above: (B, N − 1, k, k).
        size: (B,), the mean square stretch of the frames, which gives the damping its scale.
    """

    slope: Tensor
    diagonal: Tensor
    above: Tensor
    size: Tensor

    def damped(self, damping: Tensor) -> Factor:
        """The factor once the same energy of the flat coordinates is added, `damping` times the frames' size."""
        extra = (damping * self.size)[:, None, None, None] * torch.eye(self.slope.shape[-1]).to(self.slope)
        return Factor.of(self.diagonal + 2 * extra, self.above - extra)

    def take(self, samples: Tensor) -> "Model":
        """The model of some of the samples."""
        return Model(self.slope[samples], self.diagonal[samples], self.above[samples], self.size[samples])


def polygon_energy(images: Float[Tensor, "batch time m"]) -> Float[Tensor, "batch"]:
    """Σ|y_{t+1} − y_t|² · (T − 1), which tends to ∫|y'|² over a unit of time."""
    return images.diff(dim=1).square().sum((1, 2)) * (images.shape[1] - 1)


@torch.no_grad()
def second_variation(patch: Patch, path: Float[Tensor, "batch time k"]) -> Model:
    """The energy of paths to second order, with the second derivatives of the chain."""
    images, frames = patch.frames(path)
    pull = 2 * images[:, 1:-1] - images[:, :-2] - images[:, 2:]
    inner = frames[:, 1:-1]
    metric = inner.mT @ inner
    return Model(
        slope=(inner.mT @ pull[..., None])[..., 0],
        diagonal=2 * metric + patch.hessian(path[:, 1:-1], pull),
        above=-inner[:, :-1].mT @ inner[:, 1:],
        size=metric.diagonal(dim1=-2, dim2=-1).mean((1, 2)),
    )


@torch.no_grad()
def relax(
    patch: Patch, path: Float[Tensor, "batch time k"], max_iterations: int, progress: bool
) -> tuple[Float[Tensor, "batch time k"], Bool[Tensor, "batch"]]:
    """Lower the energy of paths with fixed ends until it rests; where points bunched up, spread them and go on.

    Args:
        patch: the surface.
        path: where to start from.
        max_iterations: steps tried at most before points are spread.
        progress: whether a bar shows after two seconds.

    Returns:
        The paths, never of more energy than at the start, and whether each of them came to rest.
    """
    path, resting = path.clone(), torch.zeros(len(path), dtype=torch.bool, device=path.device)
    active = torch.arange(len(path), device=path.device)
    with tqdm(total=_ROUNDS * max_iterations, desc="geodesics", delay=2.0, leave=False, disable=not progress) as bar:
        for _ in range(_ROUNDS):
            part = patch.take(active)
            path[active], resting[active] = _descend(part, path[active], max_iterations, bar)
            spread = _spread(path[active], part.images(path[active]))
            energy = polygon_energy(part.images(path[active]))
            bunched = polygon_energy(part.images(spread)) < (1 - 1e-3) * energy
            active = active[bunched]
            if not len(active):
                break
            path[active], resting[active] = spread[bunched], False
    return path, resting


def _descend(patch: Patch, path: Tensor, max_iterations: int, bar: "tqdm[Any]") -> tuple[Tensor, Tensor]:
    """Newton steps, each damped until it lowers the energy; a sample leaves when it rests or no step helps."""
    path, images = path.clone(), patch.images(path)
    energy = polygon_energy(images)
    resting = energy == 0
    inner = torch.arange(1, path.shape[1] - 1, device=path.device)
    # what rounding of the images in the chain's own dtype does to the energy
    noise = 8 * torch.finfo(patch.x.dtype).eps * images.abs().amax((1, 2)) * (energy * path.shape[1]).sqrt()
    tolerance = 1e-12 if patch.x.dtype == torch.float64 else 1e-8
    damping = torch.full_like(energy, _FIRST_DAMPING)
    active = (energy.isfinite() & ~resting).nonzero()[:, 0]
    model: Model | None = None
    for _ in range(max_iterations):
        if not len(active):
            break
        bar.update()
        model = second_variation(patch.take(active), path[active]) if model is None else model
        factor = model.damped(damping[active])
        step = -factor.solve(model.slope)
        gain = -(step * model.slope).sum((1, 2)) * (path.shape[1] - 1)
        trial = path[active].index_add(1, inner, step)
        found = polygon_energy(patch.take(active).images(trial))
        rests = factor.definite & (gain * (1 + damping[active]) <= tolerance * energy[active] + noise[active])
        better = factor.definite & (found <= energy[active] + torch.where(rests, noise[active], -0.0))
        path[active[better]], energy[active[better]] = trial[better], found[better]
        damping[active] = (damping[active] * torch.where(better, 0.1, 10.0)).clamp(min=1e-12)
        resting[active] = rests
        keep = ~rests & (damping[active] < _LAST_DAMPING)
        model = None if bool(better[keep].any()) else model.take(keep)
        active = active[keep]
    return path, resting


def _spread(path: Tensor, images: Tensor) -> Tensor:
    """The same curve by points at equal distances along the polygon of its images."""
    along = torch.nn.functional.pad(images.diff(dim=1).norm(dim=-1).cumsum(1), (1, 0))
    wanted = torch.linspace(0, 1, path.shape[1]).to(along) * along[:, -1:]
    after = torch.searchsorted(along, wanted.contiguous()).clamp(1, path.shape[1] - 1)
    low, high = along.gather(1, after - 1), along.gather(1, after)
    weight = ((wanted - low) / (high - low).clamp(min=torch.finfo(low.dtype).tiny)).clamp(0, 1)[..., None]
    columns = after[..., None].expand(-1, -1, path.shape[-1])
    spread = torch.lerp(path.gather(1, columns - 1), path.gather(1, columns), weight)
    spread[:, 0], spread[:, -1] = path[:, 0], path[:, -1]
    return spread
