import json
import math
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from labkit.networks import mlp, resnet
from labkit.theory.kernel_jets import correlations, kernel_jet

REFERENCE = json.loads((Path(__file__).parents[2] / "data/reference/kernel_laws.json").read_text())
TANH = [("tanh", 1.3, 0.2), ("tanh", 0.8, 0.5)]


def close_map(name, weight, bias, alpha, q, c):
    """The kernel of one layer in closed form, in mpmath."""
    if name == "sin":
        covariance = mpmath.exp(-q) * mpmath.sinh(q * c)
    elif name == "erf":
        covariance = 2 / mpmath.pi * mpmath.asin(2 * q * c / (1 + 2 * q))
    else:
        covariance = q * c
    branch = mpmath.mpf(weight) ** 2 * covariance + mpmath.mpf(bias) ** 2
    return branch if alpha is None else q * c + mpmath.mpf(alpha) ** 2 * branch


class TestAgainstClosedKernels:
    layer = st.tuples(
        st.sampled_from(["sin", "erf", "linear"]),
        st.floats(0.3, 2.0),
        st.floats(0.0, 1.0),
        st.sampled_from([None, 0.0, 0.3, -1.5]),
    )

    @given(layers=st.lists(layer, min_size=1, max_size=5), q0=st.floats(0.05, 4.0))
    def test_derivatives_of_the_composed_map(self, layers, q0):
        jet = kernel_jet(layers, q0)

        def composed(c, depth):
            q = mpmath.mpf(q0)
            for layer in layers[:depth]:
                q, kernel = close_map(*layer, q, mpmath.mpf(1)), close_map(*layer, q, c)
                c = kernel / q
            return c

        with mpmath.workdps(40):
            for depth in range(len(layers) + 1):
                for order, found in ((1, jet.chi_tot), (2, jet.gamma_tot)):
                    exact = float(mpmath.diff(lambda c, d=depth: composed(c, d), 1, order))
                    assert found[depth].item() == pytest.approx(exact, rel=1e-10, abs=1e-12)
            last = layers[0]
            p = close_map(*last, mpmath.mpf(q0), mpmath.mpf(0)) / close_map(*last, mpmath.mpf(q0), mpmath.mpf(1))
            assert jet.p[0].item() == pytest.approx(float(p), rel=1e-11, abs=1e-14)

    @given(layers=st.lists(layer, min_size=1, max_size=4), q0=st.floats(0.05, 4.0), c0=st.floats(-1, 1))
    def test_cosines(self, layers, q0, c0):
        found = correlations(layers, q0, c0)
        q, c = mpmath.mpf(q0), mpmath.mpf(c0)
        for depth, layer in enumerate(layers, 1):
            kernel, q = close_map(*layer, q, c), close_map(*layer, q, mpmath.mpf(1))
            c = kernel / q
            assert found[depth].item() == pytest.approx(float(c), abs=1e-11)


@pytest.mark.parametrize("name", ["tanh", "gelu", "silu", "softplus"])
def test_hermite_weights_of_one_layer(name):
    """C(c) = Σ w_k c^k with w_k from the coefficients of φ in Hermite polynomials, by a sum of its own."""
    q, sigma_w, sigma_b = 0.7, 1.4, 0.3
    z = np.linspace(-11, 11, 4001)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    phi = getattr(torch if name == "tanh" else F, name)(torch.from_numpy(math.sqrt(q) * z)).numpy()
    before, polynomial, weights = np.zeros_like(z), np.ones_like(z), []
    for k in range(60):
        weights.append(sigma_w**2 * float((density * phi * polynomial).sum()) ** 2)
        before, polynomial = polynomial, (z * polynomial - math.sqrt(k) * before) / math.sqrt(k + 1)
    weights[0] += sigma_b**2
    w = np.array(weights) / (sigma_w**2 * float((density * phi**2).sum()) + sigma_b**2)
    k = np.arange(60)
    jet = kernel_jet([(name, sigma_w, sigma_b)], q)
    assert w.sum() == pytest.approx(1, abs=1e-9)
    expected = [w[0], (k * w).sum(), (k * (k - 1) * w).sum()]
    assert [jet.p.item(), jet.chi.item(), jet.gamma.item()] == pytest.approx(expected, rel=1e-6)
    c = torch.tensor([-0.8, 0.0, 0.4, 0.95])
    by_sum = [(w * float(x) ** k).sum() for x in c]
    assert correlations([(name, sigma_w, sigma_b)], q, c)[1].tolist() == pytest.approx(by_sum, abs=1e-9)


@pytest.mark.parametrize("layers", [TANH, [("gelu", 1.5, 0.3), ("tanh", 1.2, 0.1, 0.7), ("silu", 2.0, 0.2)]])
def test_against_autograd_of_the_iterated_map(layers):
    jet = kernel_jet(layers, 0.9)

    def slope(c):
        return torch.func.grad(lambda x: correlations(layers, 0.9, x)[-1])(torch.tensor(c, dtype=torch.float64)).item()

    h = 2e-3
    s = [slope(1 - k * h) for k in range(5)]
    backward = (25 * s[0] - 48 * s[1] + 36 * s[2] - 16 * s[3] + 3 * s[4]) / (12 * h)
    assert jet.chi_tot[-1].item() == pytest.approx(s[0], rel=1e-10)
    assert jet.gamma_tot[-1].item() == pytest.approx(backward, rel=1e-7)


class TestKnownValues:
    @pytest.mark.parametrize(("sigma_b", "gamma"), [(0.05, 0.0509138590), (0.3, 0.467), (1.0, 2.25)])
    def test_critical_tanh(self, critical, sigma_b, gamma):
        sigma_w, q = critical("tanh", sigma_b)
        jet = kernel_jet([("tanh", sigma_w, sigma_b)] * 3, q)
        assert jet.q.tolist() == pytest.approx([q] * 4, rel=1e-11)
        assert jet.chi_tot.tolist() == pytest.approx([1] * 4, rel=1e-11)
        assert jet.gamma[0].item() == pytest.approx(gamma, rel=1e-9 if sigma_b == 0.05 else 2e-3)
        assert jet.gamma_tot.tolist() == pytest.approx([k * jet.gamma[0].item() for k in range(4)], rel=1e-10)

    @pytest.mark.parametrize(
        ("name", "q", "weight", "bias", "gamma"),
        [
            ("gelu", (3 + 17**0.5) / 2, 1.98305826, 0.17292239, 1.1134),
            ("silu", 14.32017362, 1.98800468, 0.55514317, 1.3024),
            ("gelu", 8.0, 1.95675728, 0.28435684, 1.68105),
        ],
    )
    def test_critical_points_of_non_monotone_activations(self, name, q, weight, bias, gamma):
        jet = kernel_jet([(name, weight**0.5, bias**0.5)], q)
        assert jet.q.tolist() == pytest.approx([q, q], rel=1e-7)
        assert jet.chi.item() == pytest.approx(1, abs=1e-7)
        assert jet.gamma.item() == pytest.approx(gamma, rel=5e-5)

    def test_away_from_criticality_the_gammas_do_not_add(self):
        jet = kernel_jet([("tanh", 1.0, 0.0, 250**-0.5)] * 250, 1.0)
        found = [jet.chi_tot[-1].item(), jet.gamma.sum().item(), jet.gamma_tot[-1].item()]
        assert found == pytest.approx([1.079, 0.347, 0.389], abs=1e-3)  # of 1,000 layers

    def test_tanh_at_one_and_zero_never_merges(self):
        """q_l ~ 1/(2l), γ_l l² → 1 and what is left beyond depth l falls as 1/l."""
        layers = [("tanh", 1.0, 0.0)] * 320
        jet = kernel_jet(layers, 1.0)
        assert bool((jet.chi > 1).all())
        assert (2 * jet.q[-1] * 320).item() == pytest.approx(1, abs=0.03)
        assert (jet.gamma[-1] * 320**2).item() == pytest.approx(1, abs=0.06)
        limit = [(2 * total[320] - total[160]).item() for total in (jet.chi_tot, jet.gamma_tot)]
        assert limit == pytest.approx([1.4121, 1.9454], abs=3e-4)
        c = correlations(layers[:200], 1.0, 0.3)
        assert (2 * c[200] - c[100]).item() == pytest.approx(0.25859, abs=5e-5)


class TestEdges:
    def test_kinks_have_infinite_gamma_and_finite_chi(self):
        chi_tot, gamma_tot = kernel_jet([("relu", 2**0.5, 0.0)] * 2, 1.0)
        assert chi_tot.tolist() == pytest.approx([1, 1, 1], rel=1e-12)
        assert gamma_tot.tolist() == [0, math.inf, math.inf]

    @pytest.mark.parametrize("phi", [torch.sign, lambda h: torch.tanh(h) + 0.01 * (h > 0.5)])
    def test_a_jump_has_infinite_chi(self, phi):
        jet = kernel_jet([(phi, 1.0, 0.0)], 1.0)
        assert [jet.chi.item(), jet.gamma.item()] == [math.inf, math.inf]

    def test_cosines_through_a_jump(self):
        found = correlations([(torch.sign, 1.0, 0.0)], 1.0, 0.3)[1].item()
        assert found == pytest.approx(2 / math.pi * math.asin(0.3), rel=1e-9)

    def test_a_layer_without_weights_forgets(self):
        jet = kernel_jet([("relu", 0.0, 0.3), ("tanh", 1.0, 0.1)], 1.0)
        assert [jet.chi[0].item(), jet.gamma[0].item(), jet.p[0].item()] == [0, 0, 1]
        assert jet.gamma_tot.tolist() == [0, 0, 0]
        assert correlations([("relu", 0.0, 0.3)], 1.0, -0.5).tolist() == [-0.5, 1.0]

    def test_alpha_zero_is_the_identity(self):
        jet = kernel_jet([("relu", 3.0, 0.7, 0.0)] * 3, 0.4)
        assert jet.q.tolist() == [0.4] * 4
        assert jet.chi_tot.tolist() == [1.0] * 4
        assert jet.gamma_tot.tolist() == [0.0] * 4

    def test_no_length_no_angle(self):
        for layers in ([("tanh", 1.0, 0.0)] * 2, [("relu", 0.0, 0.0)] * 2):
            jet = kernel_jet(layers, 0.0)
            assert jet.q.tolist() == [0, 0, 0]
            assert bool(jet.chi_tot[1:].isnan().all() and jet.gamma.isnan().all())
            assert bool(correlations(layers, 0.0, 0.5)[1:].isnan().all())

    def test_divergence_is_inf_and_not_a_number_that_is_large(self):
        jet = kernel_jet([("relu", 1e160, 0.0), ("tanh", 1.0, 0.1)], 1.0)
        assert jet.q.tolist() == [1.0, math.inf, math.inf]
        assert bool(jet.chi_tot[1:].isnan().all())
        assert bool(correlations([("relu", 1e160, 0.0)] * 2, 1.0, 0.5)[1:].isnan().all())

    def test_growth_beyond_float64_is_inf_whatever_the_activation(self):
        jet = kernel_jet([(lambda h: h**3, 1.0, 0.1)] * 8, 1.0)
        assert jet.q[-2:].tolist() == [math.inf, math.inf]
        assert bool((jet.q[:6] < 1e150).all())

    @pytest.mark.parametrize("q", [1e6, 1e30])
    def test_huge_lengths(self, q):
        """tanh is a step there: the cosine is the arcsine law's, Eφ'² falls as 1/√q."""
        jet = kernel_jet([("tanh", 1.0, 0.0)], q)
        assert jet.chi.item() == pytest.approx((q / (2 * math.pi)) ** 0.5 * 4 / 3, rel=2e-3)
        found = correlations([("tanh", 1.0, 0.0)], q, 0.3)[1].item()
        assert found == pytest.approx(2 / math.pi * math.asin(0.3), rel=2e-3)
        assert bool(correlations([("tanh", 1.0, 0.0)], 1e70, 0.3)[1].isnan())
        assert correlations([("relu", 1.0, 0.0)], 1e300, -1.0)[1].item() == pytest.approx(0, abs=1e-15)

    def test_tiny_lengths_keep_their_digits(self):
        jet = kernel_jet([("gelu", 2**0.5, 0.0)] * 2, 1e-200)
        assert jet.chi_tot.tolist() == pytest.approx([1, 1, 1], rel=1e-12)

    def test_numbers_keep_their_digits_whatever_their_type(self):
        wanted = kernel_jet([("tanh", 0.3, 0.1)], 0.7)
        as_tensors = [("tanh", torch.tensor(0.3, dtype=torch.float64), np.float64(0.1))]
        assert torch.equal(kernel_jet(as_tensors, np.array(0.7)).chi, wanted.chi)
        whole = kernel_jet([("tanh", 1, torch.tensor(2, dtype=torch.int32))], torch.tensor(3))
        assert torch.equal(whole.chi, kernel_jet([("tanh", 1.0, 2.0)], 3.0).chi)
        assert whole.q.dtype == torch.float64

    def test_a_grid_is_a_loop(self):
        sigma_w, q0 = torch.linspace(0.5, 2, 3).double(), torch.tensor([[0.2], [1.5]]).double()
        grid = kernel_jet([("tanh", sigma_w, 0.1), ("gelu", 1.2, sigma_w / 2, 0.5)], q0)
        assert grid.chi_tot.shape == (3, 2, 3)
        for i in range(2):
            for j in range(3):
                one = kernel_jet([("tanh", sigma_w[j], 0.1), ("gelu", 1.2, sigma_w[j] / 2, 0.5)], q0[i, 0])
                torch.testing.assert_close(grid.gamma_tot[:, i, j], one.gamma_tot, rtol=1e-12, atol=0)

    def test_an_empty_grid(self):
        assert kernel_jet([("tanh", 1.0, 0.0)], torch.ones(0)).chi_tot.shape == (2, 0)

    def test_derivatives_in_all_arguments(self):
        def total(q0, sigma_w, sigma_b, alpha):
            jet = kernel_jet([("tanh", sigma_w, sigma_b), ("gelu", sigma_w, sigma_b, alpha)], q0)
            return jet.chi_tot[-1], jet.gamma_tot[-1], correlations([("tanh", sigma_w, sigma_b)], q0, alpha)[-1]

        point = tuple(torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.8, 1.3, 0.2, 0.6))
        assert torch.autograd.gradcheck(total, point)


class TestBadInput:
    @pytest.mark.parametrize(
        ("layers", "q0", "words"),
        [
            ([], 1.0, "layers is empty"),
            (None, 1.0, "layers=None is no sequence of layers"),
            (["tanh"], 1.0, r"layers\[0\]='tanh' is no layer; write"),
            ([("tanh", 1.0)], 1.0, "is no layer"),
            ([("tanh", -1.0, 0.0)], 1.0, r"sigma_w of layers\[0\] holds -1; pass finite numbers ≥ 0"),
            ([("tanh", 1.0, 0.0), ("tanh", 1.0, math.nan)], 1.0, r"sigma_b of layers\[1\] holds nan; pass finite"),
            ([("tanh", 1.0, 0.0, math.inf)], 1.0, r"alpha of layers\[0\] holds inf; pass finite numbers$"),
            ([("tanh", 1.0, 0.0)], -0.1, "q0 holds -0.1; pass finite numbers ≥ 0"),
            ([("tanh", 1.0, 0.0)], torch.tensor([1.0, math.inf]), "q0 holds inf; pass finite numbers ≥ 0"),
            ([("tahn", 1.0, 0.0)], 1.0, "did you mean"),
            ([("tanh", torch.ones(2), 0.0)], torch.ones(3), r"shapes \(3,\) of q0 and \(2,\) of sigma_w of"),
        ],
    )
    def test_one_sentence(self, layers, q0, words):
        with pytest.raises(ValueError, match=words):
            kernel_jet(layers, q0)

    def test_a_cosine_beyond_one(self):
        with pytest.raises(ValueError, match=r"c0 holds 1.1; pass numbers in \[-1, 1\]"):
            correlations([("tanh", 1.0, 0.0)], 1.0, 1.1)


@pytest.mark.statistical
@pytest.mark.parametrize("alpha", [None, 0.5])
def test_networks_have_these_lengths_cosines_and_gains(alpha):
    """Means over 24 networks of width 300, off the fixed point, within 4 standard errors and 1 % of finite width."""
    depth, width, c0 = 6, 300, 0.3
    layer = ("tanh", 1.6, 0.3)
    layers = [layer if alpha is None else (*layer, alpha)] * depth
    jet, cosine = kernel_jet(layers, 2.0), correlations(layers, 2.0, c0)
    x = torch.zeros(2, width, dtype=torch.float64)
    x[0, 0], x[1, 0], x[1, 1] = 1.0, c0, (1 - c0**2) ** 0.5
    x *= (2.0 * width) ** 0.5
    x = x @ torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(1)).double())[0]
    across = x[1:] - c0 * x[:1]  # orthogonal to the first input
    found = []
    for seed in range(24):
        options = {"seed": seed, "dtype": torch.float64}
        plain = alpha is None
        net = mlp(depth, width, *layer, **options) if plain else resnet(depth, width, *layer, scale=alpha, **options)
        end, push = net(x), torch.func.jvp(net, (x[:1],), (across,))[1]
        q = (end**2).mean(1)
        cosine_out = (end[0] * end[1]).mean() / q.prod().sqrt()
        found.append(torch.stack([q[0], cosine_out, (push**2).sum() / (across**2).sum()]))
    mean, stderr = torch.stack(found).mean(0), torch.stack(found).std(0) / 24**0.5
    law = torch.stack([jet.q[-1], cosine[-1], jet.chi_tot[-1] * jet.q[-1] / jet.q[0]])
    assert bool(((mean - law).abs() < 4 * stderr + 0.01 * law.abs()).all()), (mean, stderr, law)
