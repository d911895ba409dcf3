"""Pictures in a row: what becomes of one input on its way, each with its caption."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from labkit.plots import matrices, style
from labkit.plots._numbers import array

__all__ = ["grey", "row"]


def grey(ax: Axes, picture: ArrayLike, title: str = "", *, note: str = "") -> None:
    """Draw ink on paper: 0 white, 1 black, whatever lies outside cut off.

    Args:
        ax: where to draw.
        picture: (h, w).
        title: above it.
        note: written below it.
    """
    ax.imshow(array(picture), cmap="gray_r", vmin=0, vmax=1, aspect="equal")
    ax.grid(False)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(True)
    ax.set_title(title, loc="center", size=10)
    ax.set_xlabel(note, size=10, color=style.NOTE, labelpad=3)


def row(
    pictures: ArrayLike,
    captions: Sequence[str],
    title: str,
    *,
    notes: Sequence[str] | None = None,
    signed: tuple[ArrayLike, str] | None = None,
    note: str = "",
) -> Figure:
    """Pictures side by side in one scale of grey, and after them one signed picture with its own scale.

    Args:
        pictures: (T, h, w), 0 white and 1 black.
        captions: above them, one each.
        title: what the row claims.
        notes: below them, one each.
        signed: a picture (h, w) whose zero is white, and its caption.
        note: below the row, what the signed picture or the notes are.
    """
    shown = array(pictures)
    extra = signed is not None
    figure, axes = style.new(1, len(shown) + extra, size=(7.2, 2.05 if note else 1.85), squeeze=False)
    below = notes or [""] * len(shown)
    for ax, picture, caption, under in zip(axes[0], shown, captions, below, strict=False):
        grey(ax, picture, caption, note=under)
    if signed is not None:
        reach = float(np.abs(array(signed[0])).max())
        matrices.image(axes[0, -1], signed[0], note=f"$\\pm\\,${reach:.1f}")
        axes[0, -1].set_title(signed[1], loc="center", size=10)
    figure.suptitle(title, x=0.01, ha="left", size=11)
    if note:
        figure.supxlabel(note, x=0.01, ha="left", size=9, color=style.NOTE)
    return style.shown_once(figure)
