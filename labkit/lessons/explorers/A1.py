"""Explorers of lesson A1: a nudge on its way through depth, and the matrices of a chain beside their product."""

import functools
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from labkit.chain import Chain
from labkit.geometry import spectra
from labkit.lessons.explorer import Control, Explorer
from labkit.networks import mlp, resnet
from labkit.plots import matrices, style
from labkit.training import datasets

__all__ = ["EXPLORERS"]

WIDTH = 64  # the pixels of a digit: every state can be drawn as an 8 × 8 picture


@functools.cache
def _digits(seed: int) -> tuple[Tensor, Tensor]:
    """Two test images of different classes, (64,) each."""
    test = datasets.digits(scaling="sample", dtype=torch.float64, seed=seed).test
    other = int((test.labels != test.labels[0]).nonzero()[0])
    return test.inputs[0], test.inputs[other]


def _layers(depth: int, sigma_w: float, activation: str, residual: bool, seed: int) -> Chain:
    options: dict[str, Any] = {"sigma_w": sigma_w, "sigma_b": 0.0, "seed": seed, "dtype": torch.float64}
    if residual:
        return resnet(depth, WIDTH, activation, scale=depth**-0.5, **options)
    return mlp(depth, WIDTH, activation, **options)


def nudge(depth: int, direction: str, size: float, seed: int = 0) -> dict[str, Any]:
    """The state at a depth, a unit nudge pushed there by the chain, and the true difference divided by its size."""
    x, other = _digits(seed)
    nudges = {
        "one pixel": torch.eye(WIDTH, dtype=x.dtype)[28],
        "towards another digit": (other - x) / (other - x).norm(),
        "noise": torch.nn.functional.normalize(
            torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed), dtype=x.dtype), dim=0
        ),
    }
    v = nudges[direction]
    chain = _layers(8, 1.5, "tanh", residual=True, seed=seed)[:depth] if depth else None
    if chain is None:
        return {"state": x, "pushed": v, "true": v, "depth": depth, "size": size, "error": 0.0}
    with torch.no_grad():
        state = chain(x[None])[0]
        pushed = (chain.linearize(x[None]) @ v[None, :, None])[0, :, 0]
        true = (chain((x + size * v)[None])[0] - state) / size
    error = float((pushed - true).norm() / true.norm())
    return {"state": state, "pushed": pushed, "true": true, "depth": depth, "size": size, "error": error}


def draw_nudge(data: dict[str, Any], axes: list[Axes]) -> None:
    """Three pictures of 8 × 8; the two nudges share one scale."""
    reach = float(max(data["pushed"].abs().max(), data["true"].abs().max()))
    depth = data["depth"]
    titles = {"state": f"state $h_{depth}$", "pushed": "nudge, by the chain", "true": "nudge, in truth"}
    for ax, (name, title) in zip(axes, titles.items(), strict=True):
        matrices.image(ax, data[name].reshape(8, 8), title, scale=None if name == "state" else reach)
    axes[2].set_xlabel(f"the chain is off by {100 * data['error']:.1f} per cent", size=9, color=style.NOTE, labelpad=3)


def say_nudge(data: dict[str, Any]) -> str:
    """Lengths and the error of the linear picture."""
    length, error = float(data["pushed"].norm()), data["error"]
    return f"per unit of its length the nudge becomes {length:.2f}; the chain misses the true difference by {error:.1%}"


def product(depth: int, activation: str, skip: str, seed: int = 0) -> dict[str, Any]:
    """The Jacobian of the last link, the product of all, and the log singular values of the product."""
    chain = _layers(depth, 1.4, activation, residual=skip == "on", seed=seed)
    with torch.no_grad():
        lin = chain.linearize(_digits(seed)[0][None])
        spectrum = spectra.log_spectrum(lin)
        last, whole = lin[-1:].dense()[0], lin.dense()[0]
    return {"last": last, "product": whole, "logs": spectrum.values[0].numpy(), "depth": depth}


def draw_product(data: dict[str, Any], axes: list[Axes]) -> None:
    """Two matrices as images, and the spectrum of the product."""
    link, whole, spectrum = axes
    matrices.image(link, data["last"], f"link {data['depth']}: $J_{{{data['depth']}}}$")
    matrices.image(whole, data["product"], "product: $Df$")
    logs = data["logs"]
    seen = np.isfinite(logs)
    low = -5.0 * data["depth"] - 3  # of the depth alone, so that skip on and off can be compared
    spectrum.set(xlim=(0, WIDTH + 1), ylim=(low, 8), xlabel="number of the singular value", ylabel="log $s$ (natural)")
    spectrum.set_title(f"{_alive(logs)} of {WIDTH} above $e^{{-5}} s_1$")
    style.reference(spectrum, y=0)
    style.measured(spectrum, 1 + np.flatnonzero(seen), logs[seen], ms=3.5)


def say_product(data: dict[str, Any]) -> str:
    """How many directions survive, and how far apart the extremes are."""
    logs = data["logs"]
    seen = logs[np.isfinite(logs)]
    lost = len(logs) - len(seen)
    words = f"{_alive(logs)} of {len(logs)} singular values lie within 5 nats of the largest, which is e^{logs[0]:.1f}"
    return f"{words}; {lost} are exactly zero" if lost else f"{words}; the smallest is e^{logs[-1]:.1f}"


def _alive(logs: NDArray[np.float64]) -> int:
    return int((logs > logs[0] - 5).sum())


EXPLORERS = {
    "A1.nudge": Explorer(
        id="A1.nudge",
        title="A nudge on its way through a residual network",
        compute=nudge,
        draw=draw_nudge,
        controls=[
            Control("depth", range(9), 3, "depth", lambda d: f"{d} link{'s' * (d != 1)}"),
            Control("direction", ("towards another digit", "one pixel", "noise"), "towards another digit", "nudge"),
            Control("size", (0.01, 0.1, 0.5, 1.0, 2.0, 4.0), 0.1, "size", lambda s: f"{s:g}"),
        ],
        summary=say_nudge,
        snapshot={"depth": (0, 2, 5, 8)},
        static={"depth": range(9), "size": (0.1, 4.0)},
        widths=(1, 1, 1),
        size=(7.2, 2.9),
        gap=0.3,
    ),
    "A1": Explorer(
        id="A1",
        title="The matrices of a chain and their product",
        compute=product,
        draw=draw_product,
        controls=[
            Control("depth", range(1, 17), 6, "depth", lambda d: f"{d} link{'s' * (d != 1)}"),
            Control("activation", ("tanh", "relu", "gelu", "linear"), "tanh", "activation"),
            Control("skip", ("off", "on"), "off", "skip"),
        ],
        summary=say_product,
        snapshot={"depth": (2, 16), "skip": ("off", "on")},
        static={"depth": (1, 2, 3, 4, 6, 8, 12, 16), "skip": ("off", "on")},
        widths=(1, 1, 1.1),
        size=(7.2, 2.9),
        gap=0.7,
    ),
}
