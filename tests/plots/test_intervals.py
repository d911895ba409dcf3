"""Means with intervals, line under line."""

import matplotlib.pyplot as plt
import numpy as np
import torch

from labkit.plots.intervals import intervals


def test_every_mean_stands_in_its_line_with_four_standard_errors() -> None:
    samples = {("before", "a"): torch.tensor([1.0, 3.0]), ("before", "b"): [0.0, 0.2], ("after", "a"): [5.0, 5.0]}
    figure = intervals(samples, "A claim", xlabel="x", references={"nothing": 0}, over="networks")
    ax = figure.axes[0]
    bars = [container.lines for container in ax.containers]
    assert [line.get_xdata()[0] for line, *_ in bars] == [2.0, 0.1, 5.0]
    whole = bars[0][2][0].get_segments()[0][:, 0]
    np.testing.assert_allclose(whole, [2 - 4, 2 + 4])
    texts = [text.get_text() for text in figure.findobj(plt.Text)]
    assert {"a, 2.00", "b, 0.10", "a, 5.00", "nothing"} <= set(texts)
    assert any("mean of 2 networks" in text for text in texts)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["before", "after"]
    assert not plt.get_fignums()
