import json
import math
from pathlib import Path

import pytest
import torch

from labkit.chain import Chain
from labkit.geometry import curvature
from labkit.networks import mlp
from labkit.theory.great_sphere import (
    circle_curvature,
    circle_length,
    extrema,
    mean_curvature,
    relu_extrema,
    second_fundamental_form,
    sectional_curvature,
    zeros,
)
from labkit.theory.kernel_jets import kernel_jet

REFERENCE = json.loads((Path(__file__).parents[2] / "data/reference/kernel_laws.json").read_text())


@pytest.mark.parametrize("case", REFERENCE["great_circle"], ids=lambda c: f"{c['sigma_w']}-{c['sigma_b']}")
class TestPoole:
    def test_closed_form_is_his_recursion(self, case):
        jet = kernel_jet([("tanh", case["sigma_w"], case["sigma_b"])] * 8, case["q_star"])
        assert circle_curvature(jet).tolist() == pytest.approx(case["curvature"], rel=1e-9)
        assert (jet.q * jet.chi_tot).tolist() == pytest.approx(case["speed"], rel=1e-9)
        assert circle_length(jet).tolist() == pytest.approx([2 * math.pi * v**0.5 for v in case["speed"]], rel=1e-9)

    def test_wide_networks_follow(self, case):
        """Six networks of width 3,000, measured once: 10 %, 15 % where the speed has grown by four powers of ten."""
        jet = kernel_jet([("tanh", case["sigma_w"], case["sigma_b"])] * 8, case["q_star"])
        assert circle_curvature(jet).tolist() == pytest.approx(case["mc_curvature"], rel=0.12)
        assert (jet.q * jet.chi_tot).tolist() == pytest.approx(case["mc_speed"], rel=0.15)

    def test_fixed_point_of_the_chaotic_phase(self, case):
        if case["curvature_fixed"] is None:
            assert case["chi_1"] < 1
            return
        jet = kernel_jet([("tanh", case["sigma_w"], case["sigma_b"])] * 80, case["q_star"])
        assert circle_curvature(jet)[-1].item() == pytest.approx(case["curvature_fixed"], rel=1e-8)


class TestForms:
    def test_a_linear_network_keeps_a_sphere_round(self):
        jet = kernel_jet([("linear", 1.5, 0.0)] * 2, 0.8)
        radius2 = torch.tensor([0.8 * 1.5 ** (2 * depth) for depth in range(3)]).double()
        for d in (1, 2, 5):
            torch.testing.assert_close(second_fundamental_form(jet, d), d / radius2)
            torch.testing.assert_close(mean_curvature(jet, d), d**2 / radius2)
        torch.testing.assert_close(sectional_curvature(jet), 1 / radius2)

    def test_gauss_equation(self):
        """Scalar curvature d(d-1)/(q A) = |tr II|² - |II|², in which K cancels."""
        jet = kernel_jet([("tanh", 2.0, 0.3)] * 4, 1.0)
        for d in (1, 2, 7):
            gap = mean_curvature(jet, d) - second_fundamental_form(jet, d)
            torch.testing.assert_close(gap, d * (d - 1) * sectional_curvature(jet))

    def test_a_circle_is_the_sphere_of_dimension_one(self):
        jet = kernel_jet([("gelu", 1.4, 0.2), ("tanh", 2.0, 0.3, 0.5)], 1.0)
        torch.testing.assert_close(second_fundamental_form(jet, 1), circle_curvature(jet))

    def test_total_curvature_is_pi_times_the_extrema_in_the_limit(self):
        """Length · κ against π · extrema: equal, as |a|² in n dimensions does not fluctuate."""
        jet = kernel_jet([("tanh", 1.7, 0.3)] * 5, 1.0)
        torch.testing.assert_close(circle_length(jet) * circle_curvature(jet).sqrt(), math.pi * extrema(jet))

    def test_a_bias_before_the_first_nonlinearity_counts(self, critical):
        """A circle of inputs, zeros at every depth at criticality: 2 without bias, fewer with one."""
        for sigma_b, wanted in ((0.3, 1.878), (1.0, 1.637)):
            sigma_w, q = critical("tanh", sigma_b)
            layers = [("linear", sigma_w, sigma_b), *[("tanh", sigma_w, sigma_b)] * 3]
            jet = kernel_jet(layers, (q - sigma_b**2) / sigma_w**2)
            assert zeros(jet)[1:].tolist() == pytest.approx([wanted] * 4, abs=1.2e-3)

    def test_counts(self, critical):
        assert zeros(kernel_jet([("tanh", 2.5, 0.3)] * 8, 4.0791238753))[-1].item() == pytest.approx(12.63, abs=5e-3)
        sigma_w, q = critical("tanh", 0.3)
        found = extrema(kernel_jet([("tanh", sigma_w, 0.3)] * 16, q))
        assert [found[depth].item() for depth in (1, 4, 16)] == pytest.approx([3.10, 5.14, 9.68], abs=5e-3)

    def test_tanh_at_one_and_zero_stops_bending(self):
        jet = kernel_jet([("tanh", 1.0, 0.0)] * 200, 1.0)
        limit = [(2 * count(jet)[200] - count(jet)[100]).item() for count in (zeros, extrema)]
        assert limit == pytest.approx([2.377, 4.531], abs=1e-3)

    def test_relu(self):
        found = [relu_extrema(depth, 200) for depth in (1, 2, 3, 4)]
        assert found == pytest.approx([18.0, 33.9, 49.9, 65.8], abs=0.05)
        jet = kernel_jet([("relu", 2**0.5, 0.0)], 1.0)
        assert extrema(jet).tolist() == [2.0, math.inf]

    def test_a_sphere_that_shrinks_to_a_point_has_no_curvature(self):
        jet = kernel_jet([("tanh", 0.0, 0.3)], 1.0)
        assert zeros(jet)[-1] == 0
        assert bool(circle_curvature(jet)[-1].isnan())


@pytest.mark.parametrize("dimension", [0, -1, 1.5, True])
def test_dimension_is_a_whole_number(dimension):
    jet = kernel_jet([("tanh", 1.0, 0.3)], 1.0)
    for function in (second_fundamental_form, mean_curvature):
        with pytest.raises(ValueError, match=r"dimension=.*; pass a whole number, 1 or more"):
            function(jet, dimension)


@pytest.mark.parametrize("given", [{"depth": 0, "width": 5}, {"depth": 2, "width": 2.5}])
def test_depth_and_width_are_whole_numbers(given):
    with pytest.raises(ValueError, match=r"(depth=0|width=2\.5); pass a whole number"):
        relu_extrema(**given)


@pytest.mark.statistical
class TestNetworks:
    def test_a_sphere_wrinkles(self, critical):
        """n|II|² and n|tr II|² of a great 2-sphere, 16 networks of width 400 and orthogonal weights, by their 2-jets.

        Four standard errors, and 4.5 ι l/n for the finite width.
        """
        width, depth, sigma_b = 400, 4, 0.3
        sigma_w, q = critical("tanh", sigma_b)
        predicted = kernel_jet([("tanh", sigma_w, sigma_b)] * depth, q)
        generator = torch.Generator().manual_seed(3)
        found = []
        for seed in range(16):
            frame = torch.linalg.qr(torch.randn(width, 3, generator=generator).double())[0] * (width * q) ** 0.5

            def cap(t, frame=frame):
                return torch.cat([(1 - (t**2).sum(-1, keepdim=True)).sqrt(), t], -1) @ frame.T

            options = {"seed": seed, "ensemble": "orthogonal", "dtype": torch.float64}
            net = mlp(depth, width, "tanh", sigma_w, sigma_b, **options)
            jet = (Chain([cap]) + net).jet(torch.zeros(1, 2, dtype=torch.float64))
            metric = jet.first[0].T @ jet.first[0]
            frame = torch.linalg.inv(torch.linalg.cholesky(metric)).T  # orthonormal in the metric
            II = torch.einsum("nij,ia,jb->nab", curvature.second_fundamental_form(jet)[0], frame, frame)
            found.append(torch.stack([(II**2).sum(), (II.diagonal(dim1=1, dim2=2).sum(-1) ** 2).sum()]) * width)
        mean, stderr = torch.stack(found).mean(0), torch.stack(found).std(0) / 4
        law = torch.stack([second_fundamental_form(predicted, 2)[-1], mean_curvature(predicted, 2)[-1]])
        assert bool(((mean - law).abs() < 4 * stderr + 0.02 * law).all()), (mean, stderr, law)

    def test_units_vanish_and_turn_as_often_as_predicted(self):
        """Zeros and extrema of 40 units in each of 24 networks of width 200 on a circle of 400 points."""
        sigma_w, q, depth, width = 2.5, 4.0791238753, 3, 200
        angle = torch.linspace(0, 2 * math.pi, 401)[:-1]
        circle = torch.zeros(400, width)
        circle[:, 0], circle[:, 1] = angle.cos(), angle.sin()
        counts = []
        for seed in range(24):
            frame = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(seed)))[0]
            out = mlp(depth, width, "tanh", sigma_w, 0.3, n_out=40, seed=seed)(circle @ frame.T * (width * q) ** 0.5)
            step = out.roll(-1, 0) - out
            counts.append([float((v * v.roll(-1, 0) < 0).sum(0).float().mean()) for v in (out, step)])
        found = torch.tensor(counts)
        mean, stderr = found.mean(0), found.std(0) / 24**0.5
        jet = kernel_jet([("tanh", sigma_w, 0.3)] * depth, q)
        law = torch.stack([zeros(jet)[-1], extrema(jet)[-1]])
        assert bool(((mean - law).abs() < 4 * stderr + 0.02 * law).all()), (mean, stderr, law)

    def test_relu_curves_turn_with_the_width(self):
        """Total curvature over π, 8 networks of width 100 with two layers on 20,000 points: 50 and more to a kink."""
        width, depth, points = 100, 2, 20_000
        angle = torch.linspace(0, 2 * math.pi, points + 1, dtype=torch.float64)[:-1]
        circle = torch.zeros(points, width, dtype=torch.float64)
        circle[:, 0], circle[:, 1] = angle.cos() * width**0.5, angle.sin() * width**0.5
        turned = []
        for seed in range(8):
            frame = torch.randn(width, width, generator=torch.Generator().manual_seed(seed)).double()
            net = mlp(depth, width, "relu", 2**0.5, 0.0, seed=seed, dtype=torch.float64)
            out = net(circle @ torch.linalg.qr(frame)[0]).detach()
            step = torch.nn.functional.normalize(out.roll(-1, 0) - out, dim=1)
            chord = (step.roll(-1, 0) - step).norm(dim=1)
            turned.append(float((2 * (chord / 2).asin()).sum() / math.pi))
        found = torch.tensor(turned)
        law = relu_extrema(depth, width)
        assert abs(found.mean() - law) < 4 * found.std() / 8**0.5 + 0.04 * law
