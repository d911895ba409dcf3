"""Two explorers that compute nothing of interest: one has two scales and a click, the other is slow and fails at 3."""

import time

import numpy as np

from labkit.lessons.explorer import Control, Explorer
from labkit.plots import style

SCALES = tuple(np.linspace(0.5, 4, 15).round(2).tolist())
BIASES = tuple(np.linspace(0, 2, 9).round(2).tolist())


def compute(sigma_w, sigma_b, activation):
    depth = np.arange(11)
    slope = {"tanh": 1, "relu": 2}[activation] * np.log(sigma_w) / 2
    return {"at": (sigma_w, sigma_b), "depth": depth, "log_length": sigma_b + slope * depth}


def draw(data, axes):
    plane, curve = axes
    plane.set(xlim=(0.4, 4.2), ylim=(-0.1, 2.1), xlabel=r"weight scale $\sigma_w$", ylabel=r"bias scale $\sigma_b$")
    plane.set_title("Choose a network")
    plane.plot(*data["at"], "o", ms=9, color=style.CHAOTIC)
    curve.set(xlim=(0, 10), ylim=(-8, 16), xlabel="depth", ylabel="log length (nats)", title="A prediction")
    style.predicted(curve, data["depth"], data["log_length"])


def say(data):
    return f"log length ends at {data['log_length'][-1]:.2f} nats, at e^{data['log_length'][-1]:.1f}"


def wait(x):
    time.sleep(0.3)
    if x == 3:
        raise ValueError("there is nothing at three")
    return x


def draw_end(x, ax):
    ax.set(xlim=(0, 1), ylim=(0, 30))
    ax.plot([0, 1], [0, x])


scales = Explorer(
    id="demo.scales",
    title="Two scales",
    compute=compute,
    draw=draw,
    controls=[
        Control("sigma_w", SCALES, 1.5, "weight scale σ_w"),
        Control("sigma_b", BIASES, 0.5, "bias scale σ_b"),
        Control("activation", ("tanh", "relu"), "tanh", "activation"),
    ],
    summary=say,
    snapshot={"sigma_w": (0.5, 4.0)},
    static={"sigma_w": SCALES[::2], "sigma_b": BIASES[::4]},
    click=("sigma_w", "sigma_b"),
    widths=(1, 1.2),
)
slow = Explorer(
    id="demo.slow",
    title="Slow",
    compute=wait,
    draw=draw_end,
    controls=[Control("x", range(1, 31), 1, "x")],
    summary=lambda x: f"the line ends at {x}",
    snapshot={"x": (1, 2)},
    static={"x": (1, 2)},
)
