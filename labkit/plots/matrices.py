"""Matrices as pictures: the factors of a product, rows of a Jacobian as images, blocks between tokens.

White is zero, orange positive, blue negative; every matrix has its own scale, and the scale is written below it.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from labkit.plots import style
from labkit.plots._numbers import array

__all__ = ["blocks", "factors", "image", "templates"]


def image(ax: Axes, matrix: ArrayLike, title: str = "", *, scale: float | None = None, note: str = "") -> None:
    """Draw one signed matrix (m, n), or a grey picture, white at zero.

    Args:
        ax: where to draw.
        matrix: the entries.
        title: above it.
        scale: the value of full colour; by default the largest modulus.
        note: written below it; by default the scale.
    """
    entries = array(matrix)
    reach = scale or float(np.abs(entries).max()) or 1.0
    ax.imshow(entries, cmap=style.STRETCH, vmin=-reach, vmax=reach, aspect="equal")
    ax.grid(False)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(True)
    ax.set_title(title, loc="center")
    ax.set_xlabel(note or f"$\\pm\\,${reach:.2g}", size=9, color=style.NOTE, labelpad=3)


def factors(jacobians: Sequence[ArrayLike], product: ArrayLike, title: str, names: Sequence[str] = ()) -> Figure:
    """The Jacobians of the links as images, in the order of the formula, and their product; one scale of length.

    Args:
        jacobians: (n_l, n_{l-1}) each, first applied first.
        product: (n_L, n_0).
        title: what the picture claims.
        names: one a link, first applied first; by default J_1, J_2, …
    """
    names = names or [f"$J_{{{number}}}$" for number in range(1, len(jacobians) + 1)]
    shown = [(array(j), name) for j, name in zip(jacobians, names, strict=True)][::-1]
    shown.append((array(product), "$Df$"))
    widths = [max(matrix.shape[1], 14) for matrix, _ in shown]
    figure, axes = style.new(1, len(shown), size=(7.2, 2.4), width_ratios=widths)
    for ax, (matrix, name) in zip(axes, shown, strict=True):
        image(ax, matrix, name, note=f"{matrix.shape[0]} by {matrix.shape[1]}\n$\\pm\\,${np.abs(matrix).max():.2g}")
    axes[-1].text(-0.06, 0.5, "=", transform=axes[-1].transAxes, size=18, ha="right", va="center")
    return _finish(figure, title)


def templates(
    picture: ArrayLike, rows: ArrayLike, scores: ArrayLike, names: Sequence[str], title: str, best: int = 3
) -> Figure:
    """A picture beside those rows of a Jacobian, as pictures, that belong to the highest scores.

    Args:
        picture: (h, w).
        rows: (n_out, h·w), the Jacobian.
        scores: (n_out,), written below each row.
        names: of the outputs.
        title: what the picture claims.
        best: how many rows are shown.
    """
    pixels, outputs = array(picture), array(scores)
    grids = array(rows).reshape(len(outputs), *pixels.shape)
    figure, axes = style.new(1, best + 1, size=(7.2, 2.5))
    axes[0].imshow(pixels, cmap="gray_r")
    axes[0].grid(False)
    axes[0].set(xticks=[], yticks=[])
    axes[0].spines[:].set_visible(True)
    axes[0].set_title("the image $x$", loc="center")
    axes[0].set_xlabel(f"{pixels.size} pixels", size=9, color=style.NOTE, labelpad=3)
    reach = float(np.abs(grids).max())
    for ax, index in zip(axes[1:], np.argsort(-outputs), strict=False):
        note = f"$\\mathrm{{row}} \\cdot x$ = {outputs[index]:.2f}"
        image(ax, grids[index], f"row “{names[index]}”", scale=reach, note=note)
    return _finish(figure, title)


def blocks(norms: ArrayLike, title: str, *, label: str) -> Figure:
    """Norms of the blocks of a token-to-token Jacobian, (T, T), as a heat map with every number written on it.

    Args:
        norms: non-negative.
        title: what the picture claims.
        label: what the numbers are.
    """
    table = array(norms)
    figure, ax = style.new(size=(5.4, 4.2))
    shown = ax.imshow(table, cmap=style.DEPTH, vmin=0)
    ax.grid(False)
    ax.set(xlabel="input token $j$", ylabel="output token $i$", xticks=range(len(table)), yticks=range(len(table)))
    for (i, j), value in np.ndenumerate(table):
        ink = "white" if value > 0.45 * table.max() else style.INK
        number = f"{value:.1g}" if 0 < value < 0.005 else f"{value:.2f}"  # small is not zero
        ax.text(j, i, number, ha="center", va="center", size=8, color=ink)
    figure.colorbar(shown, ax=ax, label=label, aspect=24, pad=0.015).outline.set_visible(False)
    return _finish(figure, title)


def _finish(figure: Figure, title: str) -> Figure:
    figure.suptitle(title, x=0.01, ha="left", size=plt.rcParams["axes.titlesize"])
    return style.shown_once(figure)
