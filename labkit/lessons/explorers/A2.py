"""Explorers of lesson A2: the metric as a field of ellipses over three photographs, and a segment on its way."""

import copy
import functools
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from labkit.chain import Chain
from labkit.geometry import geodesics, metric
from labkit.geometry.planes import Plane, plane_through
from labkit.lessons.explorer import Control, Explorer
from labkit.networks import mlp
from labkit.plots import curves, ellipses, style
from labkit.training import datasets, loop

__all__ = ["EXPLORERS"]

DEPTH, WIDTH, REACH, FINE = 6, 64, 27.0, 49
EPOCHS = (0, 1, 2, 4, 8)
PHOTOGRAPHS = ("trouser", "dress", "boot")


@functools.cache
def _data() -> datasets.Dataset:
    return datasets.fashion_mnist(dtype=torch.float64)


@functools.cache
def _photographs() -> tuple[Tensor, Plane]:
    """The first test image of three classes, (3, 784), and the plane through them."""
    data = _data()
    first = [int((data.test.labels == data.names.index(name)).nonzero()[0]) for name in PHOTOGRAPHS]
    images = data.test.inputs[first]
    return images, plane_through(images)


@functools.cache
@torch.enable_grad()
def _trained(activation: str, seed: int) -> dict[int, Chain]:
    """One network, kept after each number of epochs."""
    net = mlp(DEPTH, WIDTH, activation, 1.4, 0.3, n_in=784, n_out=10, seed=seed, dtype=torch.float64)
    kept = {0: copy.deepcopy(net)}

    def keep(epoch: int) -> None:
        if epoch in EPOCHS:
            kept[epoch] = copy.deepcopy(net)

    loop.fit(net, _data(), epochs=max(EPOCHS), lr=1e-3, batch_size=100, seed=seed, each_epoch=keep, progress=False)
    return kept


@functools.cache
@torch.no_grad()
def _margins(activation: str, seed: int, epochs: int) -> tuple[Tensor, Tensor]:
    """Coordinates (n,) of a fine grid, and there each class's logit minus the largest of the others, (10, n, n)."""
    _, plane = _photographs()
    grid = plane.grid(FINE, REACH)
    logits = _trained(activation, seed)[epochs](plane.at(grid))
    first, second = logits.topk(2, dim=1).values.T[..., None]
    margins = logits - torch.where(logits == first, second, first)
    return grid[:FINE, 1], margins.mT.reshape(-1, FINE, FINE)


@torch.no_grad()
def field(depth: int, epochs: int, activation: str = "tanh", seed: int = 0) -> dict[str, Any]:
    """The metric that the network up to a depth induces on a 13 × 13 grid of the slice."""
    images, plane = _photographs()
    at = plane.grid(13, 24.0)
    net = _trained(activation, seed)[epochs]
    g = metric.pullback_metric(net.linearize(plane.at(at)), plane.basis, depths=[depth])[0]
    shapes = metric.ellipse(g)
    log_volume = shapes.log_volume
    return {
        "at": at,
        "ellipses": shapes,
        "mean": round(float(log_volume.mean()), 12) + 0.0,
        "tint": (log_volume - log_volume.mean()).numpy(),
        "distortion": shapes.log_distortion.exp().numpy(),
        "margins": _margins(activation, seed, epochs),
        "pictures": images.reshape(3, 28, 28),
        "corners": plane.corners,
    }


def draw_field(data: dict[str, Any], axes: list[Axes]) -> None:
    """The field, and beside it the distortion and the log-volume of each ellipse: the key to the colours."""
    left, right = axes
    ellipses.plane(left, REACH)
    ellipses.boundary(left, *data["margins"])
    ellipses.field(left, data["at"], data["ellipses"], data["tint"], size=3.7, reach=4.0)
    ellipses.thumbnails(left, data["pictures"], data["corners"], 8.5)
    left.set_title("equal-length steps, each rescaled")
    right.set(xscale="log", xlim=(0.94, 32), ylim=(-4.8, 4.8), xlabel="distortion, longer / shorter axis")
    right.set(xticks=(ticks := [1, 2, 5, 10, 20]), xticklabels=ticks, ylabel="log-volume minus its mean (nats)")
    style.reference(right, y=0)
    look: dict[str, Any] = {"edgecolors": style.INK, "linewidths": 0.4, **style.stretch([4.0])}
    right.scatter(data["distortion"].clip(max=30), data["tint"], 22, data["tint"], zorder=3, **look)
    middle = float(np.median(data["distortion"]))
    right.plot([middle, middle], [-4.8, 4.8], color=style.INK, lw=1, zorder=2)
    right.text(middle * 1.06, 4.3, f"median {middle:.2f}", color=style.INK, path_effects=style.HALO)
    right.set_title(f"mean log-volume ${data['mean']:.2f}$")


def say_field(data: dict[str, Any]) -> str:
    """Distortion and volume in numbers."""
    ratio = data["distortion"]
    return (
        f"the distortion is {np.median(ratio):.2f} in the median, {ratio.max():.1f} at most; "
        f"the log-volume is {data['mean']:.2f} on average and spreads over {np.ptp(data['tint']):.1f} nats"
    )


@torch.no_grad()
def journey(
    depth: int, a: float, b: float, start: str, network: str, activation: str = "tanh", seed: int = 0
) -> dict[str, Any]:
    """A straight segment from a photograph to (a, b), and its image at a depth in the plane where it is widest."""
    images, plane = _photographs()
    epochs = max(EPOCHS) if network == "trained" else 0
    net = _trained(activation, seed)[epochs]
    begin, end = plane.corners[PHOTOGRAPHS.index(start)], torch.tensor([a, b], dtype=torch.float64)
    t = torch.linspace(0, 1, 121, dtype=torch.float64)[:, None]
    segment = begin + t * (end - begin)
    image = net.states(plane.at(segment))[depth]
    speed = image.diff(dim=0).norm(dim=1)
    centred = image - image.mean(0)
    chance, label = net(plane.at(segment[[0, -1]])).softmax(1).max(1)
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:2]
    flat = centred @ axes.mT * torch.sign(axes @ (image[-1] - image[0]) + 1e-300)
    steps = speed / speed.mean().clamp(min=1e-300)
    length = float(geodesics.curve_length(net, plane.at(segment)[None], depths=[depth])[0, 0])
    return {
        "segment": segment,
        "image": flat,
        "log_speed": steps.clamp(min=1e-6).log().numpy(),
        "before": float((end - begin).norm()),
        "length": length,
        "chord": float((image[-1] - image[0]).norm()),
        "depth": depth,
        "said": [f"{_data().names[k]} {100 * p:.0f} %" for k, p in zip(label.tolist(), chance.tolist(), strict=True)],
        "margins": _margins(activation, seed, epochs),
        "pictures": images.reshape(3, 28, 28),
        "corners": plane.corners,
    }


def draw_journey(data: dict[str, Any], axes: list[Axes]) -> None:
    """The segment on the slice, and its image; both orange where length is made."""
    left, right = axes
    ellipses.plane(left, REACH)
    ellipses.boundary(left, *data["margins"])
    ellipses.thumbnails(left, data["pictures"], data["corners"], 8.5)
    curves.coloured(left, data["segment"], data["log_speed"], reach=1.5)
    left.set_title(f"in the slice: length {data['before']:.1f}")
    image = data["image"]
    reach = 2.0 ** np.ceil(np.log2(1.1 * max(float(image.abs().max()), 0.5)))  # coarse steps: axes seldom redrawn
    right.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    right.set(xlabel="first principal direction", ylabel="second")
    right.plot(*image[[0, -1]].T, color=style.QUIET, ls=":", lw=1.4, zorder=1)
    curves.coloured(right, image, data["log_speed"], reach=1.5)
    for near, far, words in ((0, 12, data["said"][0]), (-1, -13, data["said"][1])):
        x, y = image[near].tolist()
        side = -1 if image[far, 1] > y else 1  # where the curve does not go
        across = float(np.clip(x, -0.6 * reach, 0.6 * reach))  # words stay inside
        right.text(
            across, y + 0.07 * side * reach, words, ha="center", va="bottom" if side > 0 else "top",
            path_effects=style.HALO, zorder=8,
        )  # fmt: skip
    for height, words, color in ((0.09, "faster than its average", style.CHAOTIC), (0.02, "slower", style.ORDERED)):
        right.text(0.02, height, words, transform=right.transAxes, color=style.dark(color), size=9)
    right.set_title(f"at depth {data['depth']}: length {data['length']:.2f}, chord {data['chord']:.2f}")


def say_journey(data: dict[str, Any]) -> str:
    """Length before, after, and of the chord."""
    if not data["before"]:
        return "the segment is a point"
    factor, bend = data["length"] / data["before"], data["length"] / max(data["chord"], 1e-300)
    return (
        f"a segment of length {data['before']:.1f} has an image of length {data['length']:.2f}, {factor:.2f} times as "
        f"long, and {bend:.2f} times as long as the straight line between its ends; the network says "
        f"{data['said'][0]} at its start and {data['said'][1]} at its end"
    )


def _layers(depth: int) -> str:
    return {0: "0 (input)", DEPTH: f"{DEPTH} (logits)"}.get(depth, str(depth))


SPOTS = tuple(float(s) for s in range(-24, 25, 4))
EXPLORERS = {
    "A2": Explorer(
        id="A2",
        title="The metric of a network over three photographs",
        compute=field,
        draw=draw_field,
        controls=[
            Control("depth", range(DEPTH + 1), 2, "depth", _layers),
            Control("epochs", EPOCHS, 8, "epochs of training"),
        ],
        summary=say_field,
        snapshot={"depth": (0, 2, 6), "epochs": (0, 8)},
        static={"depth": range(DEPTH + 1), "epochs": (EPOCHS[0], EPOCHS[-1])},
        widths=(1.3, 1),
        size=(7.2, 3.9),
    ),
    "A2.curve": Explorer(
        id="A2.curve",
        title="A straight segment and its image",
        compute=journey,
        draw=draw_journey,
        controls=[
            Control("depth", range(DEPTH + 1), DEPTH, "depth", _layers),
            Control("a", SPOTS, 12.0, "end along e₁", lambda s: f"{s:g}"),
            Control("b", SPOTS, -12.0, "end along e₂", lambda s: f"{s:g}"),
            Control("start", PHOTOGRAPHS, "trouser", "from the"),
            Control("network", ("trained", "untrained"), "trained", "network"),
        ],
        summary=say_journey,
        snapshot={"depth": (1, 6), "network": ("trained", "untrained")},
        static={"depth": (0, 1, 2, 4, 6), "a": (-12.0, 0.0, 12.0, 24.0), "b": (-12.0, 0.0, 20.0)},
        click=("a", "b"),
        widths=(1, 1),
        size=(7.2, 3.6),
    ),
}
