"""A metric on a plane as a picture: Tissot's ellipses over a slice of input space, and how one of them comes about.

An ellipse is what all steps of one image length look like before the network: narrow where the network stretches.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse
from numpy.typing import ArrayLike

from labkit.geometry import metric
from labkit.plots import style
from labkit.plots._numbers import array

__all__ = ["boundary", "field", "fields", "plane", "thumbnails", "unit_steps"]


def plane(ax: Axes, reach: float | int, *, labels: bool = True) -> None:
    """Make the axes a window [−reach, reach]² of a slice; call it before drawing into it.

    Args:
        ax: the axes.
        reach: half the side of the window, a length in input space.
        labels: whether the axes say what they are.
    """
    half = 10 * (reach // 10)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[-half, 0, half], yticks=[-half, 0, half])
    ax.grid(False)
    if labels:
        ax.set(xlabel="along $e_1$", ylabel="along $e_2$")


def thumbnails(ax: Axes, pictures: ArrayLike, at: ArrayLike, size: float | int) -> None:
    """Put photographs at their places on the slice.

    Args:
        ax: axes that `plane` has prepared.
        pictures: (k, h, w), the larger the darker.
        at: (k, 2), the places of their centres.
        size: the side of one, in units of the axes.
    """
    window = ax.get_xlim(), ax.get_ylim()
    for picture, (a, b) in zip(array(pictures), array(at), strict=True):
        extent = (a - size / 2, a + size / 2, b - size / 2, b + size / 2)
        ax.imshow(picture, cmap="gray_r", extent=extent, zorder=5, interpolation="nearest")
        edge = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) * size + [extent[0], extent[2]]
        ax.plot(*edge.T, color=style.INK, lw=0.8, zorder=6)
    ax.set(xlim=window[0], ylim=window[1], aspect="equal")


def boundary(ax: Axes, side: ArrayLike, margins: ArrayLike) -> None:
    """Draw the lines between the regions of a classifier: where a class's margin over all others changes sign.

    Args:
        ax: axes that `plane` has prepared.
        side: (n,), the coordinates of a grid, the same both ways.
        margins: (classes, n, n), the logit of each class minus the largest of the others, abscissa first.
    """
    grid = array(side)
    for margin in array(margins):
        if margin.min() < 0 < margin.max():
            ax.contour(grid, grid, margin.T, [0.0], colors=[style.BOUNDARY], linewidths=1.3, zorder=1)


def field(
    ax: Axes, at: ArrayLike, ellipses: metric.Ellipse, tint: ArrayLike, *, size: float | int, reach: float | int
) -> EllipseCollection:
    """Draw ellipses of one length, so that their width tells the distortion, and tint them.

    Args:
        ax: axes that `plane` has prepared.
        at: (N, 2), their centres.
        ellipses: N of them; where the longer semi-axis is infinite a hairline is drawn.
        tint: (N,), a log quantity whose zero means "as the average", such as the log-volume minus its mean.
        size: the length of all, in units of the axes.
        reach: the tint of full colour.
    """
    longer, shorter = array(ellipses.semi_axes).T
    width = np.where(np.isfinite(longer), shorter / np.where(np.isfinite(longer), longer, 1), 0.02)
    collection = EllipseCollection(
        np.full(len(width), size),
        size * width,
        np.degrees(array(ellipses.angle)),
        units="xy",
        offsets=array(at),
        offset_transform=ax.transData,
        array=array(tint),
        ec=style.INK,
        lw=0.3,
        zorder=2,
        **style.stretch([reach]),
    )
    ax.add_collection(collection, autolim=False)
    return collection


def fields(panels: Mapping[tuple[str, str], metric.Ellipse], at: ArrayLike, title: str) -> Figure:
    """A table of fields over one slice, all in one scale of colour: the log-volume minus its mean over the panel.

    Args:
        panels: (row, column) → N ellipses, row by row.
        at: (N, 2), the centres, a square grid around 0.
        title: what the picture claims.
    """
    places = array(at)
    spacing = 2 * places.max() / (np.sqrt(len(places)) - 1)
    rows, columns = (list(dict.fromkeys(key[side] for key in panels)) for side in (0, 1))
    size = (7.2, 0.6 + 2.15 * len(rows))
    volumes = {key: array(shapes.log_volume) for key, shapes in panels.items()}
    tints = {key: volume - volume[np.isfinite(volume)].mean() for key, volume in volumes.items()}
    reach = max(float(np.abs(tint[np.isfinite(tint)]).max()) for tint in tints.values())
    figure, table = style.new(len(rows), len(columns), size=size, squeeze=False, sharex=True, sharey=True)
    for row, axes in zip(rows, table, strict=True):
        for column, ax in zip(columns, axes, strict=True):
            plane(ax, places.max() + spacing, labels=False)
            collection = field(ax, places, panels[row, column], tints[row, column], size=0.9 * spacing, reach=reach)
            if row == rows[0]:
                ax.set_title(column, loc="center", size=10)
            if row == rows[-1]:
                ax.set_xlabel("along $e_1$")
        axes[0].set_ylabel(f"{row}\nalong $e_2$")
    label = "log-volume minus its mean (nats); shapes rescaled"
    bar = figure.colorbar(collection, ax=list(table.flat), label=label, aspect=30, pad=0.015)
    bar.outline.set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", size=11)
    return style.shown_once(figure)


def unit_steps(stretches: ArrayLike, directions: ArrayLike, title: str) -> Figure:
    """One circle of unit steps, the ellipse of their images, and the ellipse of steps whose images are unit.

    Args:
        stretches: (2,), the singular values of the differential on the slice, the larger first.
        directions: (2, 2), a row for each: the unit step that is stretched so.
        title: what the picture claims.
    """
    first, second = array(stretches)
    steps = array(directions) * np.where(array(directions)[:, :1] < 0, -1, 1)
    steps[1] *= np.sign(steps[1, 1])  # the arrows point right and up, whatever sign the factorisation chose
    figure, axes = style.new(1, 3, size=(7.2, 2.75), subplot_kw={"aspect": "equal"})
    panels = (
        ("steps of length 1", steps, ("1", "1")),
        ("their images, at the output", np.diag([first, second]), ("$\\sigma_1 = {0:.3f}$", "$\\sigma_2 = {1:.3f}$")),
        (
            "steps that arrive as length 1",
            steps / np.array([[first], [second]]),
            ("$1/\\sigma_1 = {2:.3f}$", "$1/\\sigma_2 = {3:.3f}$"),
        ),
    )
    for ax, (caption, arms, names) in zip(axes, panels, strict=True):
        across, up = np.linalg.norm(arms, axis=1)
        reach = 1.45 * max(across, up)
        ax.set(xlim=(-reach, reach), ylim=(-reach, reach))
        ax.set_title(caption, loc="center", size=10)
        ax.add_patch(Circle((0, 0), 1, fill=False, ec=style.QUIET, ls=":", lw=1.0))
        tilt = float(np.degrees(np.arctan2(arms[0, 1], arms[0, 0])))
        ax.add_patch(Ellipse((0, 0), 2 * across, 2 * up, angle=tilt, fc="#F4F2EE", ec=style.INK, lw=1.4, zorder=2))
        for arm, name, color in zip(arms, names, (style.CHAOTIC, style.ORDERED), strict=True):
            arrow = {"arrowstyle": "-|>", "color": color, "lw": 1.8, "shrinkA": 0, "shrinkB": 0}
            ax.annotate("", arm, (0, 0), arrowprops=arrow, zorder=4)
            if abs(arm[1]) > abs(arm[0]):
                place, look = arm + np.array([0, 0.06 * reach]), {"ha": "center", "va": "bottom"}
            elif across < up or name == "1":
                place, look = arm + np.array([0.07 * reach, 0]), {"ha": "left", "va": "center"}
            else:  # a long name beside a long arrow would leave the panel
                place, look = np.array([0, -up - 0.06 * reach]), {"ha": "center", "va": "top"}
            ax.text(*place, name.format(first, second, 1 / first, 1 / second), size=10, zorder=5, **look,
                    color=style.dark(color), path_effects=style.HALO)  # fmt: skip
        ax.grid(False)
        ax.set(xlabel="along $e_1$", ylabel="along $e_2$")
    axes[1].set(xlabel="first principal direction", ylabel="second")
    figure.suptitle(title, x=0.01, ha="left", size=11)
    return style.shown_once(figure)
