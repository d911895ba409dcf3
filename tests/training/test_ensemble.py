"""Networks trained side by side: they learn what separate ones learn, and the depth at a level is interpolated."""

import pytest
import torch

from labkit.training import datasets
from labkit.training.ensemble import depth_at, train_scales


def test_a_network_learns_the_same_alone_and_among_others() -> None:
    data = datasets.digits(dtype=torch.float64)
    together = train_scales(data, 3, 16, "tanh", [0.5, 1.3, 2.0], 0.1, epochs=2, lr=1e-2)
    alone = [float(train_scales(data, 3, 16, "tanh", [s], 0.1, epochs=2, lr=1e-2)) for s in (0.5, 1.3, 2.0)]
    assert together.tolist() == pytest.approx(alone, abs=0.01)
    assert together.min() > 0.3


def test_weights_without_scale_learn_nothing_deep() -> None:
    data = datasets.digits(dtype=torch.float32)
    right = train_scales(data, 12, 16, "tanh", [0.01, 1.2], 0.0, epochs=4, lr=1e-2)
    assert right[0] < 0.2
    assert right[1] > 0.5


def test_the_depth_at_a_level_is_interpolated_and_stays_within_the_depths() -> None:
    table = [[0.9, 0.2, 0.9], [0.5, 0.1, 0.9], [0.1, 0.1, 0.9]]
    assert depth_at(table, [4, 16, 64], 0.3).tolist() == pytest.approx([32.0, 4.0, 64.0])


@pytest.mark.parametrize(
    ("options", "words"), [({"depth": 1}, "depth=1"), ({"width": 0}, "width=0"), ({"lr": 0.0}, "lr=0.0")]
)
def test_bad_numbers_are_refused(options: dict[str, float], words: str) -> None:
    given = {"depth": 3, "width": 8, "activation": "tanh", "sigma_w": [1.0], "sigma_b": 0.1} | options
    with pytest.raises(ValueError, match=words):
        train_scales(datasets.digits(), **given)  # type: ignore[arg-type]  # bad input on purpose


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"accuracies is \(2, 1\)"):
        depth_at([[0.1], [0.2]], [1, 2, 3], 0.5)
