"""Means with their intervals, line under line, so that groups can be compared at a glance."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from labkit.plots import style
from labkit.plots._numbers import array

__all__ = ["intervals"]


def intervals(
    samples: Mapping[tuple[str, str], ArrayLike],
    title: str,
    *,
    xlabel: str,
    references: Mapping[str, float | int] | None = None,
    over: str = "repetitions",
) -> Figure:
    """One line a group, one marker a kind, mean ± 4 standard errors, the mean written above it.

    Args:
        samples: (group, kind) → (repetitions,); at most two kinds, the first filled, the second open.
        title: what the picture claims.
        xlabel: name and unit of the samples.
        references: name → value, dotted hairlines.
        over: what the repetitions are, such as "networks".
    """
    marks, written = dict(references or {}), []
    groups, kinds = (list(dict.fromkeys(key[side] for key in samples)) for side in (0, 1))
    figure, ax = style.new(size=(7.2, 0.62 * len(groups) + 1.15))
    ax.set(xlabel=xlabel, title=title, ylim=(len(groups) - 0.45, -0.75), yticks=range(len(groups)), yticklabels=groups)
    looks = ({"fmt": "o", "mfc": style.MEASURED}, {"fmt": "s", "mfc": "white"})
    for (group, kind), values in samples.items():
        numbers, place = array(values), groups.index(group) + (0.17 if kind == kinds[-1] else -0.17)
        half = 4 * numbers.std(ddof=1) / np.sqrt(len(numbers))
        edge = style.dark(style.MEASURED)
        ax.errorbar(
            numbers.mean(), place, xerr=half, ms=6, mec=edge, ecolor=edge, capsize=2.5, lw=1.2, zorder=3,
            **looks[kinds.index(kind)],
        )  # fmt: skip
        name = ax.annotate(
            f"{kind}, {numbers.mean():.2f}", (numbers.mean() + half, place), (6, 0), textcoords="offset points",
            va="center", size=9, path_effects=style.HALO,
        )  # fmt: skip
        written.append((name, numbers.mean() - half))
    for name, value in marks.items():
        ax.axvline(value, color=style.QUIET, ls=":", lw=1.0, zorder=1)
        ax.annotate(
            name, (value, 1), (3, -2), xycoords=("data", "axes fraction"), textcoords="offset points", va="top",
            size=9, color=style.NOTE,
        )  # fmt: skip
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
    left, right = ax.get_xlim()
    ax.set_xlim(min(left, -0.02), right + 0.18 * (right - left))
    figure.draw_without_rendering()
    for label, end in written:  # a name that would run across a reference stands on the other side of its bar
        box = label.get_window_extent().transformed(ax.transData.inverted())
        if any(box.x0 < value < box.x1 for value in marks.values()):
            label.xy = (end, label.xy[1])
            label.set(x=-6, ha="right")
    text = f"Markers: mean of {len(numbers)} {over}; bars: $\\pm$ 4 standard errors."
    figure.supxlabel(text, x=0.01, ha="left", size=9, color=style.NOTE)
    return style.shown_once(figure)
