import pytest
import torch
from torch import nn

from labkit.lessons.cost import multiplications


@pytest.mark.parametrize(
    ("run", "count"),
    [
        (lambda: torch.ones(5, 2, 3) @ torch.ones(5, 3, 4), 5 * 2 * 3 * 4),
        (lambda: torch.ones(7, 3) @ torch.ones(3), 7 * 3),
        (lambda: nn.Linear(6, 4)(torch.ones(10, 6)), 10 * 6 * 4),
        (lambda: nn.Conv2d(2, 3, 3, padding=1)(torch.ones(1, 2, 5, 5)), 2 * 3 * 9 * 25),
        (lambda: torch.ones(9).tanh().sum(), 0),
    ],
    ids=["bmm", "mv", "linear", "convolution", "elementwise"],
)
def test_counts_what_a_hand_would(run, count):
    assert multiplications(run) == count
