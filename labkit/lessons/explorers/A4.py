"""Explorer of A4: a clickable phase diagram, and what a small network at the chosen point does to a circle."""

import functools
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from labkit.geometry.spectra import log_spectrum
from labkit.lessons.explorer import Control, Explorer
from labkit.networks import mlp
from labkit.plots import propagation, style
from labkit.theory.meanfield import MeanField

__all__ = ["EXPLORERS"]

WIDTH, DEEPEST, POINTS = 60, 12, 301
WEIGHTS = (0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.2, 2.6, 3.0)
BIASES = (0.0, 0.1, 0.3, 0.5, 0.8, 1.2)
FLOOR = -24.0  # nats, below which a singular value is drawn at the edge
ACTIVATIONS = ("tanh", "erf", "hardtanh", "relu", "gelu", "silu")


@functools.cache
def _diagram(activation: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """σ_w (n,), σ_b (m,), phase (n, m) and q* where it is finite and positive, else 1."""
    sigma_w = torch.linspace(WEIGHTS[0], WEIGHTS[-1], 49, dtype=torch.float64)
    sigma_b = torch.linspace(BIASES[0], BIASES[-1], 25, dtype=torch.float64)
    theory = MeanField(activation, sigma_w[:, None], sigma_b)
    q = theory.q_star
    return sigma_w, sigma_b, theory.phase, torch.where(q.isfinite() & (q > 1e-6), q, 1.0)


@functools.cache
def _chi(activation: str) -> Tensor:
    sigma_w, sigma_b, _, _ = _diagram(activation)
    return MeanField(activation, sigma_w[:, None], sigma_b).chi_1


@torch.no_grad()
def at_point(sigma_w: float, sigma_b: float, depth: int, activation: str = "tanh", seed: int = 2026) -> dict[str, Any]:
    """The circle's image at a depth, the spectrum of Df at one of its points, and squared gradients by layer."""
    grid_w, grid_b, phases, lengths = _diagram(activation)
    where = (int((grid_w - sigma_w).abs().argmin()), int((grid_b - sigma_b).abs().argmin()))
    q, chi_1 = float(lengths[where]), float(_chi(activation)[where])
    angle = torch.linspace(0, 2 * torch.pi, POINTS, dtype=torch.float64)
    unit = torch.stack([angle.cos(), angle.sin()], 1)
    generator = torch.Generator().manual_seed(seed)
    frame = torch.linalg.qr(torch.randn(WIDTH, 2, generator=generator, dtype=torch.float64)).Q
    net = mlp(depth, WIDTH, activation, sigma_w, sigma_b, seed=seed, dtype=torch.float64)
    start = (WIDTH * q) ** 0.5 * unit @ frame.mT
    image = net(start)
    lin = net.linearize(start[:1])
    back, gradients = torch.eye(WIDTH, dtype=torch.float64), [1.0]
    for layer in reversed(range(depth)):
        back = (back @ lin[layer : layer + 1].dense())[0]
        gradients.append(float(back.square().sum()) / WIDTH)
    centred = image - image[:-1].mean(0)
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:2]
    seen = centred @ axes.mT
    left, _, right = torch.linalg.svd(seen.mT @ unit)  # turned so that the image faces the circle
    return {
        "diagram": (grid_w, grid_b, phases),
        "point": (sigma_w, sigma_b),
        "phase": int(phases[where]),
        "chi": chi_1,
        "image": (seen @ left @ right / (WIDTH * q) ** 0.5).numpy(),
        "ratio": float(image.diff(dim=0).norm(dim=1).sum() / start.diff(dim=0).norm(dim=1).sum()),
        "logs": log_spectrum(lin).values[0].numpy(),
        "gradients": np.array(gradients[::-1]),
        "depth": depth,
    }


def _color(phase: int) -> str:
    return {-1: style.ORDERED, 0: style.CRITICAL, 1: style.CHAOTIC, 2: style.NOTE}[phase]


def _name(data: dict[str, Any]) -> str:
    """The phase in a word that agrees with three decimals of χ₁."""
    name = {-1: "ordered", 0: "critical", 1: "chaotic", 2: "without a stable length"}[data["phase"]]
    near = abs(data["phase"]) == 1 and f"{data['chi']:.3f}" == "1.000"
    return f"{name}, barely" if near else name


def draw(data: dict[str, Any], axes: list[Axes]) -> None:
    """Phase diagram, circle, spectrum, gradients."""
    diagram, circle, spectrum, gradient = axes
    color = _color(data["phase"])
    sigma_w, sigma_b, phases = data["diagram"]
    propagation.phase_diagram(diagram, sigma_w, sigma_b, phases, data["point"])
    diagram.set_title(f"{_name(data)}: $\\chi_1$ = {data['chi']:.3f}")
    image = data["image"]
    reach = 2.0 ** np.ceil(np.log2(max(1.1, 1.05 * float(np.abs(image).max()))))
    circle.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
    around = np.linspace(0, 2 * np.pi, 120)
    circle.plot(np.cos(around), np.sin(around), color=style.QUIET, ls=":", lw=1.2)
    circle.plot(*image.T, color=color, lw=1.3)
    circle.set_title(f"the circle: arc length $\\times\\,${data['ratio']:.3g}")
    logs = np.clip(data["logs"], FLOOR, None)
    spectrum.set(
        xlim=(FLOOR, 16),
        ylim=(0, len(logs) * 0.6),
        xlabel="log singular value (first bar: all below)",
        ylabel="how many",
    )
    spectrum.hist(logs, bins=np.linspace(FLOOR, 16, 41).tolist(), color=color, alpha=0.75)
    spectrum.axvline(0, color=style.QUIET, ls=":", lw=1.2)
    spectrum.text(0.4, len(logs) * 0.54, "isometry", color=style.NOTE, size=9)
    spectrum.set_title("spectrum of $Df$")
    layers, norms = np.arange(data["depth"] + 1), data["gradients"]
    gradient.set(
        xlim=(-0.3, DEEPEST + 0.3), ylim=(-10, 20), xlabel="layer", ylabel="log mean squared gradient",
        title="gradient: points; $\\chi_1$: line",
    )  # fmt: skip
    line = (data["depth"] - layers) * np.log(max(data["chi"], 1e-30))
    gradient.plot(layers, line, color=style.INK, lw=1.4)
    gradient.plot(layers, np.log(np.maximum(norms, 1e-30)), "o", color=color, mec=style.dark(color), ms=5)


def say(data: dict[str, Any]) -> str:
    """Phase, arc length, extremes of the spectrum, gradient."""
    largest, least = data["logs"][0], data["logs"][-1]
    small = f"{least:.1f} nats" if np.isfinite(least) else "minus infinity (rank is lost)"
    return (
        f"{_name(data)}, χ₁ = {data['chi']:.3f}; {WIDTH} units make the circle {data['ratio']:.3g} times as long; log "
        f"singular values run from {small} to {largest:.1f} nats; the mean squared gradient at layer 0 is "
        f"{data['gradients'][0]:.3g} times that at the end"
    )


EXPLORERS = {
    "A4": Explorer(
        id="A4",
        title="The phase diagram: click a point, see its network",
        compute=at_point,
        draw=draw,
        controls=[
            Control("sigma_w", WEIGHTS, 1.8, "weight scale σ_w"),
            Control("sigma_b", BIASES, 0.3, "bias scale σ_b"),
            Control("depth", (1, 2, 4, 8, DEEPEST), 8, "depth"),
            Control("activation", ACTIVATIONS, "tanh", "activation"),
        ],
        summary=say,
        snapshot={"sigma_w": (1.0, 1.4, 2.6)},
        static={"sigma_w": (0.6, 1.0, 1.4, 1.8, 2.6), "sigma_b": (0.0, 0.3, 0.8), "depth": (2, 8)},
        click=("sigma_w", "sigma_b"),
        widths=(1, 1),
        heights=(1, 1),
        size=(7.2, 5.8),
    )
}
