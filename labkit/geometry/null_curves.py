"""Null curves: walks through inputs along which the pullback metric, and to it the output, is blind.

A target pulls the walk; at every moment the part of the pull that the network would feel is removed.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from labkit.chain import Chain

__all__ = ["null_curve", "unseen"]

_METHODS = ("euler", "midpoint")


def unseen(J: Float[Tensor, "*batch m n"], v: Float[Tensor, "*batch n"], rank: int | None = None) -> Tensor:
    """The part of v that J does not see: v minus its projection on the right singular vectors of J.

    Args:
        J: Jacobians (*batch, m, n).
        v: vectors (*batch, n).
        rank: remove the directions of the `rank` largest singular values only; by default of all above rounding.

    Returns:
        (*batch, n), with J times it 0 to rounding where `rank` is not given.

    Raises:
        ValueError: if rank is not one of 0 … min(m, n).

    Example:
        >>> unseen(torch.tensor([[1.0, 1.0]]), torch.tensor([1.0, 0.0])).round(decimals=6)
        tensor([ 0.5000, -0.5000])
    """
    most = min(J.shape[-2:])
    if rank is not None and not 0 <= rank <= most:
        raise ValueError(f"rank={rank}; one of 0 … {most}, the smaller side of J, would do")
    Q, R = torch.linalg.qr(J.mT)  # a wide J costs one QR and the SVD of a small square
    _, values, rows = torch.linalg.svd(R.mT, full_matrices=False)
    rows = rows @ Q.mT
    if rank is None:
        seen = values > max(J.shape[-2:]) * torch.finfo(J.dtype).eps * values[..., :1]
    else:
        seen = torch.arange(most, device=J.device).expand(values.shape) < rank
    along = torch.where(seen, (rows @ v[..., None])[..., 0], 0.0)
    left: Tensor = v - (rows.mT @ along[..., None])[..., 0]
    return left


def null_curve(
    chain: Chain,
    x: Tensor,
    target: Tensor,
    steps: int,
    *,
    time: float | int = 1.0,
    method: str = "euler",
    rank: int | None = None,
) -> Float[Tensor, "points batch n"]:
    """Walk from x towards a target, only in directions that the chain does not see: x' = P(x) (target − x).

    P projects on the kernel of Df(x), so f stays as it is along the exact curve, and the walk ends where the target
    pulls across the level set of f only. Steps of size h leave it by O(h) with Euler's method (Benfenati & Marta 2022)
    and by O(h²) with the midpoint rule, if f is smooth and its rank does not change on the way.

    Args:
        chain: f, from flat inputs.
        x: starts (B, n).
        target: (B, n) or (n,).
        steps: how many, at least 1.
        time: at which the walk ends; without a network the distance to the target falls by e^-time.
        method: "euler" or "midpoint".
        rank: as of `unseen`; where it is given, f changes in proportion to the singular values that were kept out.

    Returns:
        The points (steps + 1, B, n), detached, the start among them.

    Raises:
        ValueError: for steps below 1, an unknown method, or inputs that are not flat.

    Example:
        >>> circle = Chain([lambda x: x.square().sum(1, keepdim=True)])
        >>> start, target = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
        >>> path = null_curve(circle, start, target, 50, time=5, method="midpoint")
        >>> path[-1].round(decimals=2)
        tensor([[0., 1.]])
    """
    if steps < 1:
        raise ValueError(f"steps={steps} is no walk; at least 1 would do")
    if method not in _METHODS:
        raise ValueError(f"method={method!r} does not exist; take one of {', '.join(_METHODS)}")
    if x.ndim != 2:
        raise ValueError(f"x has shape {tuple(x.shape)}; flat inputs (B, n) would do")
    if target.shape not in (x.shape, x.shape[1:]):
        raise ValueError(f"target has shape {tuple(target.shape)}; {tuple(x.shape[1:])} or {tuple(x.shape)} would do")
    h = time / steps

    def velocity(at: Tensor) -> Tensor:
        J = chain.linearize(at, dense=True).dense()
        return unseen(J, target.expand_as(at) - at, rank)

    points = [x.detach()]
    with torch.no_grad():
        for _ in range(steps):
            at = points[-1]
            v = velocity(at)
            if method == "midpoint":
                v = velocity(at + h / 2 * v)
            points.append(at + h * v)
    return torch.stack(points)
