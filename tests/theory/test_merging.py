import json
import math
from pathlib import Path

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.networks import mlp
from labkit.theory.kernel_jets import correlations, kernel_jet
from labkit.theory.merging import (
    curvature_price,
    merging_bounds,
    merging_law,
    relu_gap_law,
    relu_gaps,
    smooth_gap_law,
)
from labkit.theory.tailoring import Tailored

REFERENCE = json.loads((Path(__file__).parents[2] / "data/reference/kernel_laws.json").read_text())
CRITICAL = REFERENCE["critical_merging"]

layers = st.lists(
    st.tuples(
        st.sampled_from(["tanh", "erf", "gelu", "silu", "softplus", "sin", "linear"]),
        st.floats(0.3, 3.0),
        st.floats(0.0, 1.0),
        st.sampled_from([None, 0.2, 1.0]),
    ),
    min_size=1,
    max_size=4,
)


def quadratic(p: float):
    """φ with C(c) = p + (1 - 2p) c + p c² at q = 1: the price γ = 2p, paid exactly."""
    return lambda h: p**0.5 * (1 + (h**2 - 1) / 2**0.5) + (1 - 2 * p) ** 0.5 * h


class TestBounds:
    @settings(max_examples=50)
    @given(layers=layers, q0=st.floats(0.05, 5.0), c0=st.floats(0.0, 0.999))
    def test_hold_for_any_chain(self, layers, q0, c0):
        bounds = merging_bounds(kernel_jet(layers, q0), c0)
        gap = 1 - correlations(layers, q0, c0)
        assert bool((bounds.lower <= gap * (1 + 1e-9) + 1e-13).all())
        assert bool((gap <= bounds.upper * (1 + 1e-9) + 1e-13).all())

    def test_are_false_for_obtuse_angles(self):
        """Why c0 < 0 is refused: an odd map shows that the lower bound fails there."""
        layer = [("tanh", 1.5, 0.0)]
        jet, gap = kernel_jet(layers=layer, q0=1.0), 1 - correlations(layer, 1.0, -0.9)[1]
        least = 1 / 1.9 / jet.chi[0] + (jet.p[0] + jet.chi[0] - 1) / jet.chi[0] ** 2
        assert 1 / gap < least

    @pytest.mark.parametrize(("sigma_b", "wanted"), [(0.05, (6.507, 9.176, 10.351)), (0.3, (47.15, 90.21, 105.88))])
    def test_critical_tanh_of_400_layers(self, critical, sigma_b, wanted):
        sigma_w, q = critical("tanh", sigma_b)
        chain = [("tanh", sigma_w, sigma_b)] * 400
        bounds, gap = merging_bounds(kernel_jet(chain, q), 0.0), 1 - correlations(chain, q, 0.0)[-1]
        found = [1 / value - 1 for value in (bounds.upper[-1], gap, bounds.lower[-1])]
        assert [float(value) for value in found] == pytest.approx(wanted, rel=2e-4)

    def test_at_chi_one_they_are_sums(self):
        sigma_w, q = 1.1225390047695751, 0.1536919358212161
        jet = kernel_jet([("tanh", sigma_w, 0.05)] * 30, q)
        bounds = merging_bounds(jet, 0.4)
        assert (1 / bounds.upper[-1]).item() == pytest.approx(1 / 0.6 + jet.p.sum().item(), rel=1e-11)
        most = 1 / 0.6 + (jet.gamma / (1 - jet.p)).sum().item() / 2
        assert (1 / bounds.lower[-1]).item() == pytest.approx(most, rel=1e-11)

    def test_edges(self):
        relu = merging_bounds(kernel_jet([("relu", 2**0.5, 0.0)] * 2, 1.0), 0.3)
        assert relu.lower.tolist() == pytest.approx([0.7, 0, 0])
        forgets = merging_bounds(kernel_jet([("tanh", 0.0, 0.3)], 1.0), 0.3)
        assert [forgets.lower[-1].item(), forgets.upper[-1].item()] == [0, 0]
        same = merging_bounds(kernel_jet([("tanh", 1.0, 0.3)] * 2, 1.0), 1.0)
        assert same.upper.tolist() == [0, 0, 0]

    @pytest.mark.parametrize("c0", [-0.1, 1.1])
    def test_cosine_out_of_range(self, c0):
        with pytest.raises(ValueError, match=r"c0 holds .*; pass numbers in \[0, 1\], for at obtuse angles"):
            merging_bounds(kernel_jet([("tanh", 1.0, 0.1)], 1.0), c0)

    def test_cosines_of_another_grid(self):
        with pytest.raises(ValueError, match=r"c0 has shape \(2,\), which does not broadcast to the jet's grid \(\)"):
            merging_law(kernel_jet([("tanh", 1.0, 0.1)], 1.0), torch.zeros(2))


class TestLaws:
    @pytest.mark.parametrize(("p", "ratio"), [(0.01, 1.009), (0.1, 1.059), (0.3, 1.111)])
    def test_small_curvature(self, p, ratio):
        chain = [(quadratic(p), 1.0, 0.0)] * 20
        jet, c = kernel_jet(chain, 1.0), correlations(chain, 1.0, 0.0)
        assert jet.gamma_tot[-1].item() == pytest.approx(40 * p, rel=1e-10)
        assert ((1 / (1 - c[-1]) - 1) / (20 * p)).item() == pytest.approx(ratio, abs=6e-4)
        assert (1 / merging_law(jet, 0.0)[-1]).item() == pytest.approx(1 + 20 * p, rel=1e-10)

    def test_tailored_softplus_of_100_layers(self):
        case = REFERENCE["tailored"][0]
        constants = [case[k] for k in ("input_scale", "input_shift", "output_shift", "output_scale")]
        chain = [(Tailored(torch.nn.functional.softplus, *constants), 1.0, 0.0)] * 100
        jet = kernel_jet(chain, 1.0)
        assert (1 - merging_law(jet, 0.0)[-1]).item() == pytest.approx(0.131926, abs=1e-6)
        assert correlations(chain, 1.0, 0.0)[-1].item() == pytest.approx(0.132033, abs=1e-6)

    def test_off_criticality_it_is_exact_for_maps_of_small_curvature(self):
        """One layer x + ε-branch: 1/(1 - c') - law = O(ε²)."""
        errors = []
        for alpha in (0.1, 0.05):
            chain = [("tanh", 1.7, 0.0, alpha)]
            gap = 1 - correlations(chain, 0.5, 0.999)[-1]
            errors.append(abs(1 / gap - 1 / merging_law(kernel_jet(chain, 0.5), 0.999)[-1]).item())
        assert errors[1] < 0.3 * errors[0]

    @pytest.mark.parametrize("case", CRITICAL, ids=lambda c: f"{c['activation']}-{c['sigma_b']:.2f}")
    def test_iterated_maps_and_their_asymptote(self, case):
        depth = 200
        chain = [(case["activation"], case["sigma_w"], case["sigma_b"])] * depth
        gaps = 1 - correlations(chain, case["q_star"], 0.0)
        for layer, gap in case["gaps"]:
            if layer <= depth:
                assert gaps[layer].item() == pytest.approx(gap, rel=1e-8)
        jet = kernel_jet(chain[:1], case["q_star"])
        assert jet.gamma.item() == pytest.approx(case["gamma"], rel=1e-10)
        ratio = gaps[depth] / smooth_gap_law(case["gamma"], depth)
        assert ratio.item() == pytest.approx(1, abs=0.08)

    @pytest.mark.parametrize(("sigma_b", "gap"), [(0.1, 0.04249), (1.0, 0.00227)])
    def test_gaps_after_400_critical_layers(self, critical, sigma_b, gap):
        sigma_w, q = critical("tanh", sigma_b)
        found = 1 - correlations([("tanh", sigma_w, sigma_b)] * 400, q, 0.0)[-1]
        assert found.item() == pytest.approx(gap, abs=6e-6)

    def test_the_asymptote_does_not_know_the_start(self):
        case = CRITICAL[2]
        chain = [("erf", case["sigma_w"], case["sigma_b"])] * 100
        gaps = 1 - correlations(chain, case["q_star"], torch.tensor([-0.9, 0.0, 0.8]))[-1]
        assert (gaps / smooth_gap_law(case["gamma"], 100)).tolist() == pytest.approx([1, 1, 1], abs=0.15)


class TestRelu:
    def test_gaps(self):
        gaps = relu_gaps(10_000)
        for layer, gap in REFERENCE["relu_merging"]:
            if layer <= 10_000:
                assert gaps[layer].item() == pytest.approx(gap, rel=1e-9)

    def test_gaps_of_a_residual_network(self):
        gaps = relu_gaps(10_000, share=0.5)
        for layer, scaled in REFERENCE["relu_residual_merging"]:
            if layer <= 10_000:
                assert gaps[layer].item() * layer**2 == pytest.approx(scaled, rel=1e-9)

    def test_against_high_precision_from_a_gap_without_digits_in_c(self):
        with mpmath.workdps(60):
            gap = exact = mpmath.mpf("1e-14")
            for _ in range(50):
                angle = mpmath.acos(1 - exact)
                exact -= (mpmath.sin(angle) - angle * mpmath.cos(angle)) / mpmath.pi
        assert relu_gaps(50, gap0=float(gap))[-1].item() == pytest.approx(float(exact), rel=1e-8)

    def test_are_the_map_of_any_sequence(self):
        c0 = torch.tensor([-1.0, -0.4, 0.0, 0.9, 1.0], dtype=torch.float64)
        plain, residual = [("relu", 1.1, 0.0)] * 4, [("relu", 2**0.5, 0.0, 0.5)] * 4
        torch.testing.assert_close(relu_gaps(4, 1.0, 1 - c0), 1 - correlations(plain, 0.7, c0), rtol=0, atol=1e-10)
        share = 0.25 / 1.25
        torch.testing.assert_close(relu_gaps(4, share, 1 - c0), 1 - correlations(residual, 0.7, c0), rtol=0, atol=1e-10)

    def test_law(self):
        assert relu_gap_law(1.0).item() == pytest.approx(44.41321980490211, rel=1e-13)
        assert relu_gap_law(1.0, share=0.5).item() == pytest.approx(177.65287921960842, rel=1e-13)
        for share in (1.0, 0.5):
            gap = relu_gaps(20_000, share)[-1]
            assert (gap / relu_gap_law(20_000, share)).item() == pytest.approx(1, abs=4e-3)

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"depth": 0}, "depth=0; pass a whole number, 1 or more"),
            ({"depth": 3, "share": 1.5}, r"share holds 1.5; pass numbers in \[0, 1\]"),
            ({"depth": 3, "gap0": -0.1}, "gap0 holds -0.1"),
        ],
    )
    def test_bad_input(self, given, words):
        with pytest.raises(ValueError, match=words):
            relu_gaps(**given)


class TestPrice:
    activation = st.sampled_from(["tanh", "erf", "sin", "gelu", "silu", "softplus", "sigmoid", "mish"])

    @settings(max_examples=60)
    @given(activation=activation, sigma_w=st.floats(0.3, 3), sigma_b=st.floats(0, 1), q=st.floats(0.1, 9))
    def test_is_at_least_two_and_three_for_odd_functions(self, activation, sigma_w, sigma_b, q):
        least = 3 if activation in ("tanh", "erf", "sin") else 2
        assert curvature_price(kernel_jet([(activation, sigma_w, sigma_b)], q)).item() >= least - 1e-9

    def test_a_quadratic_pays_two_and_a_cubic_three(self):
        cubic = [(lambda h: 0.8 * h + 0.6 * (h**3 - 3 * h) / 6**0.5, 1.0, 0.4)]
        assert curvature_price(kernel_jet(cubic, 1.0)).item() == pytest.approx(3, rel=1e-11)
        assert curvature_price(kernel_jet([(quadratic(0.2), 1.0, 0.0)], 1.0)).item() == pytest.approx(2, rel=1e-11)

    def test_known_designs_nearly_saturate_it(self):
        """TAT pays in p and DKS in χ: 0.052 % and 0.062 % above 2."""
        found = []
        for case in REFERENCE["tailored"]:
            psi = torch.tanh if case["psi"] == "tanh" else torch.nn.functional.softplus
            constants = [case[k] for k in ("input_scale", "input_shift", "output_shift", "output_scale")]
            found.append(curvature_price(kernel_jet([(Tailored(psi, *constants), 1.0, 0.0)], 1.0)).item() / 2 - 1)
        assert sorted(found) == pytest.approx([0.00052, 0.00062], abs=1e-5)

    @pytest.mark.parametrize(("sigma_b", "ratio"), [(0.05, 1.043), (0.3, 1.321), (1.0, 2.275)])
    def test_critical_tanh(self, critical, sigma_b, ratio):
        sigma_w, q = critical("tanh", sigma_b)
        jet = kernel_jet([("tanh", sigma_w, sigma_b)], q)
        assert (curvature_price(jet) / 3).item() == pytest.approx(ratio, abs=6e-4)

    @given(activation=activation, alpha=st.floats(0.05, 3), share_of_bias=st.floats(0, 0.9), q=st.floats(0.2, 5))
    def test_a_residual_link_keeps_the_price_of_its_branch(self, activation, alpha, share_of_bias, q):
        """Where the branch keeps q, the link scales γ, p and χ - 1 alike."""
        sigma_b = share_of_bias * q**0.5
        sigma_w = ((q - sigma_b**2) / kernel_jet([(activation, 1.0, 0.0)], q).q[1].item()) ** 0.5
        branch = (activation, sigma_w, sigma_b)
        plain, residual = kernel_jet([branch], q), kernel_jet([(*branch, alpha)], q)
        share = alpha**2 / (1 + alpha**2)
        torch.testing.assert_close(residual.gamma, share * plain.gamma, rtol=1e-10, atol=0)
        torch.testing.assert_close(residual.chi - 1, share * (plain.chi - 1), rtol=0, atol=1e-12)
        torch.testing.assert_close(curvature_price(residual), curvature_price(plain), rtol=1e-8, atol=0)

    def test_nothing_to_pay(self):
        jet = kernel_jet([("linear", 1.0, 0.0), ("linear", 2.0, 0.5), ("relu", 1.0, 0.0)], 1.0)
        found = curvature_price(jet).tolist()
        assert math.isnan(found[0])
        assert math.isnan(found[1])
        assert found[2] == math.inf

    @pytest.mark.parametrize("q0", [1e-16, 1e-18, 1e-20])
    def test_layers_so_nearly_linear_that_no_digit_is_left(self, q0: float):
        found = curvature_price(kernel_jet([("tanh", 1.0, 0.0)], q0)).item()
        assert math.isnan(found)


@pytest.mark.statistical
def test_networks_stay_between_the_bounds(critical):
    """The cosine of two inputs through 24 networks of width 300, within 4 standard errors of both bounds."""
    width, depth = 300, 12
    sigma_w, q = critical("tanh", 0.3)
    x = torch.zeros(2, width)
    x[0, 0], x[1, 1] = (width * q) ** 0.5, (width * q) ** 0.5
    frame = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(0)))[0]
    found = []
    for seed in range(24):
        states = torch.stack(mlp(depth, width, "tanh", sigma_w, 0.3, seed=seed).states(x @ frame)).detach().double()
        found.append(1 - torch.cosine_similarity(states[:, 0], states[:, 1], dim=1))
    mean, stderr = torch.stack(found).mean(0), torch.stack(found).std(0) / 24**0.5
    bounds = merging_bounds(kernel_jet([("tanh", sigma_w, 0.3)] * depth, q), 0.0)
    assert bool((bounds.lower - 4 * stderr - 1e-6 < mean).all())
    assert bool((mean < bounds.upper + 4 * stderr + 1e-6).all())
