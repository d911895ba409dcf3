"""Explorers of lesson A3: how strongly a network feels a turn, all round the orbit, and a walk that it does not."""

import functools
import math
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from labkit.chain import Chain
from labkit.geometry.null_curves import null_curve
from labkit.lessons.explorer import Control, Explorer
from labkit.networks import mlp
from labkit.networks.actions import CircleAction, rotation
from labkit.networks.symmetric import Invariants
from labkit.plots import matrices, pictures, style
from labkit.training import datasets, loop
from labkit.training.augmentation import Moved

__all__ = ["EXPLORERS"]

SHOWN = {"upright only": 0.0, "turned up to 30°": math.pi / 6, "turned all ways": math.pi}
INVARIANT = "invariant by design"
NETWORKS = (*SHOWN, INVARIANT)
FINE = 73  # points of an orbit, 5° apart
TIME, STEPS = 3.0, 40


@functools.cache
def _turn() -> CircleAction:
    return rotation(8)


@functools.cache
def _data() -> datasets.Dataset:
    return datasets.digits(scaling="unit", dtype=torch.float64)


@functools.cache
def _digits() -> Tensor:
    """The first test image of each class, (10, 64)."""
    x, y = _data().test
    return torch.stack([x[y == k][0] for k in range(10)])


@functools.cache
@torch.enable_grad()
def _trained(name: str, activation: str, seed: int) -> Chain:
    """A network that saw digits moved so, or one that cannot tell them apart, trained alike."""
    if name == INVARIANT:
        head = mlp(3, 64, activation, 1.2, 0.1, n_in=148, n_out=10, seed=seed, dtype=torch.float64)
        net = taught = Chain([Invariants(_turn()), *head])
    else:
        net = mlp(4, 64, activation, 1.2, 0.1, n_in=64, n_out=10, seed=seed, dtype=torch.float64)
        taught = Chain([Moved(_turn(), SHOWN[name]), *net])
    loop.fit(taught, _data(), epochs=30, batch_size=128, seed=seed, progress=False)
    return net.requires_grad_(False)


@functools.cache
@torch.no_grad()
def _usual(name: str, activation: str, seed: int) -> float:
    """How far a step of length 1 from one digit towards another picture moves the logits, root mean square."""
    x = _data().test.inputs
    step = nn.functional.normalize(x[100:200] - x[:100])[..., None]
    moved = _trained(name, activation, seed).linearize(x[:100]) @ step
    return float(moved.square().sum(1).mean().sqrt())


@functools.cache
@torch.no_grad()
def _orbit(name: str, digit: int, activation: str, seed: int) -> tuple[Tensor, Tensor]:
    """All round the orbit of a digit: relative sensitivity to the turn (FINE,), and the logits (FINE, 10)."""
    angles = torch.linspace(-math.pi, math.pi, FINE, dtype=torch.float64)
    orbit = _turn().move(_digits()[digit].expand(FINE, -1), angles)
    step = nn.functional.normalize(_turn().velocity(orbit))[..., None]
    net = _trained(name, activation, seed)
    felt = (net.linearize(orbit) @ step).norm(dim=(1, 2))
    return felt / _usual(name, activation, seed), net(orbit)


@torch.no_grad()
def orbit(angle: int, network: str, digit: int, activation: str = "tanh", seed: int = 0) -> dict[str, Any]:
    """A digit turned by an angle in degrees, its velocity there, and how strongly the turn is felt all round."""
    felt, logits = _orbit(network, digit, activation, seed)
    here = round((angle + 180) / 360 * (FINE - 1))
    now = _turn().move(_digits()[digit][None], math.radians(angle))
    chance, label = logits[here].softmax(0).max(0)
    return {
        "angle": angle,
        "digit": digit,
        "picture": now.reshape(8, 8),
        "velocity": _turn().velocity(now).reshape(8, 8),
        "felt": felt.numpy(),
        "here": here,
        "right": (logits.argmax(1) == digit).numpy(),
        "said": f"{int(label)}, {100 * float(chance):.0f} %",
    }


def draw_orbit(data: dict[str, Any], axes: list[Axes]) -> None:
    """The digit, its velocity, and the sensitivity all round, magenta where the answer is wrong."""
    left, middle, right = axes
    pictures.grey(left, data["picture"], f"says {data['said']}", note="turned digit $x$")
    matrices.image(middle, data["velocity"], scale=4.0, note="its velocity $Gx$")
    degrees = np.linspace(-180, 180, FINE)
    right.set(xlim=(-180, 180), ylim=(-0.06, 3.3), xticks=[-180, -90, 0, 90, 180])
    right.set(xlabel="turned by (degrees)", ylabel="felt, relative to\nsteps towards other pictures")
    style.reference(right, y=1)
    felt = data["felt"].clip(max=3.25)
    right.plot(degrees, felt, color=style.INK, lw=1.6, zorder=3)
    wrong = np.where(data["right"], np.nan, felt)
    right.plot(degrees, wrong, color=style.BOUNDARY, lw=3.6, zorder=2, solid_capstyle="butt")
    right.plot(data["angle"], felt[data["here"]], "o", ms=8, color=style.MEASURED, mec=style.INK, zorder=5)
    if not data["right"].all():
        right.text(-174, 3.02, "wrong answers", color=style.BOUNDARY, size=9, path_effects=style.HALO)
    right.set_title(f"here {data['felt'][data['here']]:.2f}, mean {data['felt'].mean():.2f}")


def say_orbit(data: dict[str, Any]) -> str:
    """Sensitivity here and all round, and the answers."""
    felt = data["felt"]
    return (
        f"the network says {data['said']}, and feels the turn {felt[data['here']]:.2f} times as strongly as "
        f"steps towards other pictures; all round {felt.mean():.2f} on average, {felt.max():.2f} at most, and "
        f"{100 * data['right'][:-1].mean():.0f} % of the answers are right"
    )


@functools.cache
def _paths(activation: str, seed: int) -> Tensor:
    """Null curves from every digit (second axis) towards every digit (third), (STEPS + 1, 10, 10, 64)."""
    start, end = _digits().repeat_interleave(10, 0), _digits().repeat(10, 1)
    net = _trained("upright only", activation, seed)
    return null_curve(net, start, end, STEPS, time=TIME, method="midpoint").reshape(-1, 10, 10, 64)


@torch.no_grad()
def walk(share: int, way: str, digit: int, target: int, activation: str = "tanh", seed: int = 0) -> dict[str, Any]:
    """Where a walk from one digit towards another has come after a share of its time, in per cent."""
    start, end = _digits()[digit], _digits()[target]
    if way == "straight on":
        now = end + math.exp(-TIME * share / 100) * (start - end)
    else:
        now = _paths(activation, seed)[share * STEPS // 100, digit, target]
    logits = _trained("upright only", activation, seed)(torch.stack([start, now]))
    return {
        "picture": now.reshape(8, 8),
        "change": (now - start).reshape(8, 8),
        "target": target,
        "logits": logits.numpy(),
        "walked": float((now - start).norm()),
        "moved": float((logits[1] - logits[0]).norm()),
        "left": float((end - now).norm()),
        "said": f"{int(logits[1].argmax())}, {100 * float(logits[1].softmax(0).max()):.0f} %",
    }


def draw_walk(data: dict[str, Any], axes: list[Axes]) -> None:
    """The picture, what was changed in it, and the ten logits, then and now."""
    left, middle, right = axes
    pictures.grey(left, data["picture"], f"says {data['said']}", note=f"{data['left']:.2f} from that {data['target']}")
    matrices.image(middle, data["change"], scale=1.0, note=f"changed, {data['walked']:.2f} long")
    then, now = data["logits"]
    right.set(xlim=(-0.7, 9.7), ylim=(-22, 22), xticks=range(10), xlabel="class", ylabel="logit")
    right.grid(False, axis="x")
    right.bar(range(10), now, 0.72, color=style.MEASURED, zorder=2)
    for place, height in enumerate(then):
        right.plot([place - 0.42, place + 0.42], [height, height], color=style.INK, lw=1.8, zorder=4)
    right.text(9.6, -20.5, "lines: at the start", ha="right", size=9, color=style.NOTE, path_effects=style.HALO)
    style.reference(right, y=0)
    right.set_title(f"the logits moved by {data['moved']:.3f}")


def say_walk(data: dict[str, Any]) -> str:
    """How far pixels and logits have moved."""
    return (
        f"the picture has moved by {data['walked']:.2f} and is {data['left']:.2f} from the target, the logits have "
        f"moved by {data['moved']:.3f}, and the network says {data['said']}"
    )


ANGLES = range(-180, 181, 15)
EXPLORERS = {
    "A3": Explorer(
        id="A3",
        title="How strongly a network feels a turn",
        compute=orbit,
        draw=draw_orbit,
        controls=[
            Control("angle", ANGLES, 0, "turned by", lambda a: f"{a}°"),
            Control("network", NETWORKS, "upright only", "trained on digits"),
            Control("digit", range(10), 2, "digit"),
        ],
        summary=say_orbit,
        snapshot={"angle": (0, 60), "network": NETWORKS},
        static={"angle": range(-180, 181, 30), "network": NETWORKS},
        widths=(1, 1, 2.1),
        size=(7.2, 2.9),
        gap=0.62,
    ),
    "A3.walk": Explorer(
        id="A3.walk",
        title="A walk from one digit towards another",
        compute=walk,
        draw=draw_walk,
        controls=[
            Control("share", range(0, 101, 10), 40, "walked for", lambda s: f"{s} % of the time"),
            Control("way", ("unseen steps only", "straight on"), "unseen steps only", "by"),
            Control("digit", range(10), 3, "from the"),
            Control("target", range(10), 0, "towards the"),
        ],
        summary=say_walk,
        snapshot={"share": (20, 100), "way": ("unseen steps only", "straight on")},
        static={"share": range(0, 101, 20), "way": ("unseen steps only", "straight on"), "target": (0, 1, 4, 8)},
        widths=(1, 1, 2.1),
        size=(7.2, 2.9),
        gap=0.62,
    ),
}
