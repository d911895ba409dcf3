"""Pictures of bent things: a sheet in space, its bill of curvature, a curve's acceleration in two parts.

A sheet is seen along its own three axes from above one corner; orange pieces curve like a ball, blue like a saddle.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from numpy.typing import ArrayLike

from labkit.plots import style
from labkit.plots._numbers import array

__all__ = ["bill", "gallery", "round_up", "shares", "sheet", "split"]

_TURN, _TILT = np.radians(38), np.radians(34)
# Rows: to the right, up, towards the eye.
_VIEW = np.array([
    [np.cos(_TURN), -np.sin(_TURN), 0.0],
    [np.sin(_TURN) * np.sin(_TILT), np.cos(_TURN) * np.sin(_TILT), np.cos(_TILT)],
    [-np.sin(_TURN) * np.cos(_TILT), -np.cos(_TURN) * np.cos(_TILT), np.sin(_TILT)],
])  # fmt: skip
_LIGHT = np.array([-0.35, 0.55, 0.76])


def round_up(value: float | int) -> float:
    """The next of …, 0.1, 0.2, 0.5, 1, 2, 5, … not below a positive value: a limit that seldom moves.

    Example:
        >>> round_up(0.3), round_up(2.0), round_up(6)
        (0.5, 2.0, 10.0)
    """
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(power * step for step in (1, 2, 5, 10) if power * step >= value * (1 - 1e-12)))


def sheet(ax: Axes, points: ArrayLike, tint: ArrayLike, *, reach: float | int) -> PolyCollection:
    """A surface in space, its far pieces painted first; shaded, so that its shape is seen without colour too.

    It is moved to the middle and scaled to fit.

    Args:
        ax: where to draw.
        points: (m, n, 3), the corners of its pieces.
        tint: (m − 1, n − 1), positive orange, negative blue.
        reach: the value of full colour.
    """
    at = array(points) @ _VIEW.T
    low, high = at.min((0, 1)), at.max((0, 1))
    at = 2 * (at - (low + high) / 2) / max(float((high - low)[:2].max()), 1e-300)
    quads = np.stack([at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]], axis=2).reshape(-1, 4, 3)
    normal = np.cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1])
    size = np.maximum(np.linalg.norm(normal, axis=1), 1e-300)
    light = 0.62 + 0.38 * np.abs(normal @ _LIGHT) / size
    colors = style.STRETCH(CenteredNorm(0, halfrange=float(reach))(array(tint).reshape(-1)))
    colors[:, :3] *= light[:, None]
    order = np.argsort(quads[:, :, 2].mean(1))
    drawn = PolyCollection(list(quads[order, :, :2]), facecolors=colors[order], edgecolors=style.INK, linewidths=0.25)
    ax.set(xlim=(-1.04, 1.04), ylim=(-1.04, 1.04), aspect="equal", xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.add_collection(drawn, autolim=False)
    return drawn


def shares(ax: Axes, table: ArrayLike, *, within: tuple[float | int, float | int] = (0.0, 0.0)) -> None:
    """What each link pays of a bill: its row's sum as a bar, its own entry as a tick; both added up at the foot.

    Args:
        ax: where to draw.
        table: (L, L), symmetric.
        within: values that the axis shows besides this bill's, as of other bills to compare it with.
    """
    entries = array(table)
    rows, own = entries.sum(1), entries.diagonal()
    drawn = [*rows, *own, rows.sum(), own.sum(), *within, 0.0]
    low, high = float(min(drawn)), float(max(drawn))
    reach = max(high - low, 0.05)
    foot = len(rows) + 1.25
    ax.set(xlim=(low - 0.27 * reach, high + 0.27 * reach), ylim=(foot + 0.75, 0.4))  # room for the two sums
    ax.set(xlabel="integral curvature (rad)")
    ax.set(yticks=[*range(1, len(rows) + 1), foot], yticklabels=[*map(str, range(1, len(rows) + 1)), "sum"])
    ax.set_ylabel("layer", labelpad=2)
    ax.grid(False, axis="y")
    ax.axvline(0, color=style.INK, lw=0.8, zorder=1)
    ax.axhline(len(rows) + 0.62, color=style.QUIET, lw=0.8)
    places, totals = [*range(1, len(rows) + 1), foot], [*rows, rows.sum()]
    colors = [style.CHAOTIC if total > 0 else style.ORDERED for total in totals]
    ax.barh(places, totals, color=colors, height=0.6, alpha=0.85, zorder=2)
    there = entries.any(1)  # a layer that bends nothing has no tick
    if not there.any():
        ax.text(0.5, 0.55, "no layer has bent it yet", transform=ax.transAxes, ha="center", color=style.NOTE,
                path_effects=style.HALO)  # fmt: skip
        return
    heights = np.arange(1, len(rows) + 1)[there]
    ax.plot([*own[there], own.sum()], [*heights, foot], "|", ms=15, mew=2.6, color=style.INK, zorder=4)
    for value, left in ((rows.sum(), rows.sum() < own.sum()), (own.sum(), rows.sum() >= own.sum())):
        edge = min(value, 0.0) if left else max(value, 0.0) if value == rows.sum() else value
        ax.text(edge + (-0.03 if left else 0.03) * reach, foot, f"${value:.2f}$", size=9, va="center",
                ha="right" if left else "left", path_effects=style.HALO, zorder=5)  # fmt: skip


def bill(table: ArrayLike, title: str) -> Figure:
    """A bill of curvature: its entries with their numbers, own ones framed, and what follows from them.

    Args:
        table: (L, L), symmetric.
        title: what the picture claims.
    """
    entries = array(table)
    size = len(entries)
    figure, (left, right) = style.new(1, 2, size=(7.2, 3.5), width_ratios=(1.15, 1))
    reach = float(np.abs(entries).max()) or 1.0
    left.imshow(entries, cmap=style.STRETCH, vmin=-reach, vmax=reach)
    left.grid(False)
    numbers = [str(number) for number in range(1, size + 1)]
    left.set(xticks=range(size), yticks=range(size), xticklabels=numbers, yticklabels=numbers)
    left.set(xlabel="layer $m$", ylabel="layer $l$")
    for (row, column), value in np.ndenumerate(entries):
        ink = "white" if abs(value) > 0.6 * reach else style.INK
        left.text(column, row, f"${value:.2f}$" if abs(value) >= 0.005 else "0", ha="center", va="center", size=8,
                  color=ink)  # fmt: skip
        if row == column:
            left.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec=style.INK, lw=1.6))
    left.set_title("entries (rad); own ones framed", size=10)
    shares(right, entries)
    right.set_title("bars: rows; ticks: own entries", size=10)
    figure.suptitle(title, x=0.01, ha="left", size=11)
    return style.shown_once(figure)


def gallery(surfaces: Mapping[str, tuple[ArrayLike, ArrayLike]], title: str) -> Figure:
    """Surfaces side by side, all on one scale of colour, which stands at the right.

    Args:
        surfaces: name → (points (m, n, 3), tint (m − 1, n − 1)); a second line of the name goes below.
        title: what the picture claims.
    """
    figure, axes = style.new(1, len(surfaces), size=(7.2, 2.9))
    most = max(float(np.abs(array(tint)).max()) for _, tint in surfaces.values())
    reach = 1.6 * most  # no piece is darkest
    for ax, (name, (points, tint)) in zip(np.atleast_1d(axes), surfaces.items(), strict=True):
        sheet(ax, points, tint, reach=reach)
        head, _, below = name.partition("\n")
        ax.set_title(head, loc="center", size=10)
        ax.set_xlabel(below, size=10)
    shade = ScalarMappable(CenteredNorm(0, halfrange=reach), style.STRETCH)
    bar = figure.colorbar(shade, ax=axes, shrink=0.6, aspect=14, pad=0.02)
    bar.ax.set(title="$K$", ylim=(-most, most))
    bar.ax.grid(False)
    figure.suptitle(title, x=0.01, ha="left", size=11)
    return style.shown_once(figure)


def split(curve: ArrayLike, velocity: float | int, acceleration: ArrayLike, title: str) -> Figure:
    """A curve at one of its points: its acceleration, the part along it, the part across, and the circle that fits.

    Args:
        curve: (T, 2), along the tangent and along the normal, the point at the origin.
        velocity: the speed there.
        acceleration: (2,), along the tangent and along the normal, the latter positive.
        title: what the picture claims.
    """
    path = array(curve)
    along, across = array(acceleration)
    radius = float(velocity) ** 2 / across
    figure, ax = style.new(size=(7.2, 3.5))
    ax.plot(*path.T, color=style.INK, lw=2.2, zorder=3)
    ax.add_patch(Circle((0, radius), radius, fill=False, ec=style.MEASURED, lw=1.6, ls=(0, (5, 2))))
    length = 0.62 * radius / max(abs(along), across)  # arrows as long as the picture allows
    arms = {"$D^2\\!f(u,u)$": (along, across, style.INK), "tangent part": (along, 0.0, style.ORDERED),
            "$II(u,u)$": (0.0, across, style.CHAOTIC)}  # fmt: skip
    for name, (x, y, color) in arms.items():
        tip = (x * length, y * length)
        arrow = {"arrowstyle": "-|>", "color": color, "lw": 2.0, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", tip, (0, 0), arrowprops=arrow, zorder=5)
        side = "right" if x < 0 else "left"
        if x and y:  # above its tip, where no other arrow passes
            side, away = "center", (-6 if x < 0 else 6, 6)
        else:
            away = (-7 if x < 0 else 7, -11 if y == 0 else 4)
        ax.annotate(name, tip, away, textcoords="offset points", ha=side, color=style.dark(color),
                    path_effects=style.HALO, zorder=6)  # fmt: skip
    ax.plot(0, 0, "o", ms=7, color=style.INK, mec="white", mew=1.2, zorder=7)
    ax.annotate(f"radius {radius:.2f}", (0, 2 * radius), (0, 4), textcoords="offset points", ha="center", va="bottom",
                color=style.dark(style.MEASURED))  # fmt: skip
    left, right = min(path[:, 0].min(), -radius), max(path[:, 0].max(), radius)
    low, high = min(path[:, 1].min(), -0.25 * radius), max(path[:, 1].max(), 2 * radius)
    low, high = low - 0.2 * radius, high + 0.4 * radius
    middle, half = (left + right) / 2, max((right - left) / 2 + 0.2 * radius, 1.22 * (high - low))  # the width is there
    ax.set(xlim=(middle - half, middle + half), ylim=(low, high), aspect="equal")
    ax.set(xlabel="along the tangent", ylabel="along the normal")
    figure.suptitle(title, x=0.01, ha="left", size=11)  # above the axes, whose box shrinks to their aspect
    words = f"Arrows: accelerations, drawn {length:.3g} times as long; dashed: the circle that fits best."
    figure.supxlabel(words, x=0.01, ha="left", size=9, color=style.NOTE)
    return style.shown_once(figure)
