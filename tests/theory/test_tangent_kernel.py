import itertools
import math

import pytest
import torch
from torch import nn

from labkit.theory.kernel_jets import correlations, kernel_jet
from labkit.theory.tailoring import tailor
from labkit.theory.tangent_kernel import critical_ratio, neural_tangent_kernel


def ratio(phi, sigma_b, depth, c0=0.0):
    """Θ(c0)/Θ(1) of a network with a first layer W x, from 1 - c_0, in normalised critical form."""
    layers = [("linear", 1.0, 0.0), *[(phi, 1.0, sigma_b)] * (depth - 1)]
    theta = neural_tangent_kernel(layers, 1.0, torch.tensor([c0, 1.0]))[-1]
    return (theta[0] / theta[1]).item()


class TestRecursion:
    def test_linear_network(self):
        """Θ = L c Π σ_w², every layer giving the same."""
        theta = neural_tangent_kernel([("linear", 1.5, 0.0)] * 4, 0.8, 0.3)
        assert theta.tolist() == pytest.approx([0.8 * 0.3 * depth * 2.25**depth for depth in range(5)], rel=1e-12)

    def test_relu_is_the_arc_cosine_recursion(self):
        c, theta = 0.2, 0.0
        found = neural_tangent_kernel([("relu", 2**0.5, 0.0)] * 3, 1.0, 0.2)
        for depth in range(1, 4):
            angle = math.acos(c)
            c, slope = (math.sin(angle) + (math.pi - angle) * c) / math.pi, (math.pi - angle) / math.pi
            theta = c + slope * theta
            assert found[depth].item() == pytest.approx(theta, rel=1e-9)

    def test_at_equal_inputs_it_is_a_sum_over_layers(self):
        """Θ(1) = Σ_l B_l Π_{m>l} χ_m q_m/q_{m-1}, biases and skips included."""
        layers = [("tanh", 1.4, 0.3), ("gelu", 1.2, 0.1, 0.6), ("tanh", 0.9, 0.2)]
        jet = kernel_jet(layers, 0.7)
        branch = [jet.q[1], (jet.q[2] - jet.q[1]), jet.q[3]]
        gain = jet.chi * jet.q[1:] / jet.q[:-1]
        wanted = branch[0] * gain[1] * gain[2] + branch[1] * gain[2] + branch[2]
        assert neural_tangent_kernel(layers, 0.7, 1.0)[-1].item() == pytest.approx(wanted.item(), rel=1e-9)

    def test_a_block_of_scale_zero_learns_nothing(self):
        assert neural_tangent_kernel([("tanh", 1.0, 0.5, 0.0)] * 2, 1.0, 0.3).tolist() == [0, 0, 0]

    def test_a_grid_is_a_loop(self):
        c0 = torch.tensor([-1.0, 0.2, 1.0], dtype=torch.float64)
        grid = neural_tangent_kernel([("tanh", 1.3, 0.2)] * 2, 0.9, c0)
        for i in range(3):
            torch.testing.assert_close(grid[:, i], neural_tangent_kernel([("tanh", 1.3, 0.2)] * 2, 0.9, c0[i]))

    def test_divergence(self):
        found = neural_tangent_kernel([("relu", 1e160, 0.0)] * 2, 1.0, 0.5)
        assert not bool(found[2].isfinite())

    def test_a_jump_is_refused(self):
        with pytest.raises(ValueError, match="layers has an activation that jumps, whose tangent kernel is infinite"):
            neural_tangent_kernel([(torch.sign, 1.0, 0.0)], 1.0, 0.5)


class TestClosedForm:
    def test_known_values(self):
        """γL = 2 and 8, exact recursion and closed form."""
        softplus = tailor("softplus", chi=1.0, p=0.01)
        depth = round(2 / kernel_jet([(softplus, 1.0, 0.0)], 1.0).gamma.item())
        assert ratio(softplus, 0.0, depth) == pytest.approx(0.209, abs=2e-3)
        assert critical_ratio(1.0, 1.0).item() == pytest.approx(0.208, abs=5e-4)
        assert critical_ratio(1.0, 4.0).item() == pytest.approx(0.293, abs=5e-4)
        for gamma, wanted, at in ((0.12, 0.178, 2), (0.467, 0.141, 2), (0.12, 0.279, 8), (0.467, 0.277, 8)):
            phi = tailor("tanh", chi=1.0, gamma=gamma, offset="bias")
            assert ratio(phi, phi.sigma_b, round(at / gamma)) == pytest.approx(wanted, abs=2.5e-3)

    def test_is_the_limit_of_small_curvature(self):
        """Quadratic maps C = c + (γ/2)(1-c)²: the error falls as γ at a fixed T."""
        errors = []
        for depth in (20, 40, 80):
            p = 1.5 / depth  # T = γL/2 = pL

            def phi(h, p=p):
                return p**0.5 * (1 + (h**2 - 1) / 2**0.5) + (1 - 2 * p) ** 0.5 * h

            errors.append(ratio(phi, 0.0, depth, 0.4) - critical_ratio(0.6, 1.5).item())
        assert errors[1] / errors[0] == pytest.approx(0.5, abs=0.1)
        assert errors[2] / errors[1] == pytest.approx(0.5, abs=0.05)

    def test_ends(self):
        gap = torch.tensor([0.0, 0.3, 1.0, 2.0], dtype=torch.float64)
        torch.testing.assert_close(critical_ratio(gap, 0.0), 1 - gap)
        assert critical_ratio(gap[1:], 1e200).tolist() == pytest.approx([1 / 3] * 3, rel=1e-12)
        T, u = 0.7, 0.4
        printed = ((1 + u * T) ** 3 - 1) / (3 * u * T * (1 + u * T) ** 2) - u * (1 + u * T / 2) / (1 + u * T) ** 2
        assert critical_ratio(u, T).item() == pytest.approx(printed, rel=1e-14)

    def test_far_points_of_a_map_of_high_degree_are_not_told(self):
        """A wiggle with γ of 2.5 a layer and little p: 0.116 in place of 0.317 at γL = 20."""
        phi = tailor(
            lambda z, t: z + t * torch.sin(8 * z) / 8,
            chi=1.0, iota=0.1525, offset="bias", slope=0.3, free=["slope", "offset"],
        )  # fmt: skip
        gamma = kernel_jet([(phi, 1.0, phi.sigma_b)], 1.0).gamma.item()
        assert critical_ratio(1.0, 10.0).item() == pytest.approx(0.317, abs=2e-3)
        assert ratio(phi, phi.sigma_b, round(20 / gamma)) < 0.15

    @pytest.mark.parametrize("given", [{"gap": -0.1, "budget": 1.0}, {"gap": 1.0, "budget": math.inf}])
    def test_bad_input(self, given):
        with pytest.raises(ValueError, match=r"(gap|budget) holds .*; pass finite numbers ≥ 0"):
            critical_ratio(**given)


@pytest.mark.statistical
def test_networks_have_this_kernel():
    """Inner products of gradients of one output in 12 networks of width 300, within 4 standard errors and 2 %."""
    width, depth, sigma_w, sigma_b, c0 = 300, 3, 1.5, 0.4, 0.5
    layers = [("linear", sigma_w, sigma_b), *[("tanh", sigma_w, sigma_b)] * depth]
    law = neural_tangent_kernel(layers, 1.0, torch.tensor([c0, 1.0]))[-1]
    found = []
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        frame = torch.linalg.qr(torch.randn(width, 2, generator=generator).double())[0].T * width**0.5
        points = torch.stack([frame[0], c0 * frame[0] + (1 - c0**2) ** 0.5 * frame[1]])
        sizes = [width] * (depth + 1) + [1]
        weights = [nn.Parameter(torch.randn(b, a, generator=generator).double()) for a, b in itertools.pairwise(sizes)]
        biases = [nn.Parameter(torch.randn(b, generator=generator).double()) for b in sizes[1:]]
        gradients = []
        for x in points:
            for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
                x = sigma_w / width**0.5 * (weight @ (torch.tanh(x) if layer else x)) + sigma_b * bias
            gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(x, [*weights, *biases])]))
        found.append(torch.stack([gradients[0] @ gradients[1], gradients[0] @ gradients[0]]))
    mean, stderr = torch.stack(found).mean(0), torch.stack(found).std(0) / 12**0.5
    assert bool(((mean - law).abs() < 4 * stderr + 0.02 * law).all()), (mean, stderr, law)
    assert correlations(layers, 1.0, c0)[-1] > 0.4  # the two inputs are still apart
