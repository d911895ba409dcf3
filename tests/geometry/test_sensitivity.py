"""The stretch of one direction, alone and beside others."""

import pytest
import torch

from labkit import Chain, Linearization
from labkit.geometry import metric
from labkit.geometry.sensitivity import relative_stretch, stretch


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dense", [True, False])
def test_it_is_the_rayleigh_quotient_of_the_metric(dense: bool) -> None:
    chain = Chain([torch.nn.Linear(5, 4).double(), torch.nn.Tanh()])
    x, v = random(3, 5), random(3, 5, seed=1)
    g = metric.pullback_metric(chain.linearize(x))
    quotient = (metric.inner(g, v, v) / v.square().sum(1)).sqrt()
    assert torch.allclose(stretch(chain.linearize(x, dense=dense), v), quotient)


def test_one_direction_serves_all_points_and_its_length_does_not_count() -> None:
    lin, v = Linearization([random(3, 2, 4)]), random(4, seed=1)
    assert torch.allclose(stretch(lin, v), stretch(lin, (7 * v).expand(3, 4)))
    assert stretch(lin, 0 * v).isnan().all()


def test_relative_is_a_quotient_of_root_mean_squares() -> None:
    lin = Linearization([torch.diag_embed(torch.tensor([[3.0, 1.0], [4.0, 1.0]]))])
    e1, e2 = torch.eye(2)
    assert relative_stretch(lin, e1, e2).item() == pytest.approx((25 / 2) ** 0.5)


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e20, 1e30])
def test_sizes_whose_squares_do_not_fit(size: float) -> None:
    e1, e2 = torch.eye(2)
    assert stretch(Linearization([2 * torch.eye(2)[None]]), size * e1).item() == pytest.approx(2)
    lin = Linearization([size * torch.diag(torch.tensor([3.0, 1.0]))[None]])
    assert stretch(lin, e1).item() == pytest.approx(3 * size)
    assert relative_stretch(lin, e1, e2).item() == pytest.approx(3)


def test_bad_input() -> None:
    lin = Linearization([random(3, 2, 4)])
    with pytest.raises(ValueError, match=r"v has shape \(2, 4\); \(4,\) or \(3, 4\)"):
        stretch(lin, random(2, 4))
    with pytest.raises(TypeError, match="lin"):
        stretch(random(3, 2, 4), random(4))
