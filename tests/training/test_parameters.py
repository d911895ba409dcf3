"""A model elsewhere in its parameter space."""

import pytest
import torch
from torch import nn

from labkit.training.parameters import moved


def test_it_is_another_model_at_theta_and_the_first_stays() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    theta = torch.arange(before.numel(), dtype=torch.float64)
    other = moved(model, theta)
    after = nn.utils.parameters_to_vector(other.parameters())
    assert after.dtype == torch.float32
    torch.testing.assert_close(after.detach(), theta.float())
    torch.testing.assert_close(nn.utils.parameters_to_vector(model.parameters()).detach(), before)


def test_it_shares_nothing_with_theta_and_can_learn() -> None:
    theta = torch.zeros(2, requires_grad=True)
    other = moved(nn.Linear(1, 1), theta)
    with torch.no_grad():
        theta.add_(1)
    assert other(torch.ones(1, 1)).item() == 0
    other(torch.ones(1, 1)).sum().backward()
    assert other.bias.grad is not None
    assert theta.grad is None


@pytest.mark.parametrize("shape", [(3,), (1, 2), ()])
def test_wrong_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="pass a vector of the model's 2 parameters"):
        moved(nn.Linear(1, 1), torch.zeros(shape))
