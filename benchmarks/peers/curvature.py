"""Scalar curvature of a surface: labkit's jet and Gauss' equation against derivatives of Christoffel symbols.

The surface is a random network R² → R⁵⁰ with three hidden tanh layers of 64, in float64, at 16 points.
"""

import os
import time
from typing import Any

import torch
from torch import Tensor
from torch.func import jacfwd, vmap

from benchmarks.timing import medians
from labkit import Chain
from labkit.geometry import curvature
from labkit.networks import mlp

POINTS = 16
AT_LEAST_GEOMSTATS, AT_LEAST_TORCH = 1000.0, 3.0


def surface() -> tuple[Chain, Tensor]:
    """The network, and points (16, 2)."""
    chain = mlp(4, 64, "tanh", sigma_w=1.5, sigma_b=0.1, n_in=2, n_out=50, dtype=torch.float64).requires_grad_(False)
    return chain, torch.randn(POINTS, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def by_labkit(chain: Chain, x: Tensor) -> Tensor:
    """Scalar curvature at x, (B,)."""
    return curvature.scalar_curvature(chain.jet(x))


def sphere() -> list[dict[str, Any]]:
    """The unit sphere in its usual coordinates, where 2 is right, on the backend that the environment names."""

    def embed(p: Any, lib: Any, joined: Any) -> Any:
        polar, azimuth = p[..., 0], p[..., 1]
        rows = [lib.sin(polar) * lib.cos(azimuth), lib.sin(polar) * lib.sin(azimuth), lib.cos(polar)]
        return joined(rows, -1)

    gs, immersed = _immersed(2, 3, lambda p, gs: embed(p, gs, gs.stack))
    points = [[1.0, 0.5], [0.7, 1.0], [2.0, -1.0]]
    theirs = [float(value) for value in immersed.metric.scalar_curvature(gs.array(points))]
    x = torch.tensor(points, dtype=torch.float64)
    ours = by_labkit(Chain([lambda p: embed(p, torch, torch.stack)]), x).tolist()
    return [{
        "backend": os.environ["GEOMSTATS_BACKEND"],
        "right": 2.0,
        "geomstats": theirs,
        "geomstats_wrong_by": max(abs(value - 2) for value in theirs),
        "labkit_wrong_by": max(abs(value - 2) for value in ours),
    }]  # fmt: skip


def by_geomstats() -> list[dict[str, Any]]:
    """The random surface by geomstats on autograd: one point measured, times 16, and the ratio if 16 cost no more."""
    chain, x = surface()
    layers = [(link.linear.weight.numpy(), link.linear.bias.numpy()) for link in chain]

    def network(p: Any, gs: Any) -> Any:
        weight, bias = layers[0]
        h = p @ weight.T + bias
        for weight, bias in layers[1:]:
            h = gs.tanh(h) @ weight.T + bias
        return h

    gs, immersed = _immersed(2, 50, network)
    point = gs.array(x[:1].numpy())
    (ours,) = medians([lambda: by_labkit(chain, x)], 50)
    start = time.process_time()
    found = immersed.metric.scalar_curvature(point)
    theirs = 1e3 * (time.process_time() - start)
    found = torch.tensor(found.tolist(), dtype=torch.float64)
    row = _row("scalar curvature", by_labkit(chain, x[:1]), found, ours, theirs * POINTS, AT_LEAST_GEOMSTATS)
    measured = {"peer_points_measured": 1, "peer_ms_is_extrapolated": True, "measured_point_to_labkit": theirs / ours}
    return [row | {"points": POINTS} | measured]


def by_torch() -> list[dict[str, Any]]:
    """The same by nested forward mode, as one writes it from a textbook; then by `hessian` and Gauss' equation."""
    chain, x = surface()
    ours, christoffel, gauss = medians(
        [lambda: by_labkit(chain, x), lambda: _intrinsic(chain, x), lambda: _extrinsic(chain, x)], 20
    )
    right = by_labkit(chain, x)
    return [
        _row("∂Γ by nested jacfwd", right, _intrinsic(chain, x), ours, christoffel, AT_LEAST_TORCH),
        _row("second derivatives by nested jacfwd, Gauss by hand", right, _extrinsic(chain, x), ours, gauss, None),
    ]


def _row(
    what: str, ours: Tensor, theirs: Tensor, ours_ms: float, theirs_ms: float, at_least: float | None
) -> dict[str, Any]:
    return {
        "what": what,
        "points": len(ours),
        "relative_difference": float(((ours - theirs) / ours).abs().max()),
        "labkit_ms": ours_ms,
        "peer_ms": theirs_ms,
        "peer_to_labkit": theirs_ms / ours_ms,
        "at_least": at_least,
    }


def _immersed(dim: int, ambient: int, embed: Any) -> tuple[Any, Any]:
    """geomstats' backend, and its manifold immersed by `embed(points, backend)`."""
    import geomstats.backend as gs
    from geomstats.geometry.base import ImmersedSet
    from geomstats.geometry.euclidean import Euclidean

    class Surface(ImmersedSet):  # type: ignore[misc]
        def _define_embedding_space(self) -> Any:
            return Euclidean(dim=ambient)

        def immersion(self, point: Any) -> Any:
            return embed(point, gs)

    return gs, Surface(dim=dim)


def _intrinsic(chain: Chain, x: Tensor) -> Tensor:
    """From the metric alone: Γ from its derivatives, the Riemann tensor from those of Γ; `inv` is safe under vmap."""

    def metric(p: Tensor) -> Tensor:
        J = jacfwd(lambda q: chain(q[None])[0])(p)
        return J.mT @ J

    def christoffel(p: Tensor) -> Tensor:
        dg = jacfwd(metric)(p)  # ∂_k g_ij at [i, j, k]
        lowered = (dg + dg.transpose(1, 2) - dg.permute(2, 0, 1)) / 2  # at [l, i, j], symmetric in the last two
        return torch.einsum("cl,lij->cij", torch.linalg.inv(metric(p)), lowered)

    def scalar(p: Tensor) -> Tensor:
        gamma, d_gamma = christoffel(p), jacfwd(christoffel)(p)  # ∂_k Γ^c_ij at [c, i, j, k]
        ricci = (
            torch.einsum("kijk->ij", d_gamma)
            - torch.einsum("kikj->ij", d_gamma)
            + torch.einsum("kkl,lij->ij", gamma, gamma)
            - torch.einsum("kjl,lik->ij", gamma, gamma)
        )
        return (torch.linalg.inv(metric(p)) * ricci).sum()

    return vmap(scalar)(x)


def _extrinsic(chain: Chain, x: Tensor) -> Tensor:
    """K = (⟨II_00, II_11⟩ − |II_01|²) / det g for two directions, twice: what is left to write with Gauss in mind."""

    def at(p: Tensor) -> Tensor:
        return chain(p[None])[0]

    J, H = vmap(jacfwd(at))(x), vmap(jacfwd(jacfwd(at)))(x)
    Q, R = torch.linalg.qr(J)
    flat = H.flatten(2)
    form = (flat - Q @ (Q.mT @ flat)).view_as(H)
    numerator = (form[..., 0, 0] * form[..., 1, 1] - form[..., 0, 1] ** 2).sum(1)
    return 2 * numerator / R.diagonal(dim1=1, dim2=2).prod(1) ** 2
