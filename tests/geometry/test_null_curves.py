"""Null curves and the parts that a Jacobian does not see, against closed forms and orders of convergence."""

import math

import pytest
import torch
from torch import Tensor

from labkit import Chain
from labkit.geometry.null_curves import null_curve, unseen
from labkit.networks import mlp


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class TestUnseen:
    @pytest.mark.parametrize("shape", [(3, 7), (7, 3), (5, 5), (1, 4)])
    def test_it_is_v_minus_pinv_J_J_v(self, shape: tuple[int, int]) -> None:
        J, v = random(4, *shape), random(4, shape[1], seed=1)
        by_hand = v - (torch.linalg.pinv(J) @ (J @ v[..., None]))[..., 0]
        assert (unseen(J, v) - by_hand).abs().max() < 1e-12

    def test_lost_rank_is_kernel_too(self) -> None:
        J = random(2, 3, 2) @ random(2, 2, 6, seed=1)  # rank 2, three rows
        v = random(2, 6, seed=2)
        left = unseen(J, v)
        assert (J @ left[..., None]).abs().max() < 1e-12
        assert (torch.linalg.matrix_rank(J) == 2).all()
        kernel = torch.linalg.svd(J).Vh[:, 2:]
        assert (left - (kernel.mT @ (kernel @ v[..., None]))[..., 0]).abs().max() < 1e-12
        assert torch.equal(unseen(torch.zeros(1, 2, 3), torch.ones(1, 3)), torch.ones(1, 3))

    def test_a_rank_keeps_the_smaller_singular_directions(self) -> None:
        J, v = torch.diag(torch.tensor([3.0, 2.0, 1.0])), torch.ones(3)
        assert torch.allclose(unseen(J, v, rank=1), torch.tensor([0.0, 1.0, 1.0]), atol=1e-6)
        assert torch.allclose(unseen(J, v, rank=0), v)
        assert torch.allclose(unseen(J, v, rank=3), torch.zeros(3), atol=1e-6)

    def test_bad_rank(self) -> None:
        with pytest.raises(ValueError, match=r"rank=4; one of 0 … 3"):
            unseen(torch.eye(3), torch.ones(3), rank=4)


class TestNullCurve:
    circle = Chain([lambda x: x.square().sum(1, keepdim=True)])

    @pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2)])
    def test_on_a_circle_it_has_its_closed_form(self, method: str, order: int) -> None:
        """x = (cos a, sin a) drawn to (0, 2): a' = 2 cos a, so the sine is tanh(2t) from a = 0."""
        start, target = torch.tensor([[1.0, 0.0]]).double(), torch.tensor([0.0, 2.0]).double()
        exact = torch.tensor([1 / math.cosh(2.0), math.tanh(2.0)]).double()
        errors = [
            (null_curve(self.circle, start, target, steps, method=method)[-1, 0] - exact).norm() for steps in (64, 128)
        ]
        assert float(errors[0] / errors[1]) == pytest.approx(2**order, rel=0.05)

    def test_a_linear_map_is_left_by_rounding_only(self) -> None:
        W = random(2, 5)
        chain = Chain([torch.nn.Linear(5, 2).double()])
        chain[0].weight.data = W
        x, target = random(3, 5, seed=1), random(3, 5, seed=2)
        path = null_curve(chain, x, target, 7, time=2.0)
        assert path.shape == (8, 3, 5)
        assert (chain(path[-1]) - chain(x)).abs().max() < 1e-13
        gone = unseen(W.expand(3, 2, 5), target - x)
        assert (path[-1] - x - (1 - (1 - 2 / 7) ** 7) * gone).abs().max() < 1e-12

    @torch.no_grad()
    def test_a_kept_out_rank_drifts_by_what_was_kept(self) -> None:
        net = mlp(2, 6, "tanh", 1.5, 0.1, n_in=6, seed=0, dtype=torch.float64)
        x, target = random(2, 6, seed=1), random(2, 6, seed=2)
        drifts = [(net(null_curve(net, x, target, n, rank=3)[-1]) - net(x)).norm() for n in (32, 64)]
        assert float(drifts[0] / drifts[1]) == pytest.approx(1, abs=0.1)

    def test_it_leaves_no_graph(self) -> None:
        net = mlp(2, 6, "tanh", 1.5, 0.1, n_in=6, n_out=2, seed=0, dtype=torch.float64)
        assert not null_curve(net, random(1, 6).requires_grad_(), random(6, seed=1), 2).requires_grad

    def test_bad_input(self) -> None:
        x = torch.ones(1, 2)
        with pytest.raises(ValueError, match="steps=0 is no walk"):
            null_curve(self.circle, x, x, 0)
        with pytest.raises(ValueError, match="method='rk4' does not exist; take one of euler, midpoint"):
            null_curve(self.circle, x, x, 2, method="rk4")
        with pytest.raises(ValueError, match=r"x has shape \(2,\); flat inputs"):
            null_curve(self.circle, x[0], x, 2)
        with pytest.raises(ValueError, match=r"target has shape \(3,\); \(2,\) or \(1, 2\)"):
            null_curve(self.circle, x, torch.ones(3), 2)
