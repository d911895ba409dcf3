"""Flat two-dimensional windows into input space: the plane through three points, with orthonormal coordinates.

On such a plane the pullback metric is a 2×2 matrix, so it can be drawn.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Plane", "plane_through"]


@dataclass(frozen=True)
class Plane:
    """The points `origin + a·e_1 + b·e_2` with e_1 ⊥ e_2 of length one; (a, b) are lengths in input space.

    Attributes:
        origin: (n,), the mean of the three points.
        basis: (n, 2), orthonormal columns e_1, e_2.
        corners: (3, 2), the coordinates of the three points.
        shape: the shape of one input, `math.prod(shape) == n`.

    Example:
        >>> plane = Plane(torch.zeros(3), torch.eye(3, 2), torch.zeros(3, 2), shape=(3,))
        >>> plane.at(torch.tensor([[2.0, 5.0]]))
        tensor([[2., 5., 0.]])
        >>> plane.coordinates(torch.tensor([[2.0, 5.0, 7.0]]))
        tensor([[2., 5.]])
        >>> plane.grid(side=2, reach=1.0)
        tensor([[-1., -1.],
                [-1.,  1.],
                [ 1., -1.],
                [ 1.,  1.]])
    """

    origin: Float[Tensor, "n"]
    basis: Float[Tensor, "n 2"]
    corners: Float[Tensor, "3 2"]
    shape: tuple[int, ...]

    def at(self, coordinates: Tensor) -> Tensor:
        """The inputs (N, *shape) at coordinates (N, 2).

        Raises:
            ValueError: if the coordinates are not (N, 2).
        """
        if coordinates.ndim != 2 or coordinates.shape[1] != 2:
            raise ValueError(f"coordinates has shape {tuple(coordinates.shape)}; (N, 2) would do.")
        flat = self.origin + coordinates.to(self.basis) @ self.basis.mT
        return flat.reshape(-1, *self.shape)

    def coordinates(self, x: Tensor) -> Tensor:
        """The coordinates (N, 2) of the points of the plane nearest to inputs (N, *shape)."""
        return (x.flatten(1) - self.origin) @ self.basis

    def grid(self, side: int, reach: float) -> Float[Tensor, "spots 2"]:
        """Coordinates of a square grid over [−reach, reach]², `side` values each way, b running fastest."""
        values = torch.linspace(-reach, reach, side, dtype=self.basis.dtype, device=self.basis.device)
        return torch.cartesian_prod(values, values)

    def circle(self, count: int, radius: float) -> Float[Tensor, "count 2"]:
        """Coordinates of `count` points at equal steps round a circle about the middle; the first is (radius, 0)."""
        angle = 2 * torch.pi * torch.arange(count, dtype=self.basis.dtype, device=self.basis.device) / count
        return radius * torch.stack([angle.cos(), angle.sin()], dim=1)


def plane_through(points: Tensor) -> Plane:
    """The plane through three inputs; its first axis runs from the first to the second.

    Args:
        points: (3, *shape), floating, not on one line.

    Returns:
        The plane, in the dtype and on the device of `points`.

    Raises:
        ValueError: if there are not three points, or they are not finite or lie on one line.
        TypeError: if they are not floating.

    Example:
        >>> plane = plane_through(torch.tensor([[0.0, 0, 1], [3, 0, 1], [0, 3, 1]]))
        >>> plane.at(plane.corners)[1]
        tensor([3., 0., 1.])
        >>> plane.corners[1] - plane.corners[0]
        tensor([3., 0.])
    """
    if not points.is_floating_point():
        raise TypeError(f"points is {points.dtype}; a floating dtype would do.")
    if points.ndim < 2 or len(points) != 3:
        raise ValueError(f"points has shape {tuple(points.shape)}; three inputs, (3, *shape), would do.")
    if not bool(points.isfinite().all()):
        raise ValueError("points holds nan or inf; finite inputs would do.")
    flat = points.flatten(1)
    u, w = (_in_own_units(flat[i] - flat[0]) for i in (1, 2))
    if not u.norm() > 0:
        raise ValueError("points holds the same input twice; three different ones would do.")
    u = u / u.norm()
    v = w - (w @ u) * u
    v = v - (v @ u) * u  # once more, for orthogonality to rounding
    if not v.norm() > 1e-6 * w.norm():
        raise ValueError("points lie on one line, through which many planes go; take a third one beside it.")
    basis = torch.stack([u, v / v.norm()], dim=1)
    origin = flat.mean(0)
    return Plane(origin, basis, (flat - origin) @ basis, tuple(points.shape[1:]))


def _in_own_units(vector: Tensor) -> Tensor:
    """`vector` over its largest entry, so that squares stay within the dtype; zero stays zero."""
    size = vector.abs().amax()
    return vector / torch.where(size > 0, size, 1.0)
