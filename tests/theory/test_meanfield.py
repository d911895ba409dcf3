"""The mean field against reference numbers, closed forms, adaptive quadrature, finite differences and wide networks."""

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import brentq
from torch import nn

from labkit.networks import mlp
from labkit.theory import meanfield
from labkit.theory.meanfield import MeanField, Phase

F64 = torch.float64
REFERENCE = Path(__file__).parents[2] / "data/reference"
RECORDS = json.loads((REFERENCE / "meanfield.json").read_text())["records"]
LINES = json.loads((REFERENCE / "critical_line.json").read_text())["lines"]
KEYS = {"q_star": "q_star", "V_slope": "q_slope", "chi_1": "chi_1", "c_star": "c_star", "xi_q": "xi_q", "xi_c": "xi_c"}


@pytest.mark.parametrize("activation", sorted({record["activation"] for record in RECORDS}))
class TestReference:
    def test_every_number(self, activation):
        records = [record for record in RECORDS if record["activation"] == activation]
        mf = MeanField(activation, *([record[name] for record in records] for name in ("sigma_w", "sigma_b")))
        for key, name in KEYS.items():
            for record, value in zip(records, getattr(mf, name).tolist(), strict=True):
                if record.get(key) is not None:
                    near = abs(record["chi_1"] - 1) < 1e-2 and name in ("c_star", "xi_c")
                    assert value == pytest.approx(record[key], rel=1e-7 if near else 1e-9, abs=1e-14), (name, record)

    def test_every_fixed_point(self, activation):
        for record in (record for record in RECORDS if record["activation"] == activation):
            points = MeanField(activation, record["sigma_w"], record["sigma_b"]).fixed_points
            exact = record["q_fixed_points"]
            assert points.q.tolist() == pytest.approx([point["q"] for point in exact], rel=1e-9)
            assert points.slope.tolist() == pytest.approx([point["V_slope"] for point in exact], rel=1e-9)
            assert points.stable.tolist() == [point["stable"] for point in exact]

    def test_where_nothing_settles(self, activation):
        for record in (record for record in RECORDS if record["activation"] == activation):
            mf = MeanField(activation, record["sigma_w"], record["sigma_b"])
            if record["q_star"] is None:
                assert mf.q_star == math.inf
                assert mf.phase == Phase.UNBOUNDED
            elif record["q_star"] == 0:
                assert mf.c_star.isnan() if record["c_star"] is None else mf.c_star == 1


class TestCriticalLine:
    @pytest.mark.parametrize("activation", LINES)
    def test_reference(self, activation):
        bias = [point["sigma_b"] for point in LINES[activation]]
        sigma_w = meanfield.critical_line(activation, bias)
        assert sigma_w.tolist() == pytest.approx([point["sigma_w"] for point in LINES[activation]], rel=1e-9)
        mf = MeanField(activation, sigma_w, bias)
        assert mf.q_star.tolist() == pytest.approx([point["q_star"] for point in LINES[activation]], rel=1e-9)
        assert (mf.phase == Phase.CRITICAL).all()
        assert mf.xi_c[1:].isinf().all()
        assert mf.algebraic[1:].all()
        assert mf.xi_q[1:].tolist() == pytest.approx([point["xi_q"] for point in LINES[activation][1:]], rel=1e-9)

    def test_anchors_of_the_literature(self):
        found = meanfield.critical_line("tanh", torch.tensor([0.05, 2.01e-5], dtype=F64).sqrt()) ** 2
        assert found.tolist() == pytest.approx([1.760954639607, 1.049995628499], rel=1e-11)
        assert float(MeanField("tanh", found[0].sqrt(), 0.05**0.5).xi_q) == pytest.approx(1.5211, abs=5e-5)
        assert float(meanfield.critical_line("erf", 0.0)) == pytest.approx(math.sqrt(math.pi) / 2, rel=1e-11)

    def test_half_stable_ends(self):
        gelu, silu = meanfield.half_stable_ends("gelu"), meanfield.half_stable_ends("silu")
        assert gelu.q.tolist() == pytest.approx([(3 + math.sqrt(17)) / 2], rel=1e-9)
        assert [float(v**2) for v in (gelu.sigma_b, gelu.sigma_w)] == pytest.approx([0.17292239, 1.98305826], abs=1e-8)
        assert float(silu.q) == pytest.approx(14.32017362, abs=1e-7)
        assert [float(v**2) for v in (silu.sigma_b, silu.sigma_w)] == pytest.approx([0.55514317, 1.98800468], abs=1e-8)
        assert len(meanfield.half_stable_ends("tanh").q) == 0

    def test_gelu_beyond_its_end(self):
        point = meanfield.critical_points("gelu", 8.0)
        assert float(point.slope) == pytest.approx(0.98332, abs=5e-6)
        assert float(meanfield.critical_line("gelu", point.sigma_b)) == pytest.approx(float(point.sigma_w), rel=1e-10)
        mf = MeanField("gelu", point.sigma_w, point.sigma_b)
        assert float(mf.q_star) == pytest.approx(8.0, rel=1e-9)
        assert float(mf.gamma) == pytest.approx(1.68105, abs=5e-6)

    def test_relu_has_one_point(self):
        found = meanfield.critical_line("relu", [0.0, 0.1])
        assert float(found[0]) == pytest.approx(math.sqrt(2), rel=1e-12)
        assert found[1].isnan()


class TestLimits:
    def test_gelu_has_a_basin(self):
        points = MeanField("gelu", 1.5, 0.05).fixed_points
        assert points.q.tolist() == pytest.approx([0.0057960, 1.3804], rel=1e-4)
        assert points.stable.tolist() == [True, False]
        assert float(points.basin_edge[0]) == float(points.q[1])
        mf = MeanField("gelu", 1.5, 0.05)
        below, above = mf.q_trajectory(points.q[1] * torch.tensor([0.99, 1.01], dtype=F64), 300)[-1]
        assert float(below) == pytest.approx(0.0057960, rel=1e-4)
        assert above > 1e6

    def test_relu_at_its_point_keeps_every_length(self):
        mf = MeanField("relu", math.sqrt(2), 0.0)
        assert float(mf.q_star) == 1
        assert mf.phase == Phase.CRITICAL
        assert float(mf.c_star) == 1
        assert mf.xi_c.isinf()
        assert mf.gamma.isinf()
        assert float(mf.iota) == pytest.approx(1)
        assert float(mf.c_map(0.0)) == pytest.approx(1 / math.pi, rel=1e-12)

    def test_relu_has_no_chaos(self):
        mf = MeanField("relu", 2.5, [0.0, 0.3])
        assert mf.q_star.isinf().all()
        assert mf.chi_1.tolist() == pytest.approx([3.125, 3.125])
        assert (mf.c_star == 1).all()

    def test_a_critical_linear_network_keeps_every_correlation(self):
        mf = MeanField("linear", 1.0, 0.0)
        assert mf.c_star.isnan()
        assert not mf.algebraic

    def test_vanishing_lengths(self):
        mf = MeanField("tanh", [0.9, 1.0, 1 + 1e-14, 0.0], 0.0)
        assert (mf.q_star == 0).all()
        assert mf.c_star.isnan().all()
        assert mf.phase.tolist() == [-1, 0, 0, -1]

    def test_tiny_and_huge(self):
        mf = MeanField("tanh", [1 + 1e-6, 1e4], [0.0, 1.0])
        assert float(mf.q_star[0]) == pytest.approx(1e-6, rel=1e-4)
        assert float(mf.q_star[1]) == pytest.approx(1e8 * (1 - math.sqrt(2 / math.pi) / 1e4), rel=1e-6)

    def test_a_length_that_cannot_be_integrated_is_nan(self):
        assert MeanField("sin", 300.0, 0.1).q_star.isnan()

    def test_a_growing_activation_diverges(self):
        assert MeanField(torch.exp, 1.0, 0.0).q_star == math.inf

    def test_empty_and_0d_and_integers(self):
        assert MeanField("tanh", torch.ones(0, 3), 1.0).c_star.shape == (0, 3)
        assert MeanField("tanh", 2, 1).q_star.shape == ()
        torch.testing.assert_close(MeanField("tanh", 2, 1).q_star, MeanField("tanh", [2.0], 1.0).q_star[0])

    def test_a_grid_equals_its_cells(self):
        sigma_w, sigma_b = torch.tensor([[0.5], [1.3], [2.5]], dtype=F64), torch.tensor([0.0, 0.3], dtype=F64)
        mf = MeanField("hardtanh", sigma_w, sigma_b)
        for i, j in ((2, 1), (1, 0), (0, 1)):
            cell = MeanField("hardtanh", sigma_w[i], sigma_b[j])
            for name in ("q_star", "c_star", "xi_c", "chi_1"):
                torch.testing.assert_close(getattr(mf, name)[i, j], getattr(cell, name)[0], rtol=1e-11, atol=1e-13)


@settings(max_examples=12)
@given(sigma_w=st.floats(1.2, 4), sigma_b=st.floats(0.05, 1))
def test_against_adaptive_quadrature(sigma_w, sigma_b):
    def density(z):
        return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    def length(q):
        return sigma_w**2 * quad(lambda z: math.tanh(math.sqrt(q) * z) ** 2 * density(z), -10, 10)[0] + sigma_b**2

    q = brentq(lambda q: length(q) - q, 1e-6, 2 * (sigma_w**2 + sigma_b**2), xtol=1e-13)
    mf = MeanField("tanh", sigma_w, sigma_b)
    assert float(mf.q_star) == pytest.approx(q, rel=1e-7)
    assert float(mf.c_map(mf.c_star)) == pytest.approx(float(mf.c_star), abs=1e-12)


class TestDerivatives:
    @pytest.mark.parametrize("activation", ["tanh", "gelu", "hardtanh"])
    @pytest.mark.parametrize("name", ["q_star", "chi_1", "c_star", "xi_c"])
    @pytest.mark.parametrize("sigma_w", [1.2, 2.2])
    def test_against_finite_differences(self, activation, name, sigma_w):
        def value(w, b):
            return getattr(MeanField(activation, w, b), name)

        at = torch.tensor(sigma_w, dtype=F64), torch.tensor(0.4, dtype=F64)
        if not value(*at).isfinite():
            assert activation == "gelu"
            return
        step = 1e-5
        for index, slope in enumerate(torch.func.grad(value, (0, 1))(*at)):
            up, down = list(at), list(at)
            up[index], down[index] = at[index] + step, at[index] - step
            assert float(slope) == pytest.approx(float(value(*up) - value(*down)) / (2 * step), rel=1e-5, abs=1e-8)

    def test_backward_is_the_same(self):
        sigma_w = torch.tensor([1.2, 2.5], dtype=F64, requires_grad=True)
        MeanField("tanh", sigma_w, 0.3).c_star.sum().backward()
        alone = torch.func.grad(lambda w: MeanField("tanh", w, 0.3).c_star)(torch.tensor(2.5, dtype=F64))
        torch.testing.assert_close(sigma_w.grad, torch.stack([torch.zeros_like(alone), alone]))

    def test_parameters_of_the_activation(self):
        module = nn.PReLU(dtype=F64)
        (slope,) = torch.autograd.grad(MeanField(module, 1.0, 0.3).q_star, module.weight)
        a = 0.25  # q* = σ_b² / (1 - σ_w² (1 + a²)/2)
        assert float(slope) == pytest.approx(0.09 * a / (1 - (1 + a * a) / 2) ** 2, rel=1e-10)


class TestFiniteDepth:
    def test_trajectories_reach_their_fixed_points(self):
        mf = MeanField("tanh", 2.5, 0.3)
        assert mf.q_trajectory(0.1, 60)[-1] == pytest.approx(float(mf.q_star), rel=1e-12)
        assert mf.c_trajectory(0.6, 150)[-1] == pytest.approx(float(mf.c_star), rel=1e-9)
        assert mf.c_trajectory([0.6, -0.2], 3, q0=0.1).shape == (4, 2)

    def test_relu_forgets_by_a_power(self):
        gap = 1 - MeanField("relu", math.sqrt(2), 0.0).c_trajectory(0.0, 400)[-1]
        assert float(gap) * 400**2 == pytest.approx(9 * math.pi**2 / 2, rel=0.07)

    def test_tanh_forgets_by_a_power(self):
        gaps = [
            1 - MeanField("tanh", meanfield.critical_line("tanh", b), b).c_trajectory(0.0, 400)[-1] for b in (0.3, 1)
        ]
        assert [float(gap) for gap in gaps] == pytest.approx([0.01096, 0.00227], abs=5e-6)

    def test_circle(self):
        mf = MeanField("tanh", [2.5, 4.0], 0.3)
        circle = mf.circle(60)
        assert circle.curvature[-1].tolist() == pytest.approx([3.8677, 1.7214], abs=5e-5)
        torch.testing.assert_close(circle.speed[3], mf.q_star * mf.chi_1**3)
        assert MeanField("relu", 1.0, 0.3).circle(2).curvature[1].isinf()

    def test_gradients_grow_by_chi_1(self):
        for case in json.loads((REFERENCE / "kernel_laws.json").read_text())["gradient"]:
            slope = float(MeanField("tanh", case["sigma_w"], case["sigma_b"]).gradient_slope)
            assert slope == pytest.approx(case["log_chi_1"], rel=1e-9)
            assert abs(slope - case["mc_slope"]) < 3 * case["mc_stderr"]

    def test_dropout_has_no_critical_point(self):
        found = [MeanField("tanh", 1.760954639607**0.5, 0.05**0.5, keep=keep) for keep in (0.99, 0.95, 0.9)]
        assert [float(mf.xi_c) for mf in found] == pytest.approx([14.48, 6.775, 4.667], abs=5e-3)
        assert float(found[2].c_star) == pytest.approx(0.3564, abs=5e-5)
        assert float(found[2].gradient_slope) == pytest.approx(math.log(float(found[2].chi_1) / 0.9))

    def test_moments_and_isometry(self):
        mf = MeanField(lambda u: torch.erf(math.sqrt(math.pi) * u / 2), 1.5, 0.2)
        for k in (1, 2):
            assert float(mf.mu(k)) == pytest.approx((1 + math.pi * k * float(mf.q_star)) ** -0.5, rel=1e-12)
        critical = MeanField("tanh", 1.760954639607**0.5, 0.05**0.5)
        assert float(critical.iota) == pytest.approx(0.342256, abs=1e-6)
        gammas = [MeanField("tanh", meanfield.critical_line("tanh", b), b).gamma for b in (0.05, 0.3, 1.0)]
        assert [float(gamma) for gamma in gammas] == pytest.approx([0.0509, 0.467, 2.25], rel=3e-3)


@pytest.mark.statistical
@pytest.mark.parametrize("activation", ["tanh", "hardtanh", "relu"])
def test_wide_networks(activation):
    """Lengths and correlations of 16 networks of width 1000 after 6 layers: bias of order 1/n, 4 standard errors."""
    width, sigma_w, sigma_b = 1000, 1.4, 0.3
    mf = MeanField(activation, sigma_w, sigma_b)
    q0, c0, depth = 1.5, 0.4, 6
    draw = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(width, 2, generator=draw, dtype=F64)).Q.mT
    pair = math.sqrt(q0 * width) * torch.stack([basis[0], c0 * basis[0] + math.sqrt(1 - c0**2) * basis[1]])
    lengths, cosines = [], []
    for seed in range(16):
        with torch.no_grad():
            end = mlp(depth, width, activation, sigma_w, sigma_b, seed=seed, dtype=F64)(pair)
        q = end.square().mean(1)
        lengths.append(q.mean())
        cosines.append((end[0] * end[1]).mean() / q.prod().sqrt())
    for samples, exact in ((lengths, mf.q_trajectory(q0, depth)[-1]), (cosines, mf.c_trajectory(c0, depth, q0)[-1])):
        values = torch.stack(samples)
        assert (values.mean() - exact).abs() < 4 * values.std() / 4 + 5 / width


@pytest.mark.parametrize("excess", [1e-2, 1e-3, 1e-4])
def test_kinked_networks_just_beyond_criticality_settle_below_one(excess):
    """Where a truncated series has slope below 1: a root of C(c) = c, found by bracketing 1 - c."""
    mf = MeanField("hardtanh", meanfield.critical_line("hardtanh", 0.1) * (1 + excess), 0.1)
    gap = brentq(lambda d: float(mf.c_map(1 - d)) - (1 - d), excess**2, 1000 * excess**2, xtol=1e-16)
    assert float(mf.c_star) == pytest.approx(1 - gap, abs=1e-6 * gap + 1e-10)
    assert 0 < float(mf.c_slope) < 1


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "error", "sentence"),
        [
            (("tanh", -1.0, 0.1), ValueError, "sigma_w holds -1; pass finite numbers ≥ 0"),
            (("tanh", 1.0, [0.1, math.nan]), ValueError, "sigma_b holds nan"),
            (("tanh", math.inf, 0.1), ValueError, "sigma_w holds inf"),
            (
                ("tanh", torch.ones(3), torch.ones(2)),
                ValueError,
                r"shapes \(3,\) of sigma_w and \(2,\) of sigma_b do not broadcast",
            ),
            (("tanh", "wide", 0.1), TypeError, "sigma_w='wide'; pass a number or a tensor of numbers"),
            (("tanh", 1j * torch.ones(1), 0.1), TypeError, "sigma_w holds torch.complex64; pass real numbers"),
            (("tahn", 1.0, 0.1), ValueError, "did you mean tanh"),
            ((lambda h: h - h.mean(), 1.0, 0.1), ValueError, "must map each entry alone"),
        ],
    )
    def test_networks(self, arguments, error, sentence):
        with pytest.raises(error, match=sentence):
            MeanField(*arguments)

    def test_calls(self):
        mf = MeanField("tanh", 1.0, 0.1)
        with pytest.raises(ValueError, match="keep=0 is no probability"):
            MeanField("tanh", 1.0, 0.1, keep=0)
        with pytest.raises(ValueError, match="depth=0; pass a whole number, 1 or more, of layers"):
            mf.q_trajectory(1.0, 0)
        with pytest.raises(ValueError, match=r"depth=2\.5"):
            mf.c_trajectory(0.5, 2.5)
        with pytest.raises(ValueError, match=r"c holds 1.5; pass numbers in \[-1, 1\]"):
            mf.c_map(1.5)
        with pytest.raises(ValueError, match="q holds -1; pass numbers ≥ 0"):
            mf.q_map(-1.0)
        with pytest.raises(ValueError, match="k=0 is no order"):
            mf.mu(0)
        with pytest.raises(ValueError, match=r"keep=0\.9, but a circle under random masks"):
            MeanField("tanh", 1.0, 0.1, keep=0.9).circle(3)

    def test_lines(self):
        with pytest.raises(ValueError, match=r"'relu' has no critical sigma_w .* pass sigma_b = 0"):
            meanfield.critical_line("relu", 0.1)
        with pytest.raises(ValueError, match=r"'gelu' has no critical sigma_w .* begins near sigma_b = 0.4158"):
            meanfield.critical_line("gelu", 0.1)
        with pytest.raises(ValueError, match="sigma_b holds -1"):
            meanfield.critical_line("tanh", -1.0)
        with pytest.raises(ValueError, match="q holds 0; pass lengths > 0"):
            meanfield.critical_points("tanh", 0.0)

    def test_an_activation_without_second_derivative(self):
        class Once(torch.autograd.Function):
            generate_vmap_rule = True

            @staticmethod
            def forward(u):
                return torch.tanh(u)

            @staticmethod
            def setup_context(ctx, inputs, output):
                ctx.save_for_backward(output)

            @staticmethod
            @torch.autograd.function.once_differentiable
            def backward(ctx, grad):
                (value,) = ctx.saved_tensors
                return grad * (1 - value * value)

        mf = MeanField(Once.apply, 1.3, 0.3)
        torch.testing.assert_close(mf.q_star, MeanField("tanh", 1.3, 0.3).q_star)
        with pytest.raises(ValueError, match="activation has no second derivative, as chi_2 and gamma need"):
            mf.chi_2  # noqa: B018 (asked for its error)


class TestAttacks:
    @pytest.mark.parametrize("q", [1e4, 1e5, 1e20, 1e300])
    def test_a_sine_too_fast_to_integrate_has_no_length(self, q: float) -> None:
        assert MeanField("sin", 1.5, 0.1).q_map(q).isnan()

    def test_a_fast_tailored_sine_is_right_or_nan(self) -> None:
        q = torch.logspace(-2, 2, 33, dtype=torch.float64)
        found = MeanField(lambda h: torch.sin(40 * h), 1.5, 0.1).q_map(q)
        expected = 1.125 * (1 - torch.exp(-3200 * q)) + 0.01
        right = (found - expected).abs() < 1e-9
        assert (right | found.isnan()).all()
        assert right[q < 1].all()

    @pytest.mark.parametrize("activation", ["relu", "gelu"])
    def test_lengths_beyond_all_numbers_are_inf(self, activation: str) -> None:
        assert MeanField(activation, 1e100, 0.1).q_trajectory(1.0, 4)[-2:].isinf().all()

    def test_scales_of_a_nearly_dead_network(self) -> None:
        found = MeanField("gelu", 1e-8, 1e-8)  # every slope is σ_w²/4
        for xi in (found.xi_q, found.xi_c, found.xi_grad):
            assert xi.item() == pytest.approx(-1 / math.log(1e-16 / 4), rel=1e-9)
        assert found.c_slope.item() == pytest.approx(1e-16 / 4, rel=1e-9)

    def test_a_step_has_no_slope(self) -> None:
        found = MeanField(torch.sign, 1.0, 0.0)
        assert found.c_map(0.5).item() == pytest.approx(1 / 3)
        for name in ("chi_1", "c_star", "xi_c", "phase"):
            with pytest.raises(ValueError, match="activation jumps, so that chi_1 is infinite"):
                getattr(found, name)

    def test_a_network_of_unknown_length_has_no_phase(self) -> None:
        found = MeanField("sin", 1.0, [0.3, 1e6])
        assert found.phase.tolist() == [Phase.ORDERED, Phase.UNKNOWN]
        assert found.c_trajectory(0.5, 2)[1:].isnan().tolist() == [[False, True]] * 2

    def test_a_ripple_that_the_nodes_do_not_see_has_no_second_derivative(self) -> None:
        ripple = 20 * math.pi  # whose zeros are the nodes at q = 1
        found = MeanField(lambda h: h / 2 + 1e-5 * torch.sin(ripple * h), 1.0, 0.75**0.5)
        assert found.q_star.item() == pytest.approx(1, abs=1e-9)
        assert found.chi_2.isnan() or found.chi_2.item() == pytest.approx(1e-10 * ripple**4 / 2, rel=1e-6)

    def test_a_network_that_forgets_all_has_no_correlation(self) -> None:
        found = MeanField("relu", [0.0, 1.0], 0.0)
        assert found.c_star.isnan().tolist() == found.xi_c.isnan().tolist() == [True, False]
        assert found.algebraic.tolist() == [False, True]

    @pytest.mark.parametrize("activation", ["relu", "tanh", "sin"])
    def test_settled_paths_are_those_of_step_after_step(self, activation: str) -> None:
        mf = MeanField(activation, [0.5, 1.2], 0.3)
        lengths, cosines = mf.q_trajectory(2.0, 300), mf.c_trajectory(-0.4, 300, q0=2.0)
        for before, after in itertools.pairwise(lengths):
            assert (mf.q_map(before) == after).all()
        both = [mf.c_trajectory(cosines[depth], 1, q0=lengths[depth])[1] for depth in range(300)]
        assert (torch.stack(both) == cosines[1:]).all()

    def test_a_path_that_starts_settled_has_derivatives(self) -> None:
        def end(sigma_w: torch.Tensor) -> torch.Tensor:
            return MeanField("linear", sigma_w, 0.6).q_trajectory(1.0, 4)[-1]

        at = torch.tensor(0.8, dtype=torch.float64)
        slope = 1.6 * sum(0.64**k for k in range(4))  # dq'/dσ_w = 2σ_w q + σ_w² dq/dσ_w
        assert torch.func.grad(end)(at).item() == pytest.approx(slope, rel=1e-9)
