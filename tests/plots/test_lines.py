"""Singular values by number: what is lost stands apart from what is small."""

import numpy as np
import torch

from labkit.plots import lines


def test_lost_values_are_crosses_on_the_floor_and_the_rest_dots() -> None:
    logs = {"a": torch.tensor([0.0, -1.0, -torch.inf]), "b": torch.tensor([0.0, -2.0, -3.0])}
    figure = lines.spectra(logs, "A claim", first=2, floor=-20.0)
    dots = [line.get_ydata() for line in figure.axes[0].lines if line.get_marker() == "o"]
    crosses = [line.get_ydata() for line in figure.axes[0].lines if line.get_marker() == "x"]
    np.testing.assert_array_equal(dots, [[-1, np.nan], [-2, -3]])
    assert [list(heights) for heights in crosses] == [[-20.0], []]
    assert "$-\\infty$" in [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert "Values 1 to 1" in figure.get_supxlabel()
