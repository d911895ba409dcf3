"""Pictures of a metric on a plane: what is drawn is what was handed over."""


import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure

from labkit.geometry.metric import Ellipse
from labkit.plots import ellipses, style


def shapes() -> Ellipse:
    return Ellipse(torch.tensor([[2.0, 1.0], [torch.inf, 0.5], [3.0, 3.0]]), torch.tensor([0.0, torch.pi / 2, 0.0]))


def words(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(plt.Text))


def test_ellipses_have_one_length_their_width_tells_the_distortion() -> None:
    _, ax = style.new()
    ellipses.plane(ax, 25.0)
    drawn = ellipses.field(ax, torch.zeros(3, 2), shapes(), torch.tensor([-1.0, 0.0, 1.0]), size=4.0, reach=2.0)
    assert isinstance(drawn, EllipseCollection)
    np.testing.assert_allclose(drawn.get_widths(), 4.0)
    np.testing.assert_allclose(drawn.get_heights(), [2.0, 0.08, 4.0], rtol=1e-6)
    np.testing.assert_allclose(drawn.get_angles(), [0, 90, 0], atol=1e-5)
    assert drawn.norm.vmax == 2.0
    assert ax.get_xlim() == (-25.0, 25.0)
    assert "along $e_1$" in ax.get_xlabel()


def test_photographs_lie_at_their_places_and_move_no_limit() -> None:
    _, ax = style.new()
    ellipses.plane(ax, 10.0)
    ellipses.thumbnails(ax, torch.rand(2, 4, 4), torch.tensor([[0.0, 5.0], [-9.0, 0.0]]), size=4.0)
    assert [image.get_extent() for image in ax.images] == [[-2, 2, 3, 7], [-11, -7, -2, 2]]
    assert ax.get_xlim() == ax.get_ylim() == (-10.0, 10.0)


def test_boundaries_run_where_a_margin_changes_sign() -> None:
    _, ax = style.new()
    ellipses.plane(ax, 10.0)
    side = np.linspace(-10, 10, 21)
    margin = np.broadcast_to(side[:, None] - 3.0, (21, 21))  # changes sign at abscissa 3
    ellipses.boundary(ax, side, torch.tensor(np.stack([margin, np.ones((21, 21))])))
    (contour,) = ax.collections
    vertices = np.concatenate([path.vertices for path in contour.get_paths()])
    np.testing.assert_allclose(vertices[:, 0], 3.0)


def test_a_table_of_fields_names_its_rows_and_columns_and_shows_its_scale() -> None:
    at = torch.cartesian_prod(torch.linspace(-4, 4, 3), torch.linspace(-4, 4, 3))
    sizes = torch.linspace(-1, 1, 9).exp()
    nine = Ellipse(torch.stack([sizes, sizes], dim=1), torch.zeros(9))
    panels = {(row, column): nine for row in ("one", "two") for column in ("a", "b", "c")}
    figure = ellipses.fields(panels, at, "A claim")
    assert len(figure.axes) == 7
    drawn = figure.axes[0].collections[0]
    np.testing.assert_allclose(drawn.get_array(), np.linspace(2, -2, 9), atol=1e-6)  # the larger, the bluer
    assert drawn.norm.vmax == pytest.approx(2.0)
    assert "log-volume" in words(figure)
    assert [ax.get_title(loc="center") for ax in figure.axes[:3]] == ["a", "b", "c"]
    assert "one\n" in figure.axes[0].get_ylabel()
    assert "A claim" in words(figure)
    assert not plt.get_fignums()


@pytest.mark.parametrize("sign", [1, -1])
def test_the_three_circles_carry_their_numbers(sign: int) -> None:
    figure = ellipses.unit_steps(torch.tensor([2.0, 0.5]), sign * torch.eye(2), "A claim")
    said = words(figure)
    for number in ("sigma_1 = 2.000", "sigma_2 = 0.500", "1/\\sigma_1 = 0.500", "1/\\sigma_2 = 2.000"):
        assert number in said
    last = [patch for patch in figure.axes[2].patches if hasattr(patch, "get_width")][-1]
    assert (last.get_width(), last.get_height()) == (1.0, 4.0)
    assert not plt.get_fignums()
