"""What happens to the tangent space along a path: how the metric varies, and how transport carries and turns vectors.

All read f's first derivative at many points, so they need no second one and hold for smooth and kinked networks.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from labkit._linalg import inverse_triangular, lift, svdvals
from labkit.geometry._arguments import as_basis
from labkit.geometry._frames import tangent_frame
from labkit.geometry._patch import check_same, outside_inference_mode
from labkit.geometry._paths import AnyChain, check_path

__all__ = ["holonomy", "metric_variation", "parallel_transport"]

_BLOCK = 256  # points linearized at once: the link Jacobians of a fine path would not fit


def metric_variation(chain: AnyChain, path: Tensor, *, basis: Tensor | None = None) -> Float[Tensor, "batch"]:
    """The length of the path that the metric takes, Σ_t ‖log(g_t^-½ g_{t+1} g_t^-½)‖_F, each step a geodesic distance.

    It is the affine-invariant distance of positive matrices (Förstner & Moonen 1999): no change of basis and no
    isometry of the output alters it, and it is 0 where the metric is constant along the path.

    Args:
        chain: maps (B, *s) to (B, *s').
        path: (B, T, *s), T >= 2 points of B curves in order.
        basis: orthonormal columns (n_0, k) or (B, n_0, k) along which the metric is taken; None for all of R^n0. Under
            `torch.no_grad()` the columns are pushed and no Jacobian is built.

    Returns:
        (B,), in the dtype of the path; differentiable.

    Raises:
        TypeError: if `chain` is no chain or `path` is not floating.
        ValueError: if the path or basis does not fit or meets NaN, or the metric loses rank, with point and direction.

    Example:
        >>> from labkit import Chain
        >>> path = torch.linspace(0, 2, 9)[None, :, None]
        >>> metric_variation(Chain([torch.exp]), path).round(decimals=3)  # log g = 2x
        tensor([4.])
    """
    check_path(chain, path, 2)
    totals = []
    for curve, columns in enumerate(_pushed(chain, path, basis)):
        _, R = tangent_frame(columns, _place("path", curve))
        logs = 2 * svdvals(R[1:] @ inverse_triangular(R[:-1])).log()
        totals.append(torch.linalg.vector_norm(logs, dim=-1).sum())
    return torch.stack(totals).to(path)


def holonomy(chain: AnyChain, loop: Tensor, *, basis: Tensor | None = None) -> Float[Tensor, "batch"]:
    """The angle by which parallel transport around a loop turns the tangent plane of the image of a plane.

    By Gauss and Bonnet it is ∫ K dA over the inside of the loop, so curvature × area for a small one, and not only up
    to 2π. Each step projects a tangent plane onto the next and takes the nearest rotation: the error falls with the
    square of the spacing where f is smooth, and vanishes where f is piecewise linear, where K sits in the vertices.

    Args:
        chain: maps (B, *s) to (B, *s').
        loop: (B, T, *s), T >= 3 points in the plane; from the last the loop runs back to the first, which may also be
            repeated. Counter-clockwise in the coordinates of the basis counts as positive.
        basis: orthonormal columns (n_0, 2) or (B, n_0, 2) that span the plane of the loop; None where n_0 = 2.

    Returns:
        (B,) in radians, in the dtype of the loop; differentiable.

    Raises:
        TypeError: if `chain` is no chain or `loop` is not floating.
        ValueError: if the loop or basis does not fit or meets NaN, leaves its plane, or is too coarse, or if the metric
            loses rank on it, with point and direction.

    Example:
        >>> from labkit import Chain
        >>> pyramid = Chain([lambda x: torch.cat([x, x.abs().sum(1, keepdim=True)], 1)])
        >>> around = torch.tensor([[[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]]])
        >>> holonomy(pyramid, around).rad2deg().round(decimals=3)  # the four angles at its apex are 60°
        tensor([120.])
    """
    check_path(chain, loop, 3, "loop")
    angles = []
    for curve, columns in enumerate(_pushed(chain, loop, basis)):
        if columns.shape[-1] != 2:
            raise ValueError(f"the loop has k = {columns.shape[-1]} directions around it; pass a basis (n_0, 2)")
        _check_plane(loop[curve], basis[curve] if basis is not None and basis.ndim == 3 else basis, "loop", curve)
        Q, _ = tangent_frame(columns, _place("loop", curve))
        steps = Q.roll(-1, 0).mT @ Q
        (a, b), (c, d) = (row.unbind(-1) for row in steps.unbind(-2))
        coarse = (a * d - b * c < 0.1).nonzero()
        if len(coarse):
            raise ValueError(
                f"loop[{curve}] is too coarse after point {int(coarse[0])}, where its tangent plane tilts by more than "
                "80 degrees; take more points, or go round that fold"
            )
        angles.append(torch.atan2(c - b, a + d).sum())
    return torch.stack(angles).to(loop)


@outside_inference_mode
def parallel_transport(chain: AnyChain, path: Tensor, v: Tensor, *, basis: Tensor | None = None) -> Tensor:
    """Carry a tangent vector along a path, parallel in the pullback metric.

    With orthonormal tangent frames Q_t in the space of images, step t is the orthogonal polar factor of Q_{t+1}ᵀ Q_t,
    the least rotation, so that every length and angle is kept exactly. The error falls with the square of the spacing.

    Args:
        chain: maps (B, *s) to (B, *s'), with a metric of full rank at every point of the path.
        path: (B, T, *s), T >= 2 points of B curves in order.
        v: (B, *s), a vector at path[:, 0] in input coordinates.
        basis: orthonormal columns (n_0, k) or (B, n_0, k) of the plane that path and v lie in; None for all of R^n0.

    Returns:
        (B, T, *s), the vector at every point, in the dtype of the path; differentiable.

    Raises:
        TypeError: if `chain` is no chain, `path` is not floating, or v is of another dtype.
        ValueError: if an argument does not fit or meets NaN, leaves the plane of the basis, or the path is too coarse,
            or if the metric loses rank on it, with point and direction.

    Example:
        >>> from labkit import Chain
        >>> polar = Chain([lambda x: x[:, :1] * torch.cat([x[:, 1:].cos(), x[:, 1:].sin()], 1)])
        >>> quarter = torch.stack([torch.ones(65), torch.linspace(0, torch.pi / 2, 65)], 1)[None]
        >>> outwards = parallel_transport(polar, quarter, torch.tensor([[1.0, 0.0]]))[0, -1]
        >>> outwards.round(decimals=3)  # what pointed outwards points along the circle a quarter later
        tensor([-0., -1.])
    """
    check_path(chain, path, 2)
    check_same(path[:, 0], v, "v")
    carried = []
    for curve, columns in enumerate(_pushed(chain, path, basis)):
        Q, R = tangent_frame(columns, _place("path", curve))
        own = None if basis is None else lift(basis[curve] if basis.ndim == 3 else basis)
        _check_plane(path[curve], own, "path", curve)
        _check_plane(torch.stack([torch.zeros_like(v[curve]), v[curve]]), own, "v", curve)
        turns = _polar_factor(Q[1:].mT @ Q[:-1], curve)
        flat = lift(v[curve]).flatten()
        vectors = [R[0] @ (flat if own is None else own.mT @ flat)]
        for turn in turns:
            vectors.append(turn @ vectors[-1])
        components = (inverse_triangular(R) @ torch.stack(vectors)[..., None])[..., 0]
        carried.append(components if own is None else components @ own.mT)
    return torch.stack(carried).reshape(path.shape).to(path)


def _polar_factor(A: Float[Tensor, "steps k k"], curve: int) -> Float[Tensor, "steps k k"]:
    """The orthogonal matrix nearest to each A, by Newton's iteration (Higham 1986).

    Its derivative is finite where singular values coincide, as they do on every fine path, and that of an SVD is not.
    """
    right = (svdvals(A.detach())[:, -1] < 1e-3).nonzero()
    if len(right):
        raise ValueError(
            f"path[{curve}] is too coarse after point {int(right[0])}, where its tangent space tilts by a right angle; "
            "take more points, or go round that fold"
        )
    X = A
    for _ in range(30):
        last, X = X, (X + torch.linalg.inv(X).mT) / 2
        if float((X - last).detach().abs().max()) < 1e-10:  # its square is the error that is left
            break
    return X


def _pushed(chain: AnyChain, path: Tensor, basis: Tensor | None) -> list[Float[Tensor, "T n k"]]:
    """The image of the basis at every point of each curve."""
    own_frames = isinstance(basis, Tensor) and basis.ndim == 3
    if isinstance(basis, Tensor) and own_frames and len(basis) != len(path):
        raise ValueError(f"basis has {len(basis)} frames for {len(path)} curves; pass (n_0, k) or one frame a curve")
    dense = basis is None or torch.is_grad_enabled()
    found = []
    for curve, points in enumerate(path):
        own = basis[curve] if isinstance(basis, Tensor) and own_frames else basis
        blocks = []
        for block in points.split(_BLOCK):
            lin = chain.linearize(block, dense=dense)
            blocks.append(lin.dense() if own is None else lin @ as_basis(lin, own).to(lin.dtype))
        found.append(torch.cat(blocks))
    return found


def _place(name: str, curve: int) -> Callable[[int], str]:
    return lambda point: f"at point {point} of {name}[{curve}]"


@torch.no_grad()
def _check_plane(points: Tensor, columns: Tensor | None, name: str, curve: int) -> None:
    """Refuse points whose offsets from the first leave the plane of one frame."""
    if columns is None:
        return
    offsets = lift(points - points[:1]).flatten(1)
    columns = lift(columns)
    beside = (offsets - offsets @ columns @ columns.mT).norm(dim=-1)
    if (beside > torch.finfo(points.dtype).eps ** 0.5 * offsets.norm(dim=-1).max()).any():
        raise ValueError(
            f"{name}[{curve}] leaves the plane of the basis by {float(beside.max()):.2g}"
            f"{f' at point {int(beside.argmax())}' if len(points) > 2 else ''}; "
            "take points x + a e_1 + b e_2, or the basis of their plane"
        )
