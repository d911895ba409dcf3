"""Curves and what is measured along them: where length is made, how fast an error falls, laws, what depth changes.

Points are means of what their axis shows, with bars of 4 standard errors: geometric means on logarithmic axes.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from labkit.plots import style
from labkit.plots._measured import LOOKS, mean_and_bars, powers, ticks
from labkit.plots._numbers import array

__all__ = ["by_depth", "coloured", "laws", "orders", "strip"]


def coloured(
    ax: Axes, points: ArrayLike, log_speed: ArrayLike, *, reach: float | int, width: float | int = 3.0
) -> LineCollection:
    """A curve in the plane, orange where it runs faster than on average, blue where slower; a dot at its start.

    Args:
        ax: axes with their limits set.
        points: (T, 2).
        log_speed: (T − 1,) of the pieces, minus the log of the mean speed.
        reach: the log speed of full colour.
        width: of the line, in points.
    """
    at = array(points)
    pieces = np.stack([at[:-1], at[1:]], axis=1)
    smooth: dict[str, Any] = {"snap": False}  # snapped to pixels, a level line has a thick and a thin edge
    ax.plot(*at.T, color=style.INK, lw=width + 1.2, zorder=3, solid_capstyle="round", **smooth)
    line = LineCollection(
        list(pieces), array=array(log_speed), lw=width, zorder=4, capstyle="round",
        **smooth, **style.stretch([reach]),
    )  # fmt: skip
    ax.add_collection(line, autolim=False)
    ax.plot(*at[0], "o", ms=7, color=style.INK, mec="white", mew=1.2, zorder=7)
    ax.plot(*at[-1], "s", ms=7, color=style.INK, mec="white", mew=1.2, zorder=7)
    return line


def orders(
    x: ArrayLike,
    samples: Mapping[str, ArrayLike],
    slopes: Mapping[str, float | int],
    title: str,
    *,
    xlabel: str,
    ylabel: str,
    over: str = "repetitions",
    apart: float | int = 1,
) -> Figure:
    """Errors on two logarithmic axes, points measured, and a line of a given slope through the smallest of each.

    Args:
        x: (n,), positive.
        samples: name → (repetitions, n), positive; shown are geometric means and 4 standard errors of the logs. A
            name that is a phase wears its colour.
        slopes: name → the exponent of the line.
        title: what the picture claims.
        xlabel: name and unit of `x`.
        ylabel: name and unit of the samples.
        over: what the repetitions are, such as "networks".
        apart: by which factor, in `x`, the points of the samples stand beside each other.
    """
    at = array(x)
    figure, ax = style.new(size=(7.2, 3.0))
    ax.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel, title=title)
    powers(ax.xaxis)
    powers(ax.yaxis)
    if at.max() < 32 * at.min():  # one power of ten would be the only label
        ax.set_xticks(at, labels=[f"{value:g}" for value in at])
        ax.set_xticks([], minor=True)
    plain = itertools.cycle((("-", {"fmt": "o"}), ("--", {"fmt": "s", "mfc": "white"})))
    shifts = float(apart) ** (np.arange(len(samples)) - (len(samples) - 1) / 2)
    along = at * np.where(at == at.max(), shifts.max(), 1) * np.where(at == at.min(), shifts.min(), 1)
    for shift, (name, values) in zip(shifts, samples.items(), strict=True):
        mean, bars = mean_and_bars(values, log=True)
        phase = name if name in style.PHASES else None
        anchor = int(np.argmin(mean))
        line = mean[anchor] * (along / at[anchor]) ** slopes[name]
        dashes, look = (style.PHASES[phase].dashes, {}) if phase else next(plain)
        style.predicted(ax, along, line, phase, ls=dashes, label=f"{name}, slope ${slopes[name]:g}$")
        style.measured(ax, at * shift, mean, bars, phase, **look)
    style.label_lines(ax)
    _say_points(figure, f"geometric mean of {len(array(values))} {over}{', set side by side' * (apart != 1)}")
    return style.shown_once(figure)


def laws(
    x: ArrayLike,
    samples: Mapping[str, ArrayLike],
    predictions: Mapping[str, ArrayLike],
    title: str,
    *,
    xlabel: str,
    ylabel: str,
    log: bool = False,
    over: str = "networks",
    lines: str = "the law",
    apart: float | int = 0,
) -> Figure:
    """Laws as lines and, on them or not, what was measured as points; nothing is fitted.

    Points are means of what the vertical axis shows: of the samples where it is linear, since a law speaks of
    expectations; of their logs, the geometric mean, where it is logarithmic, since bars then stand for factors.

    Args:
        x: (n,), positive if `log`.
        samples: name → (repetitions, n), positive if `log`. A name whose last word is a phase wears its colour.
        predictions: name → (n,), of the same names.
        title: what the picture claims.
        xlabel: name and unit of `x`.
        ylabel: name and unit of the samples.
        log: whether both axes are logarithmic.
        over: what the repetitions are.
        lines: what the lines are.
        apart: by how much, in units of `x`, the points of the samples stand beside each other.
    """
    at = array(x)
    figure, ax = style.new(size=(7.2, 3.2))
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if log:
        ax.set(xscale="log", yscale="log")
    shifts = apart * (np.arange(len(samples)) - (len(samples) - 1) / 2)
    for shift, (name, values), plain in zip(shifts, samples.items(), itertools.cycle(LOOKS)):
        look: style.Phase = style.PHASES.get(name.split()[-1], plain)
        edge = style.dark(look.color)
        style.predicted(ax, at, array(predictions[name]), color=edge, ls=look.dashes, label=f"_{name}")
        mean, bars = mean_and_bars(values, log=log)
        drawn = style.measured(ax, at + shift, mean, bars, color=look.color, fmt=look.marker, ecolor=edge, mec=edge)
        drawn.lines[0].set_label(name)  # so that a name stands beside its points
    if log:
        ticks(ax.yaxis)
    if len(at) <= 10:
        ax.set_xticks(at, labels=[_as_number(value) for value in at])
        ax.set_xticks([], minor=True)
    style.label_lines(ax)
    counts = " and ".join(str(count) for count in dict.fromkeys(len(array(values)) for values in samples.values()))
    what = f"{'geometric ' * log}mean of {counts} {over}"
    _say_points(figure, what, f"Lines: {lines}. ")
    return style.shown_once(figure)


def by_depth(
    samples: Mapping[str, ArrayLike],
    title: str,
    *,
    ylabel: str,
    unchanged: tuple[float | int, str] | None = None,
    over: str = "repetitions",
) -> Figure:
    """A quantity at every depth, mean over repetitions ± 4 standard errors, one line a name: first grey, then amber.

    Args:
        samples: name → (repetitions, depths), before and after.
        title: what the picture claims.
        ylabel: name and unit of the quantity.
        unchanged: a value with its name, a dotted hairline.
        over: what the repetitions are, such as "networks".
    """
    figure, ax = style.new(size=(7.2, 3.0))
    if unchanged is not None:
        style.reference(ax, y=unchanged[0])
        ax.text(
            0.99, unchanged[0], unchanged[1], transform=ax.get_yaxis_transform(), ha="right", va="bottom",
            size=9, color=style.NOTE,
        )  # fmt: skip
    looks = ((style.QUIET, "o", "--"), (style.MEASURED, "s", "-"))
    for (name, values), (color, marker, dashes) in zip(samples.items(), itertools.cycle(looks)):
        mean, bars = mean_and_bars(values, log=False)
        depths = np.arange(1, len(mean) + 1)
        ax.plot(depths, mean, color=color, ls=dashes, lw=1.2, label=f"{name}, {mean[-1]:.2f}")
        style.measured(ax, depths, mean, bars, color=color, fmt=marker, ecolor=style.dark(color), mec=style.dark(color))
    ax.set(xlabel="depth", ylabel=ylabel, title=title, xticks=depths)
    style.label_lines(ax)
    _say_points(figure, f"mean of {len(array(values))} {over}")
    return style.shown_once(figure)


def _as_number(value: float | int) -> str:
    """Halves, quarters, … as fractions."""
    return f"1/{1 / value:g}" if 0 < value < 1 and 1 / value == round(1 / value) else f"{value:g}"


def _say_points(figure: Figure, what: str, before: str = "") -> None:
    text = f"{before}Points: {what}; bars: $\\pm$ 4 standard errors."  # the text font has no ±
    figure.supxlabel(text, x=0.01, ha="left", size=9, color=style.NOTE)


def strip(pictures: ArrayLike, gaps: ArrayLike, title: str, *, ends: tuple[str, str], note: str = "") -> Figure:
    """A walk of photographs in a row, the distance between the images of neighbours written below.

    Args:
        pictures: (T, h, w), the larger the darker.
        gaps: (T − 1,), the distances.
        title: what the picture claims.
        ends: the names of the first and the last photograph.
        note: what the distances are, below them.
    """
    photographs, lengths = array(pictures), array(gaps)
    figure, axes = style.new(1, len(photographs), size=(7.2, 1.65))
    low, high = photographs[[0, -1]].min(), photographs[[0, -1]].max()
    for ax, picture in zip(axes, photographs, strict=True):
        ax.imshow(picture, cmap="gray_r", vmin=low, vmax=high)
        ax.grid(False)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(True)
    for ax, name in zip(axes[[0, -1]], ends, strict=True):
        ax.set_title(name, loc="center", size=10)
    speeds = np.log(lengths / lengths.mean())
    colors = style.STRETCH(style.stretch(speeds)["norm"](speeds))  # as `coloured`: orange where length is made
    for ax, length, color in zip(axes[1:], lengths, colors, strict=True):
        ax.text(
            -0.08, -0.12, f"{length:.2f}", transform=ax.transAxes, ha="center", va="top", size=10,
            bbox={"boxstyle": "round,pad=0.2", "fc": (*color[:3], 0.45), "lw": 0},
        )  # fmt: skip
    figure.suptitle(title, x=0.01, ha="left", size=11)
    if note:
        figure.supxlabel(note, x=0.01, ha="left", size=9, color=style.NOTE)
    return style.shown_once(figure)
