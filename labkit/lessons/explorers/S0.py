"""Explorer of the tour: one circle of inputs on its way through three networks that differ in weight scale alone."""


import functools

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Circle
from torch import Tensor

from labkit.lessons.explorer import Control, Explorer
from labkit.networks import mlp
from labkit.plots import style

__all__ = ["EXPLORERS"]

SCALES = {"ordered": 1.0, "critical": 1.4, "chaotic": 2.5}  # tanh, biases of standard deviation 0.3
WIDTH, POINTS, DEEPEST = 400, 1500, 15


def circle(depth: int, seed: int = 0) -> dict[str, tuple[Tensor, float]]:
    """Phase → the circle's image in its two main directions, in units of the circle's radius, and its length ratio."""
    angle = torch.linspace(0, 2 * torch.pi, POINTS + 1, dtype=torch.float64)
    unit = torch.stack([angle.cos(), angle.sin()], dim=1)
    return {phase: _seen(_images(sigma_w, seed)[depth], unit) for phase, sigma_w in SCALES.items()}


@functools.cache
def _images(sigma_w: float, seed: int) -> list[Tensor]:
    """The circle at every depth, in units of its radius, (points, width) each."""
    generator = torch.Generator().manual_seed(seed)
    plane = torch.linalg.qr(torch.randn(WIDTH, 2, generator=generator, dtype=torch.float64))[0]
    angle = torch.linspace(0, 2 * torch.pi, POINTS + 1, dtype=torch.float64)
    chain = mlp(2 * DEEPEST, WIDTH, "tanh", sigma_w, 0.3, seed=seed, dtype=torch.float64)
    with torch.no_grad():
        settled = chain(plane[:, :1].mT * WIDTH**0.5).norm()  # states keep this size: the circle starts with it
        start = settled * torch.stack([angle.cos(), angle.sin()], dim=1) @ plane.mT
        return [h / settled for h in chain[:DEEPEST].states(start)]


def _seen(image: Tensor, unit: Tensor) -> tuple[Tensor, float]:
    centred = image - image[:-1].mean(0)
    directions = torch.linalg.svd(centred[::10], full_matrices=False)[2][:2]
    seen = centred @ directions.mT
    left, _, right = torch.linalg.svd(seen.mT @ unit)  # turned so that the image faces the circle
    return seen @ left @ right, float(image.diff(dim=0).norm(dim=1).sum()) / (2 * torch.pi)


def draw(data: dict[str, tuple[Tensor, float]], axes: list[Axes]) -> None:
    """Three panels, the original circle dotted."""
    for ax, (phase, (image, ratio)) in zip(axes, data.items(), strict=True):
        color, marker = style.PHASES[phase].color, style.PHASES[phase].marker
        ax.set(xlim=(-1.25, 1.25), ylim=(-1.25, 1.25), aspect="equal", xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.add_patch(Circle((0, 0), 1, fill=False, ec=style.QUIET, ls=":", lw=1))
        ax.plot(*np.asarray(image).T, color=color, lw=1.1)
        ax.plot(*np.asarray(image[0]), marker, color=style.INK, ms=4)
        title = f"$\\sigma_w$ = {SCALES[phase]:.1f}: length $\\times\\,${ratio:.2f}"
        ax.set_title(title, loc="center", color=style.dark(color))


def say(data: dict[str, tuple[Tensor, float]]) -> str:
    """The length ratios in words."""
    ratios = ", ".join(f"{ratio:.2f} times ({phase})" for phase, (_, ratio) in data.items())
    return f"the image of the circle is as long as the circle {ratios}"


EXPLORERS = {
    "S0": Explorer(
        id="S0",
        title="A circle of inputs on its way through three networks, seen in its two main directions",
        compute=circle,
        draw=draw,
        controls=[Control("depth", range(DEEPEST + 1), 3, "depth", lambda d: f"{d} layer{'s' * (d != 1)}")],
        summary=say,
        snapshot={"depth": (0, 3, 8, 15)},
        static={"depth": range(DEEPEST + 1)},
        widths=(1, 1, 1),
        size=(7.2, 2.8),
    )
}
