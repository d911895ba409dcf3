import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import EllipseCollection
from PIL import Image

from labkit.lessons._stage import Stage, png, webp
from labkit.plots import style


def draw_curves(k, axes):
    left, right = axes
    left.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal", title=f"Step {k}", xlabel="$x_1$")
    circles = {"units": "xy", "offsets": [[0, 0], [0.5, 0.5 / k]], "offset_transform": left.transData}
    left.add_collection(EllipseCollection([0.4, 0.2], [0.2, 0.1], [0, 10 * k], **circles), autolim=False)
    left.text(0, 0, f"${k}$")
    x = np.linspace(0, 1, 50)
    right.set(xlim=(0, 1), ylim=(10.0**-k, 1), yscale="log", ylabel="$e^{-kx}$")
    style.predicted(right, x, np.exp(-k * x), "chaotic", label="predicted")
    style.band(right, x, np.exp(-k * x) / 2, np.exp(-k * x))
    right.legend()


def draw_image(k, axes):
    left, right = axes
    left.imshow(np.arange(k * 4).reshape(k, 4), cmap=style.DEPTH, aspect="auto", extent=(0, 1, 0, k))
    left.grid(False)
    style.depth_bar(right, k)
    style.measured(right, range(k), np.arange(k) ** 2, np.ones(k))
    style.reference(right, y=2)


def full_draw(draw, data, size, dpi):
    """The same figure, drawn by matplotlib from nothing."""
    stage = Stage(draw, (1, 2), (1,), size, dpi)
    with style.context():
        draw(data, stage.axes)
        FigureCanvasAgg(stage.figure)
        stage.figure.canvas.draw()
        return np.array(stage.figure.canvas.buffer_rgba())


@pytest.mark.parametrize("draw", [draw_curves, draw_image])
def test_pixels_are_those_of_a_full_draw_whatever_came_before(draw):
    stage = Stage(draw, (1, 2), (1,), (7.2, 3.3), 80)
    for data in (2, 3, 2, 5, 3):
        np.testing.assert_array_equal(stage.pixels(data), full_draw(draw, data, (7.2, 3.3), 80))


def test_axes_are_drawn_once_for_each_look(monkeypatch):
    stage, draws = Stage(draw_curves, (1, 2), (1,), (7.2, 3.3), 60), []
    real = stage.canvas.draw
    monkeypatch.setattr(stage.canvas, "draw", lambda: draws.append(1) or real())
    for data in (2, 3, 2, 3, 2):
        stage.pixels(data)
    assert len(draws) == 2


def test_panels_fill_rows_and_columns_in_reading_order():
    stage = Stage(lambda data, axes: None, (1, 1, 2), (2, 1), (7.2, 5), 50, gap=0.36)
    assert len(stage.axes) == 6
    boxes = [ax.get_position() for ax in stage.axes]
    assert boxes[1].x0 - boxes[0].x1 == pytest.approx(0.05)
    assert boxes[0].y0 - boxes[3].y1 == pytest.approx(0.072)
    assert boxes[2].width == pytest.approx(2 * boxes[1].width)
    assert boxes[0].height == pytest.approx(2 * boxes[3].height)


def test_png_and_webp_hold_the_picture():
    rgba = Stage(draw_curves, (1, 2), (1,), (7.2, 3.3), 60).pixels(3)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(rgba)))), rgba)
    small = np.asarray(Image.open(io.BytesIO(webp(rgba))).convert("RGB"), dtype=int)
    assert np.abs(small - rgba[..., :3]).max() <= 24  # 256 colours
    np.testing.assert_array_equal(small[rgba[..., :3].min(-1) == 255], 255)  # white stays white
    assert len(webp(rgba)) < len(png(rgba)) / 2


def test_webp_over_a_base_is_small_and_composes_to_the_picture():
    stage = Stage(draw_curves, (1, 2), (1,), (7.2, 3.3), 60)
    base, rgba = stage.pixels(3), stage.pixels(2)
    over = webp(rgba, base)
    composed = Image.alpha_composite(Image.fromarray(base), Image.open(io.BytesIO(over)).convert("RGBA"))
    assert np.abs(np.asarray(composed, dtype=int) - rgba).max() <= 24
    assert len(over) < len(webp(rgba))
    assert Image.open(io.BytesIO(webp(base, base))).getextrema()[3] == (0, 0)
