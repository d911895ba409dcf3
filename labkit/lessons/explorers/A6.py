"""Explorer of lesson A6: width, depth, biases and samples against the spectrum of the Fisher matrix."""

import functools
from typing import Any

import torch
from matplotlib.axes import Axes

from labkit.geometry import fisher
from labkit.lessons.explorer import Control, Explorer
from labkit.networks import mlp
from labkit.plots import eigenvalues
from labkit.theory.wide_fisher import wide_fisher
from labkit.training.random_inputs import on_sphere

__all__ = ["EXPLORERS"]

SIGMA_W = 1.5
LIMITS = (0.03, 300)  # all settings fit, and a change of one is seen


@functools.cache
def spectrum(
    width: int, hidden: int, sigma_b: float, samples: int, activation: str = "tanh", seed: int = 0
) -> dict[str, Any]:
    """All nonzero eigenvalues of one random network with one output, and what the limit of great width says."""
    net = mlp(hidden + 1, width, activation, SIGMA_W, sigma_b, n_in=width, n_out=1, seed=seed, dtype=torch.float64)
    values = fisher.spectrum(net, on_sphere(samples, width, seed), "gaussian")
    law = wide_fisher(activation, SIGMA_W, sigma_b, hidden=hidden)
    total = sum(p.numel() for p in net.parameters())
    return {
        "values": values.numpy(),
        "total": total,
        "mean": float(values.sum()) / total,
        "bulk": float(values[1:].mean()),
        "law_mean": float(law.mean(width)),
        "law_bulk": float(hidden * width * (law.kappa_1 - law.kappa_2) / samples),
        "law_largest": float(law.largest(width, samples)),
    }


def draw_spectrum(data: dict[str, Any], ax: Axes) -> None:
    """The spectrum by number; lines at the predicted outlier and the predicted mean of the others, the bulk."""
    top, bulk = data["law_largest"], data["law_bulk"]
    levels = {f"predicted outlier, {top:.3g}": top, f"predicted bulk, {bulk:.3g}": bulk}
    if top < 1.01 * bulk:
        levels = {f"predicted bulk, {bulk:.3g}, and no outlier": bulk}
    eigenvalues.scree(ax, {"": data["values"]}, data["total"], limits=LIMITS, levels=levels)
    ax.set(xlim=(0.8, 5e5), ylabel="eigenvalue of the Fisher matrix")
    largest = data["values"][0]
    ax.annotate(f"{largest:.3g}", (1, largest), (7, 4), textcoords="offset points", size=10)


def say_spectrum(data: dict[str, Any]) -> str:
    """Zeros, largest, bulk and the mean of all in numbers."""
    largest, top = float(data["values"][0]), data["law_largest"]
    zeros = data["total"] - len(data["values"])
    return (
        f"of {data['total']:,} eigenvalues {zeros:,} are zero; the largest is {largest:.2f}, predicted {top:.2f}; "
        f"the mean of the others is {data['bulk']:.2f}, predicted {data['law_bulk']:.2f}; "
        f"the mean of all is {data['mean']:.5f}, predicted {data['law_mean']:.5f}"
    )


EXPLORERS = {
    "A6": Explorer(
        id="A6",
        title="The spectrum of the Fisher matrix of a random network",
        compute=spectrum,
        draw=draw_spectrum,
        controls=[
            Control("width", (32, 64, 128, 256), 128, "width"),
            Control("hidden", (1, 2, 4), 2, "hidden layers"),
            Control("sigma_b", (0.0, 0.5), 0.5, "σ_b", lambda s: f"{s:g}"),
            Control("samples", (20, 60), 20, "samples"),
        ],
        summary=say_spectrum,
        snapshot={"samples": (20, 60), "sigma_b": (0.5, 0.0)},
        static={"width": (32, 64, 128, 256), "hidden": (1, 2), "sigma_b": (0.0, 0.5), "samples": (20, 60)},
        size=(7.2, 3.6),
    ),
}
