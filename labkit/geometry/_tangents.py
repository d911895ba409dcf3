"""What happens to the tangent space along a path: how the metric varies, and how transport around a loop turns it.

Both read f's first derivative at many points, so they need no second one and hold for smooth and kinked networks.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from labkit._linalg import inverse_triangular, svdvals
from labkit.geometry._arguments import as_basis
from labkit.geometry._frames import tangent_frame
from labkit.geometry._paths import AnyChain, check_path

__all__ = ["holonomy", "metric_variation"]

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
        _check_plane(loop[curve], basis, curve)
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
def _check_plane(points: Tensor, basis: Tensor | None, curve: int) -> None:
    if basis is None:
        return
    offsets = (points - points[:1]).flatten(1)
    columns = (basis[curve] if basis.ndim == 3 else basis).to(offsets)
    beside = (offsets - offsets @ columns @ columns.mT).norm(dim=-1)
    if (beside > torch.finfo(points.dtype).eps ** 0.5 * offsets.norm(dim=-1).max()).any():
        raise ValueError(
            f"loop[{curve}] leaves the plane of the basis by {float(beside.max()):.2g} at point "
            f"{int(beside.argmax())}; take points x + a e_1 + b e_2, or the basis of their plane"
        )
