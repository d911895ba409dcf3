"""Geodesics between given points: the polygon of least energy, made exact by shooting where the chain is smooth.

The polygon needs one derivative and no inverse; shooting corrects its velocity by the Jacobi fields of the polygon.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from labkit._linalg import lift
from labkit.chain import Chain
from labkit.geometry._flow import flow
from labkit.geometry._implicit import WIDEST, FirstOrderFlow, attach, newton_step, wants_graph
from labkit.geometry._patch import Patch, check_path_memory, check_same, outside_inference_mode, patch_at
from labkit.geometry._relaxation import Model, polygon_energy, relax, second_variation
from labkit.geometry._shooting import tolerance_of

__all__ = ["Geodesic", "geodesic"]

_SHOTS, _LOOSE = 12, 1e-6
_THIN = 1e4  # a curvature of the energy below so many roundings of the flat one counts as none


@dataclass(frozen=True)
class Geodesic:
    """Curves of least energy between pairs of points.

    Attributes:
        path: (B, T, *s), at equal moments of [0, 1], from x0 to x1.
        length: (B,), of the image: of the smooth geodesic where `refined`, of the polygon through the images elsewhere.
        energy: (B,), ∫ |d f(x(t))/dt|² dt over [0, 1], of the same; length² at constant speed, which geodesics have.
        converged: (B,), whether the energy came to rest; False also where the image of the straight line is not finite,
            and then the path is that line and length and energy are nan.
        refined: (B,), whether shooting met the end point, so that the path solves the geodesic equation.
        minimal: (B,), whether the energy came to rest at a strict minimum: the polygon's Hessian is positive definite,
            so that no conjugate point lies on the way. False where it rests on a saddle, as on an equator beyond half a
            turn, and where least paths are not unique, as in directions that the chain does not see.

    Example:
        >>> arc = Chain([lambda x: torch.cat([x.cos(), x.sin()], 1)])
        >>> found = geodesic(arc, torch.tensor([[0.0]]), torch.tensor([[2.0]]), 5)
        >>> found.path.flatten(), found.length.round(decimals=3), found.minimal
        (tensor([0.0000, 0.5000, 1.0000, 1.5000, 2.0000]), tensor([2.]), tensor([True]))
    """

    path: Float[Tensor, "batch time *s"]
    length: Float[Tensor, "batch"]
    energy: Float[Tensor, "batch"]
    converged: Bool[Tensor, "batch"]
    refined: Bool[Tensor, "batch"]
    minimal: Bool[Tensor, "batch"]


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

    It is never longer than the image of the straight line, and nearly always a local minimum; `minimal` says so. On a
    slice of a chain it is a geodesic of that feature space. A polygon of T points is short by O(T⁻²) where the chain is
    smooth; there shooting makes it exact to about 1e-9 in float64. Equal points give a constant path of length zero.

    All results have first derivatives in x0, x1 and the weights by the implicit function theorem, those of the polygon
    or, where refined and in at most 16 coordinates, of the geodesic. `backward` refuses the path where it is not
    `minimal`, as it is not a function of its ends there, and everything where it did not converge; where it converged
    but is not minimal, the energy keeps its derivative and that of the polygon's length is right to O(T⁻²). Paths of
    networks with kinks jump where they cross one; their derivative is that of the piece.
    Second derivatives are refused. Under `torch.no_grad()` no graph is kept, which costs less.

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
        MemoryError: if the frames along the paths, or the derivatives, would not fit, with the figure.

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
    length, velocity = torch.full_like(end[:, 0], torch.nan), torch.full_like(end, torch.nan)
    if refine and patch.is_smooth(straight[:, 0]) and patch.is_smooth(end):
        ready = (converged & (end != 0).any(-1)).nonzero()[:, 0]
        if len(ready):
            path[ready], velocity[ready], length[ready] = _refine(patch.take(ready), path[ready], progress)
    refined = ~length.isnan()
    with torch.no_grad():
        longer = ~refined & (_length(patch.images(path)) > _length(patch.images(straight)))
    path[longer] = straight[longer]
    model = second_variation(patch, path)
    minimal = converged & model.damped(torch.full_like(length, -_THIN * torch.finfo(x0.dtype).eps)).definite

    live, shown, measured, shot_length = replace(patch, x=x0), path, path, length
    if wants_graph(chain, x0, x1):
        twin, shot_length = _first_order(live, path, live.coordinates(x1, "x1"), velocity, minimal, model)
        shown = attach(path, twin, minimal, "its path is not the least one around; select by `minimal`")
        measured = attach(path, twin, converged, "its path did not come to rest; select by `converged`")
    images = chain(_ended(live, measured, x0, x1).flatten(0, 1)).reshape(len(x0), points, -1)
    chords, energy = _length(lift(images)), polygon_energy(lift(images))
    slope = chords if patch.k > WIDEST else shot_length
    length = length.nan_to_num() + (slope - slope.detach()).nan_to_num()
    return Geodesic(
        path=_ended(live, shown, x0, x1),
        length=torch.where(refined, length, chords).to(x0),
        energy=torch.where(refined, length**2, energy).to(x0),
        converged=converged.to(x0.device),
        refined=refined.to(x0.device),
        minimal=minimal.to(x0.device),
    )


def _first_order(
    patch: Patch, path: Tensor, end: Tensor, velocity: Tensor, minimal: Tensor, model: Model
) -> tuple[Tensor, Tensor]:
    """Twins of the paths and of the lengths of shots, with first derivatives; where there are none, detached values."""
    twin, length = path.clone(), torch.zeros_like(velocity[:, 0])
    shot = ~velocity.isnan().any(-1) & (patch.k <= WIDEST)
    rest = (minimal & ~shot).nonzero()[:, 0]
    if len(rest):
        here, polygon = patch.take(rest), torch.cat([path[rest, :-1], end[rest, None]], 1)
        factor = model.take(rest).damped(torch.zeros_like(length[rest]))
        twin = twin.index_put((rest,), newton_step(factor, polygon, lambda c: polygon_energy(here.images(c))))
    shots = shot.nonzero()[:, 0]
    if len(shots):
        here, start = patch.take(shots), torch.zeros_like(velocity[shots])
        found = flow(here, start, velocity[shots], path.shape[1], tolerance_of(here.x), 100)
        near = FirstOrderFlow.around(here, found)
        aimed = near.aim(start, end[shots])
        twin = twin.index_put((shots,), near(start, aimed)[..., : patch.k])
        pace = (here.frames(start)[1] @ aimed[..., None])[..., 0].norm(dim=-1)
        length = length.index_put((shots,), pace)
    return twin, length


def _ended(patch: Patch, c: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
    """The path of inputs through inner coordinates c, from x0 to x1 to the last digit."""
    return torch.cat([x0[:, None], patch.points(c[:, 1:-1]), x1[:, None]], 1)


def _length(images: Float[Tensor, "batch time m"]) -> Float[Tensor, "batch"]:
    pieces: Tensor = torch.linalg.vector_norm(images.diff(dim=1), dim=-1)
    return pieces.sum(1)


@torch.no_grad()
def _refine(
    patch: Patch, polygon: Float[Tensor, "batch time k"], progress: bool
) -> tuple[Float[Tensor, "batch time k"], Float[Tensor, "batch k"], Float[Tensor, "batch"]]:
    """Shoot from the polygon's start until its end is met: paths, velocities and lengths, nan where it was not.

    A miss at the end is spread over the polygon as its Jacobi field, whose initial velocity is taken off, so that each
    shot leaves O(T⁻²) of the miss.
    """
    moments, tolerance = polygon.shape[1] - 1, tolerance_of(patch.x)
    model = second_variation(patch, polygon)
    factor = model.damped(torch.zeros_like(model.size))
    last = patch.frames(polygon[:, -2:])[1]
    first = patch.frames(polygon[:, 0])[1]

    rim = last[:, 0].mT @ last[:, 1]
    reach = (polygon[:, -1] - polygon[:, 0]).norm(dim=-1)
    paths, velocity = polygon.clone(), _velocity_at_start(polygon)
    best, length, hit = torch.full_like(reach, torch.inf), torch.full_like(reach, torch.nan), velocity * torch.nan
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
        paths[active[met]], hit[active[met]] = shot.path[met], velocity[active[met]]
        length[active[met]] = (first[active[met]] @ velocity[active[met], :, None])[..., 0].norm(dim=-1)
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
    hit[~sound], length[~sound] = torch.nan, torch.nan
    return torch.where(sound[:, None, None], paths, polygon), hit, length


def _velocity_at_start(path: Float[Tensor, "batch time k"]) -> Float[Tensor, "batch k"]:
    """dx/dt at the first of equal moments of [0, 1], to second order."""
    return (4 * path[:, 1] - 3 * path[:, 0] - path[:, 2]) * (path.shape[1] - 1) / 2
