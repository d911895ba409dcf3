"""Matrices as pictures: the numbers beside them are those of the matrices."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from labkit.plots import matrices


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(plt.Text)]


def test_factors_stand_in_the_order_of_the_formula_with_their_sizes() -> None:
    first, second = torch.ones(3, 2), torch.full((4, 3), 2.0)
    figure = matrices.factors([first, second], second @ first, "A claim")
    assert [ax.get_title(loc="center") for ax in figure.axes] == ["$J_{2}$", "$J_{1}$", "$Df$"]
    assert [ax.get_xlabel().split("\n")[0] for ax in figure.axes] == ["4 by 3", "3 by 2", "4 by 2"]
    assert figure.axes[2].get_xlabel().endswith("6")


def test_templates_are_the_rows_of_the_highest_outputs() -> None:
    rows = torch.arange(12.0).reshape(3, 4)
    outputs = torch.tensor([1.0, 3.25, 2.0])
    figure = matrices.templates(torch.ones(2, 2), rows, outputs, ["a", "b", "c"], "A claim", best=2)
    assert [ax.get_title(loc="center") for ax in figure.axes[1:]] == ["row “b”", "row “c”"]
    assert figure.axes[1].get_xlabel().endswith("3.25")
    np.testing.assert_allclose(figure.axes[1].images[0].get_array(), rows[1].reshape(2, 2))


def test_a_small_block_is_not_written_as_zero() -> None:
    said = words(matrices.blocks(torch.tensor([[1.0, 0.004], [0.0001, 0.0]]), "A claim", label="norm"))
    assert {"1.00", "0.004", "0.0001", "0.00"} <= set(said)
