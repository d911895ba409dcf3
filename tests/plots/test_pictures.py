"""Rows of pictures."""

import matplotlib.pyplot as plt
import torch

from labkit.plots import pictures, style


def test_grey_is_ink_on_paper_cut_off_at_both_ends() -> None:
    _, ax = style.new()
    pictures.grey(ax, torch.tensor([[-0.5, 1.5]]), "above", note="below")
    image = ax.images[0]
    assert (image.norm.vmin, image.norm.vmax, image.cmap.name) == (0, 1, "gray_r")
    assert (ax.get_title(), ax.get_xlabel()) == ("above", "below")
    plt.close("all")


def test_a_row_has_its_captions_and_its_signed_end() -> None:
    figure = pictures.row(
        torch.rand(2, 3, 3), ["a", "b"], "A claim", notes=["start", ""], signed=(-2 * torch.eye(3), "new"), note="why"
    )
    texts = [text.get_text() for text in figure.findobj(plt.Text)]
    assert len(figure.axes) == 3
    assert {"a", "b", "new", "start", "A claim", "why", r"$\pm\,$2.0"} <= set(texts)
    assert figure.axes[2].images[0].norm.vmax == 2
    assert not plt.get_fignums()
