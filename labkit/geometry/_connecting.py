"""Geodesics between given points: the polygon of least energy, made exact by shooting where the chain is smooth.

The polygon needs one derivative and no inverse; shooting corrects its velocity by the Jacobi fields of the polygon.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from labkit._linalg import lift
from labkit.chain import Chain
from labkit.geometry._flow import flow
from labkit.geometry._patch import Patch, check_path_memory, check_same, outside_inference_mode, patch_at
from labkit.geometry._relaxation import polygon_energy, relax, second_variation
from labkit.geometry._shooting import tolerance_of

__all__ = ["Geodesic", "geodesic"]

_SHOTS, _LOOSE = 12, 1e-6


@dataclass(frozen=True)
class Geodesic:
    """Curves of least energy between pairs of points.

    Attributes:
        path: (B, T, *s), at equal moments of [0, 1], from x0 to x1; detached.
        length: (B,), of the image: of the smooth geodesic where `refined`, of the polygon through the images elsewhere.
        energy: (B,), ∫ |d f(x(t))/dt|² dt over [0, 1], of the same; length² at constant speed, which geodesics have.
        converged: (B,), whether the energy came to rest; False also where the image of the straight line is not finite,
            and then the path is that line and length and energy are nan.
        refined: (B,), whether shooting met the end point, so that the path solves the geodesic equation.
    """

    path: Float[Tensor, "batch time *s"]
    length: Float[Tensor, "batch"]
    energy: Float[Tensor, "batch"]
    converged: Bool[Tensor, "batch"]
    refined: Bool[Tensor, "batch"]


@outside_inference_mode
def geodesic(
    chain: Chain,
    x0: Tensor,
    x1: Tensor,
    points: int = 64,
    *,
    basis: Tensor | None = None,
    refine: bool = True,
    max_iterations: int = 100,
    progress: bool = True,
) -> Geodesic:
    """Join x0 to x1 by a curve whose image under the chain has stationary energy, found from the straight line.

    It is never longer than the image of the straight line, and nearly always a local minimum. Where the straight line
    is itself stationary but not least (an equator beyond half a turn) it rests there: `converged` is True, `refined`
    False. On a slice of a chain it is a geodesic of
    that feature space. A polygon of T points is short by O(T⁻²) where the chain is smooth; there shooting makes it
    exact to about 1e-9 in float64. Equal points give a constant path of length zero.

    Length and energy are differentiable in x0, x1 and the weights, at the interior points found, which is the whole
    derivative since the energy is stationary in them; where refined, the derivatives are right to O(T⁻²).

    Args:
        chain: maps (B, *s) to (B, *s'); its links may have kinks.
        x0: (B, *s), floating.
        x1: (B, *s), in the dtype of x0.
        points: T ≥ 3, points of each path.
        basis: orthonormal columns (B, n, k) or (n, k) of the plane that the path is kept in; all inputs by default.
        refine: whether to shoot where the chain is smooth and its metric has an inverse.
        max_iterations: Newton steps tried at most.
        progress: whether a bar shows after two seconds.

    Raises:
        ValueError: if the arguments do not fit, or x1 − x0 leaves the plane of the basis.
        TypeError: if x1 is of another dtype than x0.
        MemoryError: if the frames along the paths would not fit, with the figure.

    Example:
        >>> def sphere(x):
        ...     latitude, longitude = x.unbind(1)
        ...     circle = torch.stack([longitude.cos(), longitude.sin()], 1)
        ...     return torch.cat([latitude.cos()[:, None] * circle, latitude.sin()[:, None]], 1)
        >>> x0, x1 = torch.tensor([[0.5, 0.0], [0.0, 0.0]]), torch.tensor([[0.5, 1.0], [0.0, 1.0]])
        >>> found = geodesic(Chain([sphere]), x0, x1)
        >>> found.length, found.converged
        (tensor([0.8685, 1.0000]), tensor([True, True]))
    """
    patch = patch_at(chain, x0, basis)
    check_same(x0, x1, "x1")
    if points < 3 or max_iterations < 1:
        raise ValueError(f"points is {points} and max_iterations {max_iterations}; at least 3 and 1 would do")
    chain.linearize(x1, dense=False)  # for its checks: a finite image at this end as well
    end = patch.coordinates(x1, "x1")
    check_path_memory(patch, points, patch.images(end).shape[-1])
    straight = torch.linspace(0, 1, points).to(end)[:, None] * end[:, None, :]
    path, converged = relax(patch, straight, max_iterations, progress)
    length = torch.full_like(end[:, 0], torch.nan)
    if refine and patch.is_smooth(straight[:, 0]) and patch.is_smooth(end):
        ready = (converged & (end != 0).any(-1)).nonzero()[:, 0]
        if len(ready):
            path[ready], length[ready] = _refine(patch.take(ready), path[ready], progress)
    refined = ~length.isnan()
    longer = ~refined & (_length(patch.images(path)) > _length(patch.images(straight)))
    path[longer] = straight[longer]
    inner = patch.points(path[:, 1:-1])
    images = chain(torch.cat([x0[:, None], inner, x1[:, None]], 1).flatten(0, 1)).reshape(len(x0), points, -1)
    chords, energy = _length(lift(images)), polygon_energy(lift(images))
    shot = length.nan_to_num() + (chords - chords.detach())  # the derivative is that of the polygon
    return Geodesic(
        path=torch.cat([x0.detach()[:, None], inner, x1.detach()[:, None]], 1),
        length=torch.where(refined, shot, chords).to(x0),
        energy=torch.where(refined, shot**2, energy).to(x0),
        converged=converged.to(x0.device),
        refined=refined.to(x0.device),
    )


def _length(images: Float[Tensor, "batch time m"]) -> Float[Tensor, "batch"]:
    pieces: Tensor = torch.linalg.vector_norm(images.diff(dim=1), dim=-1)
    return pieces.sum(1)


@torch.no_grad()
def _refine(
    patch: Patch, polygon: Float[Tensor, "batch time k"], progress: bool
) -> tuple[Float[Tensor, "batch time k"], Float[Tensor, "batch"]]:
    """Shoot from the polygon's start until its end is met: paths and their lengths, nan where it was not.

    A miss at the end is spread over the polygon as its Jacobi field, whose initial velocity is taken off, so that each
    shot leaves O(T⁻²) of the miss.
    """
    moments, tolerance = polygon.shape[1] - 1, tolerance_of(patch.x)
    model = second_variation(patch, polygon)
    factor = model.damped(torch.zeros_like(model.size))
    last = patch.frames(polygon[:, -2:])[1]
    first = patch.frames(polygon[:, 0])[1]

    def pace(speed: Tensor, samples: Tensor) -> Tensor:
        found: Tensor = (first[samples] @ speed[..., None])[..., 0].norm(dim=-1)
        return found

    rim = last[:, 0].mT @ last[:, 1]
    reach = (polygon[:, -1] - polygon[:, 0]).norm(dim=-1)
    paths, velocity = polygon.clone(), _velocity_at_start(polygon)
    best, length = torch.full_like(reach, torch.inf), torch.full_like(reach, torch.nan)
    active = factor.definite.nonzero()[:, 0]
    precision = torch.full_like(reach, max(_LOOSE, tolerance))
    for _ in tqdm(range(_SHOTS), desc="shots", delay=2.0, leave=False, disable=not progress):
        if not len(active):
            break
        exact = precision[active] == tolerance
        shot = flow(patch.take(active), polygon[active, 0], velocity[active], moments + 1, precision[active], 100)
        miss = shot.path[:, -1] - polygon[active, -1]
        size = torch.where(shot.arrived, miss.norm(dim=-1) / reach[active], torch.inf)
        met = exact & (size <= 10 * tolerance)
        paths[active[met]], length[active[met]] = shot.path[met], pace(shot.velocity[met, 0], active[met])
        improving = size < 0.5 * best[active]
        best[active] = torch.minimum(size, best[active])
        field = torch.zeros_like(polygon)
        field[active, -1] = miss
        load = torch.zeros_like(field[:, 1:-1])
        load[:, -1] = (rim @ field[:, -1, :, None])[..., 0]
        field[:, 1:-1] = factor.solve(load)
        velocity = velocity - _velocity_at_start(field)
        # a shot need not be much more precise than it hits
        finer = torch.where(improving, (1e-4 * size).clamp(min=tolerance), tolerance)
        precision[active] = torch.minimum(precision[active], finer)
        active = active[~met & (improving | ~exact)]
    paths[:, -1] = polygon[:, -1]
    # a shot that crosses an unseen kink or lands on another geodesic has a polygon that costs more than the best one
    energy, least = polygon_energy(patch.images(paths)), polygon_energy(patch.images(polygon))
    sound = energy <= least + 0.5 * (length**2 - energy).clamp(min=0) + 1e-6 * least  # False where length is nan
    return torch.where(sound[:, None, None], paths, polygon), torch.where(sound, length, torch.nan)


def _velocity_at_start(path: Float[Tensor, "batch time k"]) -> Float[Tensor, "batch k"]:
    """dx/dt at the first of equal moments of [0, 1], to second order."""
    return (4 * path[:, 1] - 3 * path[:, 0] - path[:, 2]) * (path.shape[1] - 1) / 2
