"""What pictures of several measured things share: their looks, ticks of logarithmic axes, and which mean is shown.

A mean is one of what the axis shows: of the values on a linear axis, of their logs on a logarithmic one.
"""

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator
from numpy.typing import ArrayLike, NDArray

from labkit.plots import style
from labkit.plots._numbers import array

__all__ = ["LOOKS", "mean_and_bars", "powers", "ticks"]

LOOKS = (
    style.Phase(style.MEASURED, "-", "o"),
    style.Phase(style.QUIET, (0, (5, 2)), "s"),
    style.Phase(style.INK, (0, (1.2, 1.2)), "^"),
    style.Phase(style.RELU, (0, (6, 2, 1, 2)), "D"),
)


def powers(axis: Axis) -> None:
    """Powers of ten with a minus that the text font lacks set by the mathematical one."""
    axis.set_major_formatter(lambda value, _: f"$10^{{{np.log10(value):.0f}}}$")
    axis.set_minor_formatter("")


def ticks(axis: Axis) -> None:
    """Powers of ten; where fewer than two of them are in view, 1, 2, 5, … between them too."""
    low, high = axis.get_view_interval()
    powers(axis)
    if high < 100 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")


def mean_and_bars(samples: ArrayLike, *, log: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean of what an axis shows, and 4 standard errors of it.

    On a logarithmic axis that is the geometric mean: multiplying all samples by a number moves the point and leaves
    the bar, which is as long upwards as downwards to the eye and never reaches 0. On a linear axis it is the usual
    mean, of which a law for an expectation speaks; where logs scatter by s, the geometric one lies s²/2 of it lower.

    Args:
        samples: (repetitions, n), at least 2; positive if `log`.
        log: whether the axis is logarithmic.

    Returns:
        The mean, (n,), and the bars' lengths below and above it, (2, n).

    Example:
        >>> mean, bars = mean_and_bars([[1.0], [4.0]], log=True)
        >>> float(mean[0].round(12))
        2.0
    """
    table = np.log(array(samples)) if log else array(samples)
    mean, half = table.mean(0), 4 * table.std(0, ddof=1) / np.sqrt(len(table))
    if not log:
        return mean, np.stack([half, half])
    return np.exp(mean), np.exp(mean) * np.stack([1 - np.exp(-half), np.exp(half) - 1])
