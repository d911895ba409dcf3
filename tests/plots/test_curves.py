"""Pictures of curves and of what is measured along them."""


import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from labkit.plots import curves, style


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(plt.Text)]


def test_a_curve_is_as_orange_as_it_is_fast() -> None:
    _, ax = style.new()
    ax.set(xlim=(0, 2), ylim=(0, 2))
    line = curves.coloured(ax, torch.tensor([[0.0, 0], [1, 0], [1, 1]]), torch.tensor([-0.5, 0.5]), reach=1.0)
    assert line.get_array().tolist() == [-0.5, 0.5]
    assert line.norm.vmin, line.norm.vmax == (-1.0, 1.0)
    assert [segment.tolist() for segment in line.get_segments()] == [[[0, 0], [1, 0]], [[1, 0], [1, 1]]]
    assert ax.get_xlim() == (0, 2)


def test_lines_of_the_given_slope_go_through_the_smallest_error() -> None:
    x = np.array([1.0, 2.0, 4.0, 8.0])
    samples = {"tanh": np.stack([3 * x**-2, 3 * x**-2]), "relu": np.stack([x**-1, 4 * x**-1])}
    figure = curves.orders(x, samples, {"tanh": -2, "relu": -1}, "A claim", xlabel="pieces", ylabel="error")
    ax = figure.axes[0]
    lines = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    np.testing.assert_allclose(lines["tanh, slope $-2$"].get_ydata(), 3 * x**-2)
    np.testing.assert_allclose(lines["relu, slope $-1$"].get_ydata(), 2 * x**-1.0)
    assert lines["relu, slope $-1$"].get_color() == style.RELU
    figure.canvas.draw()
    assert "$10^{0}$" in words(figure)
    assert any("geometric mean of 2 repetitions" in text for text in words(figure))
    assert not plt.get_fignums()


def test_points_that_would_hide_each_other_stand_side_by_side() -> None:
    samples = {"a": np.ones((2, 2)), "b": np.ones((2, 2))}
    slopes = {"a": 0, "b": 0}
    figure = curves.orders([1, 2], samples, slopes, "A claim", xlabel="x", ylabel="y", over="networks", apart=1.21)
    left, right = (bars.lines[0].get_xdata() for bars in figure.axes[0].containers)
    assert left == pytest.approx([1 / 1.1, 2 / 1.1])
    assert right == pytest.approx([1.1, 2.2])
    drawn = next(line for line in figure.axes[0].lines if line.get_label().startswith("a"))
    assert drawn.get_xdata() == pytest.approx([1 / 1.1, 2.2]), "lines reach as far as the points"
    assert "Points: geometric mean of 2 networks, set side by side; bars: $\\pm$ 4 standard errors." in words(figure)


def test_laws_are_lines_and_points_stand_beside_each_other() -> None:
    samples = {"tanh, critical": np.ones((3, 2)), "relu": np.ones((2, 2))}
    laws = {"tanh, critical": [1, 2], "relu": [3, 4]}
    figure = curves.laws([0, 1], samples, laws, "A claim", xlabel="x", ylabel="y", lines="the rule", apart=0.2)
    ax = figure.axes[0]
    lines = {line.get_label(): line for line in ax.lines}
    assert lines["_relu"].get_ydata().tolist() == [3, 4]
    assert lines["relu"].get_color() == style.RELU
    assert lines["tanh, critical"].get_color() == style.CRITICAL, "the last word of a name is a phase"
    assert lines["tanh, critical"].get_xdata() == pytest.approx([-0.1, 0.9])
    assert lines["relu"].get_xdata() == pytest.approx([0.1, 1.1])
    text = "Lines: the rule. Points: mean of 3 and 2 networks; bars: $\\pm$ 4 standard errors."
    assert text in words(figure)
    assert not plt.get_fignums()


def test_a_law_is_compared_with_the_mean_of_what_its_axis_shows() -> None:
    samples = {"a": np.array([[1.0, 4.0], [4.0, 1.0]])}
    drawn = [
        curves.laws([1, 2], samples, {"a": [1, 1]}, "A claim", xlabel="x", ylabel="y", log=log).axes[0].containers[0]
        for log in (False, True)
    ]
    np.testing.assert_allclose(drawn[0].lines[0].get_ydata(), [2.5, 2.5])
    np.testing.assert_allclose(drawn[1].lines[0].get_ydata(), [2, 2])
    (_, low), (_, high) = drawn[1].lines[2][0].get_segments()[0]
    assert low * high == pytest.approx(4), "a bar of factors, as long upwards as downwards to the eye"


def test_logarithmic_axes_have_two_labels_at_least_and_fractions() -> None:
    samples = {"a": np.array([[3.0, 20.0], [4.0, 30.0]])}
    figure = curves.laws([0.25, 2], samples, {"a": [3, 25]}, "A claim", xlabel="x", ylabel="y", log=True)
    figure.canvas.draw()
    assert {"1/4", "2", "5", "10", "20"} <= set(words(figure))
    wide = curves.laws([1, 2], {"a": [[0.001, 1], [0.002, 2]]}, {"a": [1, 1]}, "T", xlabel="x", ylabel="y", log=True)
    wide.canvas.draw()
    assert {"$10^{-3}$", "$10^{-1}$"} <= set(words(wide))


def test_every_depth_has_its_mean_and_the_end_its_number() -> None:
    samples = {"before": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "after": torch.tensor([[2.0, 5.0], [4.0, 7.0]])}
    figure = curves.by_depth(samples, "A claim", ylabel="y", unchanged=(0, "nothing"), over="networks")
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines["before, 3.00"].get_ydata().tolist() == [2.0, 3.0]
    assert lines["after, 6.00"].get_ydata().tolist() == [3.0, 6.0]
    assert lines["before, 3.00"].get_color() != lines["after, 6.00"].get_color()
    assert "nothing" in words(figure)
    assert any("mean of 2 networks" in text for text in words(figure))
    assert not plt.get_fignums()


def test_a_walk_carries_its_distances_and_its_ends() -> None:
    figure = curves.strip(
        torch.rand(4, 5, 5), torch.tensor([0.5, 1.25, 2.0]), "A claim", ends=("shoe", "hat"), note="far"
    )
    said = words(figure)
    assert [text for text in said if text in ("0.50", "1.25", "2.00")] == ["0.50", "1.25", "2.00"]
    assert figure.axes[0].get_title(loc="center") == "shoe"
    assert figure.axes[-1].get_title(loc="center") == "hat"
    assert "far" in said
    assert len(figure.axes) == 4
