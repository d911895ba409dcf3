"""How an explorer's frames become pixels, and pixels become small pictures.

A full draw of a figure costs many times what its data cost; a `Stage` draws axes, ticks and labels once a look.
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.spines import Spine
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image

from labkit.plots import style

__all__ = ["Frame", "Pixels", "Stage", "png", "webp"]

Pixels = NDArray[np.uint8]

LEFT, RIGHT, BOTTOM, TOP = 0.68, 0.16, 0.55, 0.36  # inches of margin
KEPT_LOOKS = 32


@dataclass(frozen=True)
class Frame:
    """One picture: `pixels` RGBA (height, width, 4), its `text` in words, and where a click leads (`Stage.spots`)."""

    pixels: Pixels
    text: str
    spots: dict[str, list[float]] | None


class Stage:
    """A figure kept between frames: axes, ticks, labels are drawn once for each look, data and titles every time.

    Args:
        draw: `draw(data, ax)` puts data on the axes; on a list of them, row by row, where there are several.
        widths: relative widths of the columns of panels.
        heights: relative heights of the rows of panels.
        size: of the figure, in inches.
        dpi: pixels per inch.
        gap: inches between panels.
    """

    def __init__(
        self,
        draw: Callable[[Any, Any], object],
        widths: Sequence[float | int] = (1,),
        heights: Sequence[float | int] = (1,),
        size: tuple[float | int, float | int] = (7.2, 3.3),
        dpi: float | int = 100,
        gap: float | int = 0.78,
    ) -> None:
        self.draw = draw
        self._backgrounds: dict[tuple[Any, ...], Any] = {}
        with style.context():
            self.figure = Figure(figsize=size, dpi=dpi)
            self.figure.set_layout_engine("none")
            self.canvas: Any = FigureCanvasAgg(self.figure)
            (width, height), columns, rows = size, len(widths), len(heights)
            panel_width = (width - LEFT - RIGHT - (columns - 1) * gap) / columns
            panel_height = (height - BOTTOM - TOP - (rows - 1) * gap) / rows
            grid = self.figure.subplots(
                rows,
                columns,
                squeeze=False,
                gridspec_kw={
                    "width_ratios": widths,
                    "height_ratios": heights,
                    "left": LEFT / width,
                    "right": 1 - RIGHT / width,
                    "bottom": BOTTOM / height,
                    "top": 1 - TOP / height,
                    "wspace": gap / panel_width,
                    "hspace": gap / panel_height,
                },
            )
            self.axes: list[Axes] = list(grid.flat)
            for ax in self.axes:
                ax.locator_params(nbins=5)  # text costs most, and few ticks read better

    def pixels(self, data: Any) -> Pixels:
        """The picture of `data`, RGBA, (height, width, 4): what a full draw gives, at a fraction of its time."""
        with style.context():
            for ax in self.axes:
                _clear(ax)
            self.draw(data, self.axes if len(self.axes) > 1 else self.axes[0])
            for ax in self.axes:
                ax.apply_aspect()
            moving = sorted((a for ax in self.axes for a in _moving(ax)), key=lambda artist: artist.zorder)
            for artist in moving:
                artist.set_animated(True)  # a full draw leaves these out
            self.canvas.restore_region(self._background())
            for artist in moving:
                owner = artist.axes
                assert isinstance(owner, Axes)
                owner.draw_artist(artist)
            return np.array(self.canvas.buffer_rgba())

    def spots(self, xs: Iterable[float | int], ys: Iterable[float | int]) -> dict[str, list[float]]:
        """Where values lie in the first panel of the last picture.

        All are fractions of the picture's width or height, from its top left.

        Returns:
            `box`: left, top, right, bottom of the panel; `x` and `y`: the place of each value.
        """
        ax = self.axes[0]
        width, height = self.figure.bbox.width, self.figure.bbox.height
        x0, y0 = ax.get_xlim()[0], ax.get_ylim()[0]
        panel = ax.bbox
        box = (panel.x0 / width, 1 - panel.y1 / height, panel.x1 / width, 1 - panel.y0 / height)
        across = [ax.transData.transform((x, y0))[0] / width for x in xs]
        down = [1 - ax.transData.transform((x0, y))[1] / height for y in ys]
        places = {"box": box, "x": across, "y": down}
        return {name: [round(float(place), 4) for place in at] for name, at in places.items()}

    def _background(self) -> Any:
        look = tuple(_look(ax) for ax in self.axes)
        if look not in self._backgrounds:
            self.canvas.draw()
            self._backgrounds[look] = self.canvas.copy_from_bbox(self.figure.bbox)
            if len(self._backgrounds) > KEPT_LOOKS:
                del self._backgrounds[next(iter(self._backgrounds))]
        return self._backgrounds[look]


def _clear(ax: Axes) -> None:
    """What `ax.clear` does, without building new ticks, which would cost more than all the rest."""
    for artist in [*_data(ax), *ax.child_axes]:
        artist.remove()
    if legend := ax.get_legend():
        legend.remove()
    ax.containers.clear()
    ax.set_prop_cycle(None)
    ax.relim()
    ax.autoscale(True)
    ax.set(xlabel="", ylabel="")
    for place in ("left", "center", "right"):
        ax.set_title("", loc=place)


def _data(ax: Axes) -> list[Artist]:
    """What `draw` put there: of an axes' children, all that come before the spines."""
    return list(itertools.takewhile(lambda artist: not isinstance(artist, Spine), ax.get_children()))


def _moving(ax: Axes) -> list[Artist]:
    data = _data(ax)
    titles = [artist for artist in ax.get_children()[len(data) :] if isinstance(artist, Text)]
    return [*data, *ax.spines.values(), *titles, *ax.child_axes, *((ax.xaxis, ax.yaxis) if _under(ax) else ())]


def _under(ax: Axes) -> bool:
    """Whether something lies below grid and ticks, as images do; these must then be drawn anew, above it."""
    return any(artist.zorder < ax.xaxis.zorder for artist in _data(ax))


def _look(ax: Axes) -> tuple[Any, ...]:
    """All that decides how the parts look that do not move."""
    legend = ax.get_legend()
    return (
        ax.get_position().bounds,
        *(ax.get_xlim(), ax.get_ylim(), ax.get_xscale(), ax.get_yscale(), ax.get_xlabel(), ax.get_ylabel()),
        *(*ax.get_xticks(), None, *ax.get_yticks()),
        tuple(label.get_text() for axis in (ax.xaxis, ax.yaxis) for label in axis.get_ticklabels()),
        legend and tuple(text.get_text() for text in legend.get_texts()),
        _under(ax),
    )


def png(rgba: Pixels) -> bytes:
    """An unfiltered PNG at zlib level 1: much faster than a general encoder, hardly larger."""
    height, width, _ = rgba.shape
    rows = np.zeros((height, 1 + 4 * width), np.uint8)
    rows[:, 1:] = rgba.reshape(height, -1)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">2I5B", width, height, 8, 6, 0, 0, 0)
    pixels = zlib.compress(rows.tobytes(), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def webp(rgba: Pixels, base: Pixels | None = None) -> bytes:
    """A lossless WebP in at most 256 colours, for pages.

    Args:
        rgba: the picture, (height, width, 4).
        base: another picture that lies beneath; where both agree this one is transparent, and so much smaller.
    """
    full = Image.fromarray(rgba).convert("RGB")
    few = full.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)  # others grey the white
    image, file = few.convert("RGB"), io.BytesIO()
    if base is not None:
        changed = (rgba != base).any(-1)[..., None]
        image = Image.fromarray(np.concatenate([np.asarray(image), np.full_like(changed, 255, np.uint8)], -1) * changed)
    image.save(file, "WEBP", lossless=True, method=4, quality=75)
    return file.getvalue()
