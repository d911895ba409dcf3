"""Inputs of one length in unrelated directions."""

import pytest
import torch

from labkit.training.random_inputs import on_sphere


def test_every_input_has_mean_square_one_and_the_seed_decides():
    x = on_sphere(5, 7, seed=2)
    torch.testing.assert_close(x.square().mean(1), torch.ones(5, dtype=torch.float64))
    assert torch.equal(x, on_sphere(5, 7, seed=2))
    assert not torch.equal(x, on_sphere(5, 7, seed=3))
    assert on_sphere(2, 3, dtype=torch.float32).dtype == torch.float32


@pytest.mark.statistical
def test_directions_are_uniform():
    """The second moment is the identity, to 5 standard errors of an entry (√2 at most)."""
    x = on_sphere(20000, 3)
    assert (x.mT @ x / len(x) - torch.eye(3, dtype=torch.float64)).abs().max() < 5 * (2 / len(x)) ** 0.5


@pytest.mark.parametrize(("count", "width"), [(0, 3), (3, 0)])
def test_bad_input(count: int, width: int):
    with pytest.raises(ValueError, match=f"count={count}, width={width}; both must be at least 1"):
        on_sphere(count, width)
