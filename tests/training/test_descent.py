"""Beside a minimum: linear algebra says by which factor the distance changes."""

import pytest
import torch
from torch import nn

from labkit.networks import mlp
from labkit.training.descent import back_to_minimum


def test_a_linear_model_follows_its_eigenvalues():
    """Inputs along two axes: λ = 2 and ½ of the mean of x xᵀ; the loss is a sum of two geometric sequences."""
    x = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    model = nn.Linear(2, 1, bias=False).double()
    losses = back_to_minimum(model, x, 1.1, steps=5, kick=1e-3, seed=3)
    d = 1e-3 * torch.randn(1, 2, generator=torch.Generator().manual_seed(3))[0].double()
    value = torch.tensor([2.0, 0.5], dtype=torch.float64)
    expected = [(value * ((1 - 1.1 * value) ** t * d) ** 2).sum() / 2 for t in range(6)]
    torch.testing.assert_close(losses, torch.stack(expected), rtol=1e-6, atol=0)


def test_the_model_stays_as_it_is():
    model = mlp(2, 4, "tanh", 1.0, 0.1, dtype=torch.float64).requires_grad_(False)
    before = [p.clone() for p in model.parameters()]
    losses = back_to_minimum(model, torch.ones(3, 4, dtype=torch.float64), torch.tensor(0.1), steps=2)
    assert losses.shape == (3,)
    assert not losses.requires_grad
    assert all(torch.equal(p, q) and p.grad is None for p, q in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize(("lr", "steps"), [(0.0, 3), (-1.0, 3), (float("nan"), 3), (0.1, 0)])
def test_bad_input(lr: float, steps: int):
    with pytest.raises(ValueError, match="both must be positive"):
        back_to_minimum(nn.Linear(1, 1), torch.ones(1, 1), lr, steps=steps)
