"""Pictures of eigenvalues: every number where it belongs."""


import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from labkit.plots import eigenvalues, style


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(plt.Text)]


def test_eigenvalues_stand_at_their_numbers_and_the_zeros_are_counted() -> None:
    figure, ax = style.new()
    eigenvalues.scree(ax, {"": [4.0, 2.0]}, 1000, limits=(1e-3, 10), levels={"predicted, 3": 3.0})
    points, zeros, level = ax.lines
    np.testing.assert_array_equal(points.get_xydata(), [[1, 4], [2, 2]])
    assert list(zeros.get_xdata()) == [3, 1000]
    assert list(level.get_ydata()) == [3, 3]
    assert {"998 are zero", "predicted, 3"} <= set(words(figure))


def test_no_bar_without_zeros_and_two_groups_have_names() -> None:
    figure = eigenvalues.numbered({"one": [4.0, 2.0], "two": [1.0]}, 2, "A claim", limits=(1e-3, 10))
    assert len(figure.axes[0].lines) == 2
    assert {"one", "two", "A claim"} <= set(words(figure))
    assert not any("zero" in text for text in words(figure))


def test_descent_shows_every_step() -> None:
    figure = eigenvalues.descent({"safe": [1.0, 0.1, 0.01], "not": [1.0, 10.0, 100.0]}, "T")
    safe, unsafe = figure.axes[0].lines
    assert list(safe.get_ydata()) == [1, 0.1, 0.01]
    assert list(unsafe.get_xdata()) == [0, 1, 2]
    assert {"safe", "not"} <= set(words(figure))
