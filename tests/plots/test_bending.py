"""Pictures of bent things: what is painted where, which numbers are written, and nothing left open."""


import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from labkit.plots import bending, style


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(plt.Text)]


def test_limits_move_in_steps_of_one_two_and_five() -> None:
    assert [bending.round_up(value) for value in (0.011, 0.2, 0.21, 3, 5, 51)] == [0.02, 0.2, 0.5, 5.0, 5.0, 100.0]


def test_a_sheet_fits_and_its_far_pieces_are_painted_first() -> None:
    _, ax = style.new()
    x, y = np.meshgrid(np.linspace(0, 30, 4), np.linspace(0, 10, 3), indexing="ij")
    points = np.stack([x, y, 0 * x], axis=2)
    drawn = bending.sheet(ax, points, np.arange(6.0).reshape(3, 2) - 2.5, reach=2.5)
    corners = np.concatenate([path.vertices for path in drawn.get_paths()])
    assert np.abs(corners).max() == pytest.approx(1)
    assert len(drawn.get_paths()) == 6
    heights = [path.vertices[:4, 1].mean() for path in drawn.get_paths()]
    assert heights == sorted(heights, reverse=True), "seen from above, what lies behind stands higher"


def test_positive_pieces_are_orange_and_negative_ones_blue() -> None:
    _, ax = style.new()
    points = np.stack(np.meshgrid(range(3), range(2), [0], indexing="ij"), axis=-1)[:, :, 0]
    red, _, blue, _ = bending.sheet(ax, points, [[-1.0], [1.0]], reach=1.0).get_facecolors().T
    assert sorted(red > blue) == [False, True]


def test_the_foot_of_a_bill_has_both_sums() -> None:
    table = np.array([[0.0, 0, 0], [0, -2, 1.5], [0, 1.5, -1]])
    figure = bending.bill(table, "A claim")
    left, right = figure.axes
    assert [bar.get_width() for bar in right.patches] == [0, -0.5, 0.5, 0]
    ticks = right.lines[-1]
    assert ticks.get_xdata().tolist() == [-2, -1, -3], "a layer that bends nothing has no tick"
    assert {"$0.00$", "$-3.00$"} <= set(words(figure))
    assert [text.get_text() for text in left.texts].count("$1.50$") == 2
    assert not plt.get_fignums()


def test_a_flat_sheet_has_an_empty_bill() -> None:
    _, ax = style.new()
    bending.shares(ax, np.zeros((2, 2)))
    assert [text.get_text() for text in ax.texts] == ["no layer has bent it yet"]


def test_the_axis_of_a_bill_shows_the_values_it_is_told_to() -> None:
    _, ax = style.new()
    bending.shares(ax, np.diag([0.0, -1.0]), within=(-4, 6))
    assert ax.get_xlim() == pytest.approx((-6.7, 8.7))


def test_surfaces_stand_side_by_side_with_their_words() -> None:
    points = np.random.default_rng(0).normal(size=(3, 3, 3))
    figure = bending.gallery({"one\n$K = 0$": (points, np.zeros((2, 2))), "two": (points, np.ones((2, 2)))}, "A claim")
    *panels, bar = figure.axes
    assert [ax.get_xlabel() for ax in panels] == ["$K = 0$", ""]
    assert all(isinstance(ax.collections[0], PolyCollection) for ax in panels)
    assert bar.get_ylim() == (-1, 1)
    assert not plt.get_fignums()


def test_the_circle_that_fits_has_speed_squared_over_the_normal_part() -> None:
    curve = np.stack([np.linspace(-1, 1, 9), np.linspace(-1, 1, 9) ** 2], axis=1)
    figure = bending.split(curve, 2.0, np.array([0.5, 8.0]), "A claim")
    (circle,) = figure.axes[0].patches
    assert circle.get_radius() == pytest.approx(0.5)
    assert circle.center == pytest.approx((0, 0.5))
    assert "radius 0.50" in words(figure)
    figure.draw_without_rendering()
    (title,) = (text for text in figure.texts if text.get_text() == "A claim")
    assert title.get_window_extent().y1 <= figure.bbox.height
    assert title.get_window_extent().y0 >= figure.axes[0].get_window_extent().y1
