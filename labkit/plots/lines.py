"""Singular values against their number: equal ones in a row, lost ones below a break of the axis."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from labkit.plots import style
from labkit.plots._numbers import array

__all__ = ["spectra"]


def spectra(logs: Mapping[str, ArrayLike], title: str, *, first: int = 1, floor: float = -20.0) -> Figure:
    """Log singular values against their number; where rank is lost a cross stands below a break of the axis.

    Args:
        logs: name → (k,) log singular values, descending; −inf where rank is lost.
        title: what the picture claims.
        first: the first number shown.
        floor: where the crosses stand, in nats.
    """
    figure, ax = style.new(size=(7.2, 3.0))
    last = max(len(array(values)) for values in logs.values())
    ax.set(xlim=(first - 0.7, last + 0.7), ylim=(floor - 2, None), title=title)
    ax.set(xlabel="number of the singular value", ylabel="log $s$ (natural)")
    style.reference(ax, y=floor)
    many = len(logs) > 1
    gone = sum(np.isneginf(array(values)).sum() for values in logs.values())
    zero = "exactly zero" if many else f"{gone} of {last} exactly zero"
    ax.text(first - 0.5, floor, zero, va="bottom", color=style.NOTE)
    colors = style.DEPTH(np.linspace(0.15, 1, len(logs)))
    shifts = np.linspace(-0.12, 0.12, len(logs)) if many else [0.0]
    for (name, values), color, shift in zip(logs.items(), colors, shifts, strict=True):
        heights = array(values)[first - 1 :]
        number, lost = np.arange(first, first + len(heights)) + shift, ~np.isfinite(heights)
        ax.plot(number, np.where(lost, np.nan, heights), "o", ms=6, color=color, label=name)
        ax.plot(number[lost], np.full(lost.sum(), floor), "x", ms=8, mew=2, color=color)
    ticks = [tick for tick in ax.get_yticks() if floor < tick < ax.get_ylim()[1]]
    ax.set_yticks([floor, *ticks], labels=[r"$-\infty$", *(f"${tick:g}$" for tick in ticks)])
    slash: Any = [(-1, -0.5), (1, 0.5)]  # twice across the axis: below, it is no scale
    across = ax.get_yaxis_transform()
    ax.plot(
        [0, 0], [floor + 1.6, floor + 2.2], ls="", marker=slash, ms=9, mec=style.INK, transform=across, clip_on=False
    )
    if first > 1:
        left_out = f"Values 1 to {first - 1}, no smaller than the first one shown, are left out."
        figure.supxlabel(left_out, x=0.01, ha="left", size=9, color=style.NOTE)
    if many:  # the one entry of a legend would look like one more value
        ax.legend(loc="center left")
    return style.shown_once(figure)
