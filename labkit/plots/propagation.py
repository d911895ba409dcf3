"""Signal propagation: quantities through depth beside their theory, two maps, a phase diagram, trainable depth.

All pictures take numbers and compute none; phases wear the course's colours.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike

from labkit.plots import style
from labkit.plots._measured import powers
from labkit.plots._numbers import array

__all__ = ["critical_lines", "heat", "maps", "phase_diagram", "through_depth"]

Curves = Mapping[str, tuple[ArrayLike, ArrayLike | None]]


def through_depth(
    panels: Mapping[str, Curves],
    title: str,
    *,
    over: str = "networks",
    log: bool = True,
    xlabel: str | Sequence[str] = "depth",
) -> Figure:
    """Quantities at every depth, one panel each and one line a phase: the theory a line, networks points with bars.

    Args:
        panels: what is measured → phase → (samples (repetitions, depths), prediction (depths,) or None).
        title: what the picture claims.
        over: what the repetitions are.
        log: whether the quantities are positive and drawn on a logarithmic axis.
        xlabel: what the columns, from 0, are; one for all panels, or one each.
    """
    figure, axes = style.new(1, len(panels), size=(7.2, 3.0), squeeze=False)
    words = [xlabel] * len(panels) if isinstance(xlabel, str) else xlabel
    for ax, word, (name, curves) in zip(axes[0], words, panels.items(), strict=True):
        ax.set(xlabel=word, yscale="log" if log else "linear")
        if log:  # the text font has no minus
            powers(ax.yaxis)
        ax.set_title(name, size=10)
        for phase, (samples, prediction) in curves.items():
            table = array(samples)
            depths = np.arange(table.shape[1])
            mean, half = table.mean(0), 4 * table.std(0, ddof=1) / np.sqrt(len(table))
            if prediction is not None:
                style.predicted(ax, depths, array(prediction), phase, lw=1.4)
            style.measured(ax, depths, mean, half, phase, ms=4)
            ax.plot(depths, mean, lw=0, label=phase, color=style.PHASES[phase].color)
    for ax in axes[0]:
        style.label_lines(ax)
    figure.suptitle(title, x=0.01, ha="left", size=11)
    theory = "lines: infinite width; " if any(p is not None for c in panels.values() for _, p in c.values()) else ""
    text = f"Points: mean of {len(table)} {over}; {theory}bars: $\\pm$ 4 standard errors."
    figure.supxlabel(text, x=0.01, ha="left", size=9, color=style.NOTE)
    return style.shown_once(figure)


def maps(
    lengths: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]],
    angles: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]],
    title: str,
) -> Figure:
    """The length map and the correlation map, one line a phase, the diagonal dotted; what one network does as points.

    Args:
        lengths: phase → (q, V(q)) of the line and (q, q') of the points.
        angles: phase → (c, C(c)) of the line and (c, c') of the points.
        title: what the picture claims.
    """
    figure, axes = style.new(1, 2, size=(7.2, 3.3))
    words = (("squared length $q$", "after one more layer"), ("cosine $c$", "after one more layer"))
    for ax, curves, (xlabel, ylabel) in zip(axes, (lengths, angles), words, strict=True):
        ax.set(xlabel=xlabel, ylabel=ylabel)
        for phase, (x, y, at, seen) in curves.items():
            style.predicted(ax, array(x), array(y), phase, label=phase)
            style.measured(ax, array(at), array(seen), None, phase, ms=4.5)
        ends = [float(array(next(iter(curves.values()))[0])[k]) for k in (0, -1)]
        ax.plot(ends, ends, color=style.QUIET, ls=":", lw=1.2, zorder=1)
    style.label_lines(axes[0])  # at c = 1 all lines meet
    figure.suptitle(title, x=0.01, ha="left", size=11)
    text = "Lines: infinite width; points: one draw of weights, shared by the phases; dotted: unchanged."
    figure.supxlabel(text, x=0.01, ha="left", size=9, color=style.NOTE)
    return style.shown_once(figure)


def heat(
    accuracy: ArrayLike,
    depths: ArrayLike,
    squared_scales: ArrayLike,
    curve: tuple[ArrayLike, ArrayLike, str],
    title: str,
    *,
    mark: tuple[float, str] | None = None,
    note: str = "",
) -> Figure:
    """Test accuracy over depth and σ_w², in per cent in each cell, with a predicted depth drawn over it.

    Args:
        accuracy: (depths, scales), shares.
        depths: (n,), ascending; rows, spaced evenly.
        squared_scales: (m,), ascending and evenly spaced; columns.
        curve: σ_w², the predicted depth there, its name.
        title: what the picture claims.
        mark: a scale that a dotted upright names, if any.
        note: how it was computed, below.
    """
    table, rows, columns = 100 * array(accuracy), array(depths), array(squared_scales)
    figure, ax = style.new(size=(7.2, 3.4))
    step = columns[1] - columns[0]
    reach = (columns[0] - step / 2, columns[-1] + step / 2)
    cells = ax.imshow(
        table, cmap="cividis", vmin=0, vmax=100, origin="lower", aspect="auto",
        extent=(*reach, -0.5, len(rows) - 0.5),
    )  # fmt: skip
    ax.grid(False)
    small = table.size > 60
    for i, j in np.ndindex(table.shape):
        if not small:
            shade = "black" if table[i, j] > 55 else "white"
            halo = [withStroke(linewidth=3, foreground=cells.to_rgba(table[i, j]))]
            ax.text(columns[j], i - 0.28, f"{table[i, j]:.0f}", ha="center", va="center", color=shade, size=9,
                    path_effects=halo, zorder=5)  # fmt: skip
    x, y, name = array(curve[0]), array(curve[1]), curve[2]
    heights = np.interp(np.log(y), np.log(rows), np.arange(len(rows)), left=np.nan, right=np.nan)
    ax.plot(x, heights, color="white", lw=3.4, zorder=3)
    ax.plot(x, heights, color=style.INK, lw=1.6, zorder=4)
    last = int(np.flatnonzero(np.isfinite(heights))[-1]) if np.isfinite(heights).any() else 0
    tip = (x[last], np.nan_to_num(heights[last], nan=len(rows) - 1))
    offset, side = ((0, 10), "center") if small else ((7, -4), "left")  # small cells are narrower than the name
    ax.annotate(name, tip, offset, textcoords="offset points", ha=side, path_effects=style.HALO, zorder=6)
    if mark is not None:
        ax.axvline(mark[0], color="white", ls=":", lw=2.0, zorder=3)
        ax.annotate(mark[1], (mark[0], -0.5), (3, 4), textcoords="offset points", path_effects=style.HALO, zorder=5)
    ax.set(
        xlim=reach, ylim=(-0.5, len(rows) - 0.5), xticks=columns, yticks=range(len(rows)),
        xlabel="$\\sigma_w^2$", ylabel="depth", title=title,
    )  # fmt: skip
    ax.set_xticklabels([f"{value:.2f}" for value in columns], size=8 if small else None)
    ax.set_yticklabels([f"{value:g}" for value in rows])
    figure.supxlabel(f"Numbers: per cent right. {note}" if not small else note, x=0.01, ha="left", size=9,
                     color=style.NOTE)  # fmt: skip
    return style.shown_once(figure)


def critical_lines(
    lines: Mapping[str, tuple[ArrayLike, ArrayLike]],
    title: str,
    *,
    begins: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Where χ₁ = 1 in the plane of σ_b and σ_w, one line an activation, named at its end, or where a circle
    marks its beginning.

    Args:
        lines: name → (σ_b, σ_w); where σ_w is not finite there is no line, and one finite value is a point.
        title: what the picture claims.
        begins: name → the point (σ_b, σ_w) at which its line begins, where that is not on the grid.
    """
    figure, ax = style.new(size=(7.2, 3.2))
    dashes = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.3, 1, 1.3)), (0, (3, 1)), (0, (8, 2)))
    for k, (name, pair) in enumerate(lines.items()):
        x, y = array(pair[0]), array(pair[1])
        x, y = x[np.isfinite(y)], y[np.isfinite(y)]
        color = style.DEPTH(0.25 + 0.15 * k)
        if len(x) == 1:
            ax.plot(x, y, style.PHASES["relu"].marker, color=style.RELU, ms=8)
            ax.annotate(name, (x[0], y[0]), (8, 2), textcoords="offset points", color=style.dark(style.RELU))
        elif begins and name in begins:  # such lines nearly coincide on the right: named where they begin
            start = begins[name]
            ax.plot([start[0], *x], [start[1], *y], ls=dashes[k % len(dashes)], color=color)
            ax.plot(*start, "o", mfc="white", mec=style.INK, ms=7)
            ax.annotate(name, start, (7, 7), textcoords="offset points", va="center",
                        color=style.dark(color), path_effects=style.HALO)  # fmt: skip
        else:
            ax.plot(x, y, ls=dashes[k % len(dashes)], color=color, label=name)
    if begins:
        text = "Circles: the stable part of a line begins here; the part before, which keeps no length, is not drawn."
        figure.supxlabel(text, x=0.01, ha="left", size=9, color=style.NOTE)
    ax.set(xlabel="$\\sigma_b$", ylabel="critical $\\sigma_w$", title=title)
    style.label_lines(ax)
    return style.shown_once(figure)


def phase_diagram(ax: Axes, sigma_w: ArrayLike, sigma_b: ArrayLike, phases: ArrayLike, at: tuple[Any, Any]) -> None:
    """The plane of σ_w (across) and σ_b: ordered blue, chaotic orange, grey where no length is stable.

    Args:
        ax: where to draw.
        sigma_w: (n,), ascending.
        sigma_b: (m,), ascending.
        phases: (n, m), -1 ordered, 0 critical, 1 chaotic, 2 unbounded.
        at: the chosen point.
    """
    x, y, sign = array(sigma_w), array(sigma_b), array(phases).T
    ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]), xlabel="$\\sigma_w$", ylabel="$\\sigma_b$")
    colors = [style.ORDERED, style.CHAOTIC, style.QUIET]
    ax.pcolormesh(x, y, sign, cmap=ListedColormap(colors), norm=BoundaryNorm([-1.5, 0.5, 1.5, 2.5], 3), alpha=0.3,
                  shading="nearest", linewidth=0, rasterized=True)  # fmt: skip
    ax.grid(False)
    for value, words in ((-1, "ordered"), (1, "chaotic"), (2, "no stable length")):
        rows, columns = np.nonzero(sign == value)
        if len(rows) > 0.05 * sign.size:
            middle = int(np.argmin(np.hypot(columns - np.median(columns), rows - np.median(rows))))
            ax.text(x[columns[middle]], y[rows[middle]], words, ha="center", va="center", color=style.NOTE)
    ax.plot(*at, "o", ms=9, mfc="white", mec=style.INK, mew=2, zorder=5, clip_on=False)
