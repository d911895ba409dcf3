"""Three classic surfaces, each a network of one hidden layer: affine, sine, affine.

The products of sines in their usual formulas are sums of sines of sums, so affine maps and one nonlinearity suffice.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from labkit._linalg import qr
from labkit.chain import Chain

__all__ = ["clifford_torus", "sphere", "torus"]

_QUARTER = math.pi / 2  # the cosine is the sine a quarter turn ahead
# Hidden units sin(a·u + b·v + shift).
_UNITS = {
    "sin u": (1, 0, 0.0), "cos u": (1, 0, _QUARTER), "sin v": (0, 1, 0.0), "cos v": (0, 1, _QUARTER),
    "sin u+v": (1, 1, 0.0), "cos u+v": (1, 1, _QUARTER), "sin u-v": (1, -1, 0.0), "cos u-v": (1, -1, _QUARTER),
}  # fmt: skip


def sphere(radius: float | int = 1.0, n: int = 3, seed: int = 0) -> Chain:
    """The round sphere, radius · (cos u cos v, sin u cos v, sin v): longitude u, latitude v.

    Args:
        radius: above 0.
        n: in how many dimensions it lies; above 3 in a random three-dimensional subspace.
        seed: of the subspace.

    Returns:
        A chain (B, 2) → (B, n) of three links, float64; its scalar curvature is 2/radius².

    Raises:
        ValueError: if `radius` is not above 0, or n below 3.

    Example:
        >>> sphere()(torch.tensor([[0.0, 0.0], [0.0, torch.pi / 2]]).double()).round(decimals=3) + 0.0
        tensor([[1., 0., 0.],
                [0., 0., 1.]], dtype=torch.float64)
    """
    _check(radius=radius)
    if n < 3:
        raise ValueError(f"n={n} dimensions hold no sphere; 3 or more would do.")
    rows = ({"cos u+v": 0.5, "cos u-v": 0.5}, {"sin u+v": 0.5, "sin u-v": 0.5}, {"sin v": 1.0})
    frame = torch.eye(3, dtype=torch.float64)
    if n > 3:
        draw = torch.Generator().manual_seed(seed)
        frame, _ = qr(torch.randn(n, 3, dtype=torch.float64, generator=draw))
    return _network(rows, radius * frame)


def torus(ring: float | int = 2.0, tube: float | int = 1.0) -> Chain:
    """The torus ((ring + tube cos v) cos u, (ring + tube cos v) sin u, tube sin v).

    Args:
        ring: the radius of the circle in the middle of the tube.
        tube: the radius of the tube, less than `ring`.

    Returns:
        A chain (B, 2) → (B, 3), float64; its scalar curvature is 2 cos v / (tube (ring + tube cos v)).

    Raises:
        ValueError: unless 0 < tube < ring.

    Example:
        >>> from labkit.geometry.curvature import scalar_curvature
        >>> jet = torus().jet(torch.tensor([[0.0, 0.0], [0.0, torch.pi]]).double())
        >>> scalar_curvature(jet).detach()  # outside, inside
        tensor([ 0.6667, -2.0000], dtype=torch.float64)
    """
    _check(ring=ring, tube=tube)
    if not tube < ring:
        raise ValueError(f"tube={tube} is not below ring={ring}; such a torus meets itself, a thinner tube would do.")
    half = tube / 2
    rows = (
        {"cos u": ring, "cos u+v": half, "cos u-v": half},
        {"sin u": ring, "sin u+v": half, "sin u-v": half},
        {"sin v": tube},
    )
    return _network(rows, torch.eye(len(rows), dtype=torch.float64))


def clifford_torus(first: float | int = 1.0, second: float | int = 1.0) -> Chain:
    """The flat torus (first · (cos u, sin u), second · (cos v, sin v)) in four dimensions: bent, and not curved.

    Args:
        first: the radius of one circle.
        second: the radius of the other.

    Returns:
        A chain (B, 2) → (B, 4), float64; its scalar curvature is 0, its |II|² is 1/first² + 1/second².

    Raises:
        ValueError: if a radius is not above 0.

    Example:
        >>> clifford_torus()(torch.zeros(1, 2).double())
        tensor([[1., 0., 1., 0.]], dtype=torch.float64)
    """
    _check(first=first, second=second)
    rows = ({"cos u": first}, {"sin u": first}, {"cos v": second}, {"sin v": second})
    return _network(rows, torch.eye(len(rows), dtype=torch.float64))


def _network(rows: Sequence[dict[str, float]], frame: Tensor) -> Chain:
    names = list(_UNITS)
    units = torch.tensor(list(_UNITS.values()), dtype=torch.float64)
    out = torch.tensor([[row.get(name, 0.0) for name in names] for row in rows], dtype=torch.float64)
    links = [_linear(units[:, :2], units[:, 2]), torch.sin, _linear(frame @ out, torch.zeros_like(frame[:, 0]))]
    return Chain(links, ["affine", "sine", "affine again"])


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer.requires_grad_(False)


def _check(**lengths: float | int) -> None:
    for name, value in lengths.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name}={value!r} is no radius; a finite number above 0 would do.")
