"""Quantities side by side as horizontal bars, each with its number."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from labkit.plots import style

__all__ = ["bars"]


def bars(values: Mapping[str, float], title: str, *, unit: str) -> Figure:
    """One bar a name, in the order given, the number written at its end.

    Args:
        values: name → non-negative number.
        title: what the picture claims.
        unit: of the numbers; the label of the axis.
    """
    names, numbers = list(values), [float(value) for value in values.values()]
    figure, ax = style.new(size=(7.2, 0.45 * len(names) + 1.1))
    ax.barh(names, numbers, color=style.MEASURED, height=0.62)
    for place, number in enumerate(numbers):
        ax.text(number, place, f" {number:.3g}", va="center", color=style.INK)
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel=unit, xlim=(0, 1.1 * max(numbers)), title=title)
    return style.shown_once(figure)
