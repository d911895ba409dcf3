"""Eigenvalues of one large matrix by their number, and what the largest does to descent.

Both axes are logarithmic; eigenvalues that are exactly zero lie as a bar on the floor, as long as they are many.
"""

import itertools
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from labkit.plots import style
from labkit.plots._measured import LOOKS, powers
from labkit.plots._numbers import array

__all__ = ["descent", "numbered", "scree"]


def scree(
    ax: Axes,
    groups: Mapping[str, ArrayLike],
    total: int,
    *,
    limits: tuple[float | int, float | int],
    levels: Mapping[str, float | int] | None = None,
) -> None:
    """The nonzero eigenvalues of each matrix by number, and the zeros of the first as a bar on the floor.

    Args:
        ax: where to draw.
        groups: name → (r,) positive, descending.
        total: how many eigenvalues there are, the zeros included.
        limits: of the vertical axis.
        levels: name → predicted value, a line across with its name.
    """
    ax.set(xscale="log", yscale="log", xlim=(0.8, 2 * total), ylim=limits)
    ax.set_xlabel("number of the eigenvalue, largest first")
    powers(ax.xaxis)
    powers(ax.yaxis)
    for layer, ((name, values), (color, _, marker)) in enumerate(zip(groups.items(), itertools.cycle(LOOKS))):
        heights = array(values)
        number = np.arange(1, len(heights) + 1)
        ax.plot(number, heights, marker, ms=4, color=color, mec=style.dark(color), mew=0.5, zorder=3 - layer / 8)
        if len(groups) > 1:
            ax.annotate(
                name, (number[-1], heights[-1]), (-9, 0), textcoords="offset points", ha="right", va="center", size=9,
                color=style.dark(color), path_effects=style.HALO,
            )  # fmt: skip
    rank = len(array(next(iter(groups.values()))))
    floor = limits[0] * (limits[1] / limits[0]) ** 0.06
    if rank < total:
        ax.plot([rank + 1, total], [floor, floor], color=style.INK, lw=5, solid_capstyle="butt", zorder=3)
        ax.annotate(
            f"{total - rank:,} are zero", (total, floor), (0, 8), textcoords="offset points", ha="right", size=9,
            color=style.INK,
        )  # fmt: skip
    for name, level in (levels or {}).items():
        ax.axhline(level, color=style.PREDICTED, lw=1.2, zorder=2)
        ax.annotate(
            name, (1, level), (-4, 3), xycoords=("axes fraction", "data"), textcoords="offset points", ha="right",
            va="bottom", size=9, color=style.INK, path_effects=style.HALO,
        )  # fmt: skip


def numbered(
    groups: Mapping[str, ArrayLike], total: int, title: str, *, limits: tuple[float | int, float | int]
) -> Figure:
    """`scree` as a figure of its own."""
    figure, ax = style.new(size=(7.2, 3.2))
    scree(ax, groups, total, limits=limits)
    ax.set(title=title, ylabel="eigenvalue")
    return style.shown_once(figure)


def descent(losses: Mapping[str, ArrayLike], title: str) -> Figure:
    """Losses against the number of the step, one line a name.

    Args:
        losses: name → (steps,), positive.
        title: what the picture claims.
    """
    figure, ax = style.new(size=(7.2, 3.0))
    for (name, values), (color, dashes, _) in zip(losses.items(), itertools.cycle(LOOKS)):
        ax.plot(array(values), color=color, ls=dashes, lw=2, label=name)
    ax.set(yscale="log", xlabel="number of steps", ylabel="loss", title=title)
    powers(ax.yaxis)
    style.label_lines(ax)
    return style.shown_once(figure)
