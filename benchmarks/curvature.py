"""Scalar curvature of a network R² → R⁵⁰ (3×64 tanh) at 16 points: by its jet, by nested torch.func, and by geomstats.

Nested torch.func is what one writes without a library, Gauss' equation on `vmap(jacfwd(jacfwd(f)))`: with a call for
each derivative, or all of them from one. geomstats differentiates Christoffel symbols, one point at a time, so it is
asked for one; it needs an environment of its own (numpy < 2.4) and its autograd backend: on torch it is wrong.
"""

import importlib.util
import os
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor
from torch.func import jacfwd, vmap

from benchmarks.timing import medians
from labkit import Chain
from labkit.geometry import curvature
from labkit.jets import Jet
from labkit.networks import mlp

POINTS = 16
AT_LEAST = {"torch.func, a call each": 3.0, "torch.func, one call": 3.0, "geomstats": 1000.0}


def rows(runs: int = 20) -> list[dict[str, float | str]]:
    """One row a peer: times in ms for the batch, its ratio to labkit's with the target, and the largest difference."""
    torch.set_num_threads(1)
    chain, x = network(), points()
    with torch.no_grad():
        exact = by_labkit(chain, x)
        ways = {"torch.func, a call each": by_torch_func, "torch.func, one call": by_one_torch_func}
        ours, *theirs = medians([partial(way, chain, x) for way in (by_labkit, *ways.values())], runs)
        found = [
            _row(peer, ours, time, way(chain, x) - exact)
            for (peer, way), time in zip(ways.items(), theirs, strict=True)
        ]
    if importlib.util.find_spec("geomstats") is None:
        return [*found, {"peer": "geomstats", "labkit_ms": ours, "note": "not measured: it is not installed here"}]
    values: list[Tensor] = []
    (one,) = medians([lambda: values.append(by_geomstats(chain, x[:1]))], 1)
    note = f"{version('geomstats')}, the time of one point times {POINTS}"
    return [*found, _row("geomstats", ours, one * POINTS, values[-1] - exact[:1], note)]


def _row(peer: str, ours: float, theirs: float, difference: Tensor, note: str = "") -> dict[str, float | str]:
    return {
        "peer": peer,
        "labkit_ms": ours,
        "peer_ms": theirs,
        "ratio": theirs / ours,
        "at_least": AT_LEAST[peer],
        "largest_difference": float(difference.abs().max()),
        "note": note,
    }


def network() -> Chain:
    """Links h → W tanh(h) + b after an affine one: three hidden layers of 64."""
    chain = mlp(4, 64, "tanh", sigma_w=1.5, sigma_b=0.1, n_in=2, n_out=50, dtype=torch.float64)
    return chain.requires_grad_(False)


def points() -> Tensor:
    """(16, 2)."""
    return torch.randn(POINTS, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def by_labkit(chain: Chain, x: Tensor) -> Tensor:
    """The scalar curvature (B,) by exact rules for each link."""
    return curvature.scalar_curvature(chain.jet(x))


def by_torch_func(chain: Chain, x: Tensor) -> Tensor:
    """The same (B,) by nested forward modes of the whole network."""

    def f(point: Tensor) -> Tensor:
        return chain(point[None])[0]

    return curvature.scalar_curvature(Jet(chain(x), vmap(jacfwd(f))(x), vmap(jacfwd(jacfwd(f)))(x)))


def by_one_torch_func(chain: Chain, x: Tensor) -> Tensor:
    """The same (B,), value and first derivative handed out while the second is computed."""

    def value(point: Tensor) -> tuple[Tensor, Tensor]:
        found = chain(point[None])[0]
        return found, found

    def first(point: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        J, found = jacfwd(value, has_aux=True)(point)
        return J, (J, found)

    second, (J, found) = vmap(jacfwd(first, has_aux=True))(x)
    return curvature.scalar_curvature(Jet(found, J, second))


def by_geomstats(chain: Chain, x: Tensor) -> Tensor:
    """The same (B,) by geomstats' metric pulled back through the network, written in its own numpy."""
    os.environ["GEOMSTATS_BACKEND"] = "autograd"
    import geomstats.backend as gs
    from geomstats.geometry.base import ImmersedSet
    from geomstats.geometry.euclidean import Euclidean

    layers = [tuple(p.numpy() for p in _linear(link)) for link in chain]

    class Image(ImmersedSet):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(dim=2)

        def _define_embedding_space(self) -> Euclidean:
            return Euclidean(50)

        def immersion(self, point: Any) -> Any:
            for index, (W, b) in enumerate(layers):
                point = gs.einsum("ij,...j->...i", W, gs.tanh(point) if index else point) + b
            return point

    metric = Image().metric
    return torch.tensor([float(metric.scalar_curvature(gs.array(point.numpy()))) for point in x], dtype=torch.float64)


def _linear(link: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    linear = getattr(link, "linear", link)
    return linear.weight, linear.bias
