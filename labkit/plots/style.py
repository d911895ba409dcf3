"""The course's one visual language: form tells the role, colour tells the thing.

A line is a prediction, a point with a bar a measurement, a band an interval, a dotted hairline a reference. Blue
contracts (ordered), green keeps (critical), orange stretches (chaotic); lilac to indigo is depth, deeper is darker.
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import CenteredNorm, Colormap, LinearSegmentedColormap, to_rgb
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import ScaledTranslation
from numpy.typing import ArrayLike

__all__ = [
    "BOUNDARY", "CHAOTIC", "CRITICAL", "DEPTH", "HALO", "INK", "MEASURED", "NOTE", "ORDERED", "PHASES", "PREDICTED",
    "QUIET", "RELU", "STRETCH", "Phase", "band", "computed_now", "context", "dark", "depth_bar", "label_lines",
    "loaded", "measured", "new", "on_curve", "predicted", "reference", "shown_once", "stretch", "use",
]  # fmt: skip


class Phase(NamedTuple):
    """How one phase is drawn; dashes and marker tell it apart where colour does not."""

    color: str
    dashes: Any
    marker: str


INK = PREDICTED = "#20242B"
MEASURED = "#E8A317"
BOUNDARY = "#A81482"  # a class boundary, or any other edge found in data
RELU = "#6B5320"
QUIET = "#8A919B"  # hairlines and references
NOTE = "#4A515B"  # small text
HALO = [withStroke(linewidth=3, foreground="white")]
PHASES = {
    "ordered": Phase("#2363B8", (0, (5, 1.6)), "o"),
    "critical": Phase("#159E80", "-", "D"),
    "chaotic": Phase("#D94A1C", (0, (6, 1.3, 1, 1.3)), "s"),
    "relu": Phase(RELU, (0, (1.2, 1.2)), "^"),
}
ORDERED, CRITICAL, CHAOTIC = (PHASES[name].color for name in ("ordered", "critical", "chaotic"))
DEPTH: Colormap = LinearSegmentedColormap.from_list(
    "depth",
    ["#E0B0D2", "#CE97CC", "#BB80C5", "#A16CBD", "#8759B2", "#6C49A2", "#53398F", "#3D2976", "#281B5E"],
)
STRETCH: Colormap = LinearSegmentedColormap.from_list(
    "stretch",
    [
        *("#144282", "#275DA7", "#487BBE", "#6C98CE", "#95B7DC", "#C1D5E8", "#F4F2EE"),
        *("#F3CDB5", "#EFA883", "#E68358", "#D85B33", "#BA3E19", "#932C0D"),
    ],
)


@functools.cache
def _settings() -> Any:
    return dict(mpl.rc_params_from_file(Path(__file__).with_suffix(".mplstyle"), use_default_template=False))


def use() -> None:
    """Turn the look on for all figures to come; in a notebook also sharp pictures, all of one width.

    Example:
        >>> use()
        >>> plt.rcParams["axes.spines.top"]
        False
    """
    mpl.rcParams.update(_settings())
    if "inline" in plt.get_backend():
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("retina", bbox_inches=None)  # type: ignore[no-untyped-call]


def context() -> AbstractContextManager[None]:
    """The look within a `with` block, and what was there before after it."""
    return mpl.rc_context(_settings())


def new(
    nrows: int = 1, ncols: int = 1, size: tuple[float | int, float | int] | None = None, **options: Any
) -> tuple[Figure, Any]:
    """A figure and its axes in the one look, which is turned on by this.

    Args:
        nrows: rows of panels.
        ncols: columns of panels.
        size: inches; by default the text column's 7.2 by 3.1.
        **options: as of `matplotlib.pyplot.subplots`.

    Returns:
        The figure, and its axes as `subplots` gives them.

    Example:
        >>> figure, ax = new(size=(7.2, 2.5))
        >>> plt.close(figure)
    """
    use()
    return plt.subplots(nrows, ncols, figsize=size, **options)


def dark(color: Any, keep: float | int = 0.72) -> tuple[float, float, float]:
    """The same hue, dark enough to be read as text on white.

    Example:
        >>> dark("#FF8000", keep=0.5)
        (0.5, 0.25098039215686274, 0.0)
    """
    red, green, blue = to_rgb(color)
    return keep * red, keep * green, keep * blue


def predicted(ax: Axes, x: ArrayLike, y: ArrayLike, phase: str | None = None, **look: Any) -> Line2D:
    """A prediction: a line, in ink or in its phase's colour and dashes.

    Example:
        >>> figure, ax = new()
        >>> predicted(ax, [0, 1], [0, 2], "chaotic").get_color()
        '#D94A1C'
        >>> plt.close(figure)
    """
    color, dashes = PHASES[phase][:2] if phase else (PREDICTED, "-")
    return ax.plot(x, y, **{"color": color, "ls": dashes, **look})[0]


def measured(
    ax: Axes, x: ArrayLike, mean: ArrayLike, half: ArrayLike | None = None, phase: str | None = None, **look: Any
) -> ErrorbarContainer:
    """Measurements: points with bars.

    Args:
        ax: where to draw.
        x: abscissae, (n,).
        mean: what was measured, (n,).
        half: half the length of the bars, (n,); say in the title or caption what it is.
        phase: gives the colour and the marker.
        **look: as of `Axes.errorbar`.
    """
    color, _, marker = PHASES[phase] if phase else Phase(MEASURED, None, "o")
    edge = dark(color)
    usual = {"fmt": marker, "color": color, "ecolor": edge, "mec": edge, "mew": 0.7, "elinewidth": 1.2, "zorder": 3}
    return ax.errorbar(x, mean, half, **{**usual, **look})


def band(ax: Axes, x: ArrayLike, low: ArrayLike, high: ArrayLike, phase: str | None = None) -> PolyCollection:
    """An interval of a whole curve, (n,) below to (n,) above."""
    return ax.fill_between(x, low, high, color=PHASES[phase].color if phase else MEASURED, alpha=0.22, lw=0)


def reference(ax: Axes, *, x: float | int | None = None, y: float | int | None = None) -> Line2D:
    """A dotted hairline at `x` or at `y`: the value that means "unchanged", an edge, a limit."""
    if (x is None) == (y is None):
        raise ValueError(f"reference takes one of x and y, got x={x} and y={y}")
    look: dict[str, Any] = {"color": QUIET, "ls": ":", "lw": 1.2, "zorder": 1}
    if x is not None:
        return ax.axvline(x, **look)
    assert y is not None
    return ax.axhline(y, **look)


def depth_bar(ax: Axes, depth: int) -> Axes:
    """Instead of a legend of layers: a short scale at the top left, from 0 to `depth`, colour is depth."""
    bar = ax.inset_axes((0.02, 0.93, 0.2, 0.03))
    bar.imshow(np.linspace(0, 1, 128)[None], cmap=DEPTH, aspect="auto", extent=(0, depth, 0, 1))
    bar.grid(False)
    bar.set(yticks=[], xticks=[0, depth])
    bar.set_title("depth", loc="center", size=9, pad=2)
    bar.tick_params(length=0, labelsize=9, pad=1)
    bar.spines[:].set_visible(False)
    return bar


def shown_once(figure: Figure) -> Figure:
    """The figure, forgotten by pyplot: a cell that ends in it would else show it twice."""
    plt.close(figure)
    return figure


def stretch(log_values: Any) -> dict[str, Any]:
    """`cmap` and `norm` for a log quantity whose zero means "unchanged"; infinite values do not set the scale.

    Example:
        >>> stretch([-2.0, 1.0])["norm"].halfrange
        2.0
    """
    size = np.abs(np.asarray(log_values, dtype=float))
    finite = size[np.isfinite(size)]
    return {"cmap": STRETCH, "norm": CenteredNorm(0, halfrange=float(finite.max()) if finite.any() else 1.0)}


def on_curve(line: Line2D, x: float | int, text: str, side: float | int = 1, **look: Any) -> Text:
    """Write along a line, so that no legend is needed; the text keeps to the slope when limits change.

    Args:
        line: on which to write.
        x: the abscissa of the text's middle.
        text: what to write.
        side: above the line where positive, below where negative; the distance is 4 points times its size.
        **look: as of `Axes.text`.
    """
    ax, at = line.axes, np.asarray(line.get_xydata(), dtype=float)
    assert isinstance(ax, Axes)
    middle = int(np.abs(at[:, 0] - x).argmin())
    along = at[min(middle + 4, len(at) - 1)] - at[max(middle - 4, 0)]
    run, rise = along * np.sign(at[-1, 0] - at[0, 0])
    apart = ScaledTranslation(0, side * 4 / 72, ax.get_figure(root=True).dpi_scale_trans)  # type: ignore[union-attr]
    usual = {"va": "bottom" if side > 0 else "top", "color": dark(line.get_color()), "path_effects": HALO}
    return ax.text(
        at[middle, 0],
        at[middle, 1],
        text,
        rotation=np.degrees(np.arctan2(rise, run)),
        transform_rotates_text=True,
        rotation_mode="anchor",
        transform=ax.transData + apart,
        ha="center",
        **{**usual, **look},
    )


def label_lines(ax: Axes, gap: float | int = 14) -> None:
    """Instead of a legend: each labelled line's name at its right end, none touching another; call it last.

    Args:
        ax: the axes whose lines have labels.
        gap: the least distance of two names, in points.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    labelled = [line for line in ax.lines if not str(line.get_label()).startswith("_")]
    ends = [(*np.asarray(line.get_xydata(), dtype=float)[-1], line) for line in labelled]
    height = -np.inf
    for x, y, line in sorted(ends, key=lambda end: end[1]):
        own = ax.transData.transform((x, y))[1] * 72 / figure.dpi
        height = max(own, height + gap)
        ax.annotate(
            str(line.get_label()),
            (x, y),
            (8, height - own),
            textcoords="offset points",
            va="center",
            color=dark(line.get_color()),
            annotation_clip=False,
        )


def computed_now(figure: Figure, detail: str = "") -> Text:
    """Say below a figure that its numbers were computed in this run, and how.

    Example:
        >>> figure, ax = new()
        >>> computed_now(figure, "8 networks of width 400, seed 0").get_text()
        'Computed now: 8 networks of width 400, seed 0.'
        >>> plt.close(figure)
    """
    return _note(figure, f"Computed now: {detail}." if detail else "Computed now.")


def loaded(figure: Figure, study: str, *, commit: str, seeds: str, hardware: str) -> Text:
    """Say below a figure that its numbers come from a study kept with the course, and how they were made."""
    return _note(figure, f"Loaded: {study}, commit {commit[:9]}, seeds {seeds}, {hardware}.")


def _note(figure: Figure, text: str) -> Text:
    return figure.supxlabel(text, x=0.01, ha="left", size=9, color=NOTE)
