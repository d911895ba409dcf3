"""First derivatives and the curves made of them: labkit against `torch.func` and stochman, in float64."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import jacfwd, jacrev, vmap

from benchmarks.timing import medians
from labkit import Chain
from labkit.geometry import geodesics
from labkit.networks import mlp

SIZES = [(8, 50, 64), (16, 10, 128)]  # (B, L, n)


def by_torch() -> list[dict[str, Any]]:
    """All of Df of a deep tanh network: `linearize(x).dense()` against `vmap(jacfwd)` and `vmap(jacrev)`."""
    _keep_memory()
    rows = []
    for batch, depth, width in SIZES:
        chain = mlp(depth, width, "tanh", sigma_w=1.2, sigma_b=0.1, dtype=torch.float64).requires_grad_(False)
        x = torch.randn(batch, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

        def at(p: Tensor, chain: Chain = chain) -> Tensor:
            return chain(p[None])[0]

        def ours(chain: Chain = chain, x: Tensor = x) -> Tensor:
            return chain.linearize(x).dense()

        for name, transform in (("jacfwd", jacfwd), ("jacrev", jacrev)):
            theirs = vmap(transform(at))
            rows.append(_row(f"{name}, B={batch} L={depth} n={width}", ours, lambda f=theirs, x=x: f(x)))
    return rows


def by_stochman() -> list[dict[str, Any]]:
    """All of Df by stochman's `nnj.Sequential`, which carries the Jacobian along in the forward pass."""
    from stochman import nnj

    _keep_memory()
    rows = []
    for batch, depth, width in SIZES:
        torch.manual_seed(0)
        layers = [kind for _ in range(depth) for kind in (nn.Linear(width, width), nn.Tanh())]
        chain = Chain(layers).double().requires_grad_(False)
        peer = nnj.Sequential(*(_like(nnj, layer) for layer in layers)).double().requires_grad_(False)
        x = torch.randn(batch, width, dtype=torch.float64)
        rows.append(_row(
            f"nnj, B={batch} L={depth} n={width}",
            lambda chain=chain, x=x: chain.linearize(x).dense(),
            lambda peer=peer, x=x: peer(x, jacobian=True)[1],
        ))  # fmt: skip
    return rows


def geodesics_by_stochman() -> list[dict[str, Any]]:
    """An arc of a great circle through a sphere's usual coordinates: how far from its plane each party's curve runs.

    stochman's is a cubic spline moved by 150 steps of Adam, its default; labkit's is as its relaxation leaves it, which
    is the like, and then refined by shooting, its default.
    """
    from stochman.manifold import EmbeddedManifold

    def embed(p: Tensor) -> Tensor:
        polar, azimuth = p[..., 0], p[..., 1]
        return torch.stack([polar.sin() * azimuth.cos(), polar.sin() * azimuth.sin(), polar.cos()], -1)

    class Sphere(EmbeddedManifold):  # type: ignore[misc]
        def embed(self, points: Tensor, jacobian: bool = False) -> Any:
            return (embed(points), vmap(jacfwd(embed))(points)) if jacobian else embed(points)

    x0 = torch.tensor([[0.9, 0.0]], dtype=torch.float64)
    x1 = torch.tensor([[1.2, 1.4]], dtype=torch.float64)
    normal = nn.functional.normalize(torch.linalg.cross(embed(x0), embed(x1)))[0]
    times = torch.linspace(0, 1, 64, dtype=torch.float64)
    chain = Chain([embed])

    def theirs() -> Tensor:
        return Sphere().connecting_geodesic(x0, x1)[0](times).detach().reshape(-1, 2)

    def off_plane(path: Tensor) -> float:
        return float((embed(path) @ normal).abs().max())

    rows = []
    for refine in (False, True):

        def ours(refine: bool = refine) -> Tensor:
            return geodesics.geodesic(chain, x0, x1, refine=refine, progress=False).path[0]

        labkit, peer = medians([ours, theirs], 3)
        rows.append({
            "what": f"a geodesic of the unit sphere, labkit with refine={refine}",
            "labkit_off_by": off_plane(ours()),
            "peer_off_by": off_plane(theirs()),
            "labkit_ms": labkit,
            "peer_ms": peer,
            "peer_to_labkit": peer / labkit,
        })  # fmt: skip
    return rows


def _like(nnj: Any, layer: nn.Module) -> nn.Module:
    if isinstance(layer, nn.Tanh):
        return nnj.Tanh()
    twin = nnj.Linear(layer.in_features, layer.out_features)
    twin.load_state_dict(layer.state_dict())
    return twin


def _row(what: str, ours: Any, theirs: Any) -> dict[str, Any]:
    found, other = ours(), theirs()
    labkit, peer = medians([ours, theirs], 7)
    return {
        "what": what,
        "difference_to_largest": float((found - other).abs().max() / found.abs().max()),
        "labkit_ms": labkit,
        "peer_ms": peer,
        "peer_to_labkit": peer / labkit,
    }


def _keep_memory() -> None:
    """Have glibc keep freed memory for all parties alike; benchmarks/jacobians.py says what fresh pages cost."""
    torch.empty(2**25 - 2**13, dtype=torch.uint8)
