"""Pictures of numbers against an index: spectra, and where they lose rank."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from labkit.plots import lines


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(plt.Text)]


def test_lost_directions_are_crosses_at_their_number_and_counted() -> None:
    figure = lines.spectra({"map": [1.0, 0.5, -np.inf, -np.inf]}, "A claim", first=2, floor=-9.0)
    ax = figure.axes[0]
    (crosses,) = [line for line in ax.lines if line.get_marker() == "x"]
    assert crosses.get_xydata().tolist() == [[3, -9], [4, -9]]
    assert "2 of 4 exactly zero" in words(figure)
    assert any(text.startswith("Values 1 to 1,") for text in words(figure))
    assert ax.get_legend() is None


def test_several_spectra_stand_beside_each_other_with_their_names() -> None:
    figure = lines.spectra({"a": [0.0, -np.inf], "b": [0.0, -1.0]}, "A claim")
    points = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert points == [0.88, 1.12]
    assert {"a", "b", "exactly zero"} <= set(words(figure))
