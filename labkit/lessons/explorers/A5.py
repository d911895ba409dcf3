"""Explorers of A5: a sheet through photographs with its bill of curvature, a loop in it with one readout's extrema."""

import functools
import math
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from labkit.chain import Chain
from labkit.geometry import curvature
from labkit.geometry.planes import Plane, plane_through
from labkit.lessons.explorer import Control, Explorer
from labkit.networks import mlp
from labkit.plots import bending, style
from labkit.training import datasets

__all__ = ["EXPLORERS"]

DEPTH, WIDTH, REACH, SIDE = 6, 64, 24.0, 20
SCALES = (0.5, 1.0, 1.4, 2.0, 3.0)
POINTS, RADIUS, READOUTS = 6_000, 20.0, 1_000


@functools.cache
def _plane() -> Plane:
    """The plane through the first trouser, dress and boot of the test images."""
    data = datasets.fashion_mnist(dtype=torch.float64)
    first = [int((data.test.labels == data.names.index(name)).nonzero()[0]) for name in ("trouser", "dress", "boot")]
    return plane_through(data.test.inputs[first])


def _network(activation: str, sigma_w: float, sigma_b: float, seed: int) -> Chain:
    net = mlp(DEPTH, WIDTH, activation, sigma_w, sigma_b, n_in=784, seed=seed, dtype=torch.float64)
    return net.requires_grad_(False)


def _in_space(points: Tensor) -> Tensor:
    """The points (n, n, m) along their three widest directions, (n, n, 3), the first corner on the negative side."""
    centred = points.flatten(0, 1) - points.mean((0, 1))
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:3]
    seen: Tensor = (centred @ axes.mT).reshape(*points.shape[:2], 3)
    return seen * -torch.sign(seen[0, 0] + 1e-300)


@functools.cache
@torch.no_grad()
def _pieces(sigma_w: float, activation: str, seed: int) -> list[tuple[Tensor, Tensor]]:
    """At every depth the corners of the pieces of the sheet, (n + 1, n + 1, m), and their bills, (n, n, L, L)."""
    plane, net = _plane(), _network(activation, sigma_w, 0.3, seed)
    corners = net.states(plane.at(plane.grid(SIDE + 1, REACH)))
    size = 2 * REACH / SIDE
    middles = plane.at(plane.grid(SIDE, REACH - size / 2))
    found = []
    for depth, jet in enumerate(net.jets(middles, basis=plane.basis, by_link=True)):
        area = size**2 * torch.linalg.det(jet.first.mT @ jet.first).sqrt()
        table = torch.zeros(len(middles), DEPTH, DEPTH, dtype=torch.float64)
        if depth:
            table[:, :depth, :depth] = curvature.bill(jet) * area[:, None, None] / 2  # Gauss' curvature is half
        found.append((corners[depth].reshape(SIDE + 1, SIDE + 1, -1), table.reshape(SIDE, SIDE, DEPTH, DEPTH)))
    return found


def sheet(depth: int, sigma_w: float, activation: str = "tanh", seed: int = 2026) -> dict[str, Any]:
    """The image of the plane at a depth, the curvature of its pieces, and the bill of all of them together."""
    corners, bills = _pieces(sigma_w, activation, seed)[depth]
    points = _in_space(corners)
    tables = [table.sum((0, 1)) for _, table in _pieces(sigma_w, activation, seed)]  # of every depth: one axis for all
    ends = torch.cat([torch.cat([t.sum(1), t.diagonal(), t.sum()[None], t.trace()[None]]) for t in tables])
    seen = float(points.var((0, 1)).sum() / corners.var((0, 1)).sum())
    return {
        "points": points.numpy(),
        "pieces": bills.sum((2, 3)).numpy(),
        "bill": bills.sum((0, 1)).numpy(),
        "seen": seen,
        "within": (float(ends.min()), float(ends.max())),
        "depth": depth,
    }


def draw_sheet(data: dict[str, Any], axes: list[Axes]) -> None:
    """The sheet, and beside it the bill: shares as bars, own entries as ticks."""
    left, right = axes
    tint = np.abs(data["pieces"])
    reach = bending.round_up(max(float(np.quantile(tint, 0.98)), 1e-3))
    bending.sheet(left, data["points"], data["pieces"], reach=reach)
    left.set_title(f"the sheet at depth {data['depth']}")
    grid = f"${SIDE}^2$ pieces (the text: a finer grid, sums differ slightly)"
    words = f"{grid}\nfull colour: $\\pm\\,${reach:g} rad; shown: {100 * data['seen']:.0f} $\\%$ of its variance"
    left.set_xlabel(words, size=9, color=style.NOTE)
    bending.shares(right, data["bill"], within=data["within"])
    right.set_xlabel("integral curvature (rad)\naxis: one for all depths, anew for each weight scale", size=9)
    right.set_title("bar: share of a layer; tick: its own term")


def say_sheet(data: dict[str, Any]) -> str:
    """The sum of the bill and that of its own terms."""
    total, own = data["bill"].sum(), data["bill"].trace()
    if not data["bill"].any():
        return "the sheet is flat, no layer has bent it yet"
    return (
        f"the integral curvature of the sheet is {total:.2f} rad, the sum of the layers' shares; "
        f"their own terms sum to {own:.2f} rad"
    )


@functools.cache
@torch.no_grad()
def _loop(network: str, seed: int) -> list[Tensor]:
    plane = _plane()
    loop = plane.at(plane.circle(POINTS, RADIUS))
    scales = (2**0.5, 0.0) if network == "relu" else (1.4, 0.3)
    return _network(network, *scales, seed).states(loop)


@functools.cache
@torch.no_grad()
def _turning(network: str, seed: int, depth: int) -> tuple[float, Tensor]:
    """Total curvature over π, and the numbers of extrema of random readouts, (READOUTS,)."""
    points = _loop(network, seed)[depth]
    turned = curvature.total_curvature(Chain([torch.nn.Identity()]), points[None], closed=True)
    directions = torch.randn(points.shape[1], READOUTS, generator=torch.Generator().manual_seed(seed)).double()
    rising = points.roll(-1, 0) @ directions > points @ directions
    return float(turned) / math.pi, (rising != rising.roll(1, 0)).sum(0)


@torch.no_grad()
def turn(depth: int, network: str, readout: int, seed: int = 2026) -> dict[str, Any]:
    """The image of a loop in the photographs' plane, seen where it is widest, and one random readout along it."""
    points = _loop(network, seed)[depth]
    turned, counts = _turning(network, seed, depth)
    direction = torch.randn(READOUTS, points.shape[1], generator=torch.Generator().manual_seed(100 + seed))
    values = (points - points.mean(0)) @ direction[readout - 1].double()
    rising = values.roll(-1, 0) > values
    axes = torch.linalg.svd((points - points.mean(0))[::20], full_matrices=False).Vh[:2]
    flat = (points - points.mean(0)) @ axes.mT
    return {
        "loop": (flat / flat.abs().max()).numpy(),
        "values": (values / values.abs().max()).numpy(),
        "extrema": (rising != rising.roll(1, 0)).nonzero()[:, 0].numpy(),
        "turned": turned,
        "mean": float(counts.double().mean()),
        "depth": depth,
    }


def draw_turn(data: dict[str, Any], axes: list[Axes]) -> None:
    """The loop, and the readout with its extrema marked on both."""
    left, right = axes
    thin = slice(None, None, 4)
    left.set(xlim=(-1.15, 1.15), ylim=(-1.15, 1.15), aspect="equal", xlabel="widest direction", ylabel="second")
    loop, at = data["loop"], data["extrema"]
    left.plot(*np.vstack([loop[thin], loop[:1]]).T, color=style.INK, lw=1.5)
    look: dict[str, Any] = {"ls": "", "marker": "o", "ms": 6, "color": style.MEASURED, "mec": style.INK, "mew": 0.8}
    left.plot(*loop[at].T, **look)
    left.set_title(f"at depth {data['depth']} it turns by {data['turned']:.2f} $\\pi$")
    turns = np.arange(len(loop)) / len(loop)
    right.set(xlim=(-0.02, 1.02), ylim=(-1.25, 1.25), xlabel="way round the loop", ylabel="readout, scaled")
    right.plot(turns[thin], data["values"][thin], color=style.INK, lw=1.5)
    right.plot(turns[at], data["values"][at], **look)
    right.set_title(f"{len(at)} extrema; mean of all readouts {data['mean']:.2f}")


def say_turn(data: dict[str, Any]) -> str:
    """The turning and the counts."""
    return (
        f"the image turns by {data['turned']:.2f} π; this readout has {len(data['extrema'])} extrema, "
        f"{READOUTS:,} random ones have {data['mean']:.2f} on average"
    )


def _layers(depth: int) -> str:
    return "0 (input)" if depth == 0 else str(depth)


EXPLORERS = {
    "A5": Explorer(
        id="A5",
        title="Who bent the sheet? The bill of curvature",
        compute=sheet,
        draw=draw_sheet,
        controls=[
            Control("depth", range(DEPTH + 1), 4, "depth", _layers),
            Control("sigma_w", SCALES, 1.4, "weight scale σ_w", lambda scale: f"{scale:g}"),
        ],
        summary=say_sheet,
        snapshot={"depth": (1, 2, 6), "sigma_w": (1.0, 2.0)},
        static={"depth": range(DEPTH + 1), "sigma_w": SCALES[1:]},
        widths=(1, 1),
        size=(7.2, 3.6),
    ),
    "A5.turn": Explorer(
        id="A5.turn",
        title="A loop in the photographs' plane and a random readout",
        compute=turn,
        draw=draw_turn,
        controls=[
            Control("depth", range(DEPTH + 1), DEPTH, "depth", _layers),
            Control("network", ("tanh", "relu"), "tanh", "network"),
            Control("readout", range(1, 5), 1, "readout number"),
        ],
        summary=say_turn,
        snapshot={"depth": (1, 6), "network": ("tanh", "relu")},
        static={"depth": (1, 2, 4, 6), "network": ("tanh", "relu"), "readout": range(1, 4)},
        widths=(1, 1.25),
        size=(7.2, 3.4),
    ),
}
