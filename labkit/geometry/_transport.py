"""Parallel transport along a path: tangent vectors carried without turning, as the surface of images sees it.

From point to point the tangent space is turned onto the next by the least rotation, so that transport is a product of
orthogonal matrices and keeps every length and angle exactly.
"""

import torch
from torch import Tensor

from labkit._linalg import inverse_triangular, lift, qr, svd
from labkit.chain import Chain
from labkit.geometry._patch import check_immersed, check_same, outside_inference_mode, patch_at

__all__ = ["parallel_transport"]


@outside_inference_mode
def parallel_transport(chain: Chain, path: Tensor, v: Tensor, *, basis: Tensor | None = None) -> Tensor:
    """Carry a tangent vector along a path, parallel in the pullback metric.

    With orthonormal tangent frames Q_t in the space of images, step t is the orthogonal polar factor of Q_{t+1}ᵀ Q_t.
    Its error falls with the square of the spacing; kinks are turned over by the least rotation.

    Args:
        chain: maps (B, *s) to (B, *s'), with a metric of full rank at every point of the path.
        path: (B, T, *s), T ≥ 2 points of B curves, in order.
        v: (B, *s), a vector at path[:, 0] in input coordinates.
        basis: orthonormal columns (B, n, k) or (n, k) of the plane that path and v lie in; all inputs by default.

    Returns:
        (B, T, *s), the vector at every point, detached, in the dtype of the path.

    Raises:
        ValueError: where the metric has no inverse, with its rank, or the path or the chain along it is not finite.
        TypeError: if v is of another dtype than the path.

    Example:
        >>> polar = Chain([lambda x: x[:, :1] * torch.cat([x[:, 1:].cos(), x[:, 1:].sin()], 1)])
        >>> quarter = torch.stack([torch.ones(65), torch.linspace(0, torch.pi / 2, 65)], 1)[None]
        >>> outwards = parallel_transport(polar, quarter, torch.tensor([[1.0, 0.0]]))[0, -1]
        >>> outwards.round(decimals=3)  # what pointed outwards points along the circle a quarter later
        tensor([-0., -1.])
    """
    if path.ndim < 3 or path.shape[1] < 2:
        raise ValueError(f"path has shape {tuple(path.shape)}; (B, T, *s) with T ≥ 2 points a curve would do")
    patch = patch_at(chain, path[:, 0], basis)
    check_same(path[:, 0], v, "v")
    chain.linearize(path.flatten(0, 1), dense=False)  # for its checks: finite all along
    c = torch.stack([patch.coordinates(x, "path") for x in path.detach().unbind(1)], 1)
    frames = patch.frames(c)[1]
    check_immersed(frames.flatten(0, 1), "path", path.dtype)
    Q, R = qr(frames)
    turns = _polar_factor(Q[:, 1:].mT @ Q[:, :-1])
    vector = R[:, 0] @ patch.components(lift(v.detach()).flatten(1), v, "v")[..., None]
    carried = [vector]
    for turn in turns.unbind(1):
        carried.append(turn @ carried[-1])
    components = (inverse_triangular(R) @ torch.stack(carried, 1))[..., 0]
    return patch.vectors(components)


def _polar_factor(A: Tensor) -> Tensor:
    """The orthogonal matrix nearest to each A."""
    U, _, Vh = svd(A)
    return U @ Vh
